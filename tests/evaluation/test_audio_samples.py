"""Audio samples: written, read back, and refused in one line where they are damaged."""

import json

import numpy as np
import pytest
import soundfile
import torch
from recording_fixtures import write_plain_tree
from sample_files import FACTS, FRONT_END, waveforms, write
from torch import nn

from sepsearch.audio.spectrogram import clip_spectra, subset_rows
from sepsearch.evaluation.audio_samples import PANELS, example_mixture, read_sample, read_samples
from sepsearch.utils.errors import UserError


def test_a_sample_is_read_back_as_it_was_written(tmp_path):
    write(tmp_path / "samples" / "vn")
    samples = read_samples(tmp_path)
    assert list(samples) == ["vn"]
    sample = samples["vn"]
    assert sample.facts == {**FACTS, "oracle_si_sdr_db": None}
    assert (sample.front_end, sample.constant) == (FRONT_END, 2.0)
    mixture, target, _ = waveforms()
    rows = subset_rows(FRONT_END, clip_spectra(FRONT_END, np.stack([mixture, target]), 0), (1, 2), 2.0)
    assert np.array_equal(sample.spectrograms["mixture"], rows[0].float())
    assert np.array_equal(sample.spectrograms["target"], rows[1].float())
    assert np.allclose(sample.spectrograms["prediction"], rows[0].float() / 2, atol=2e-3)


def test_the_mask_is_what_is_predicted_over_the_mixture_and_never_above_one(tmp_path):
    class Double(nn.Module):
        def forward(self, rows):
            return torch.where(torch.arange(128) < 64, rows / 2, rows * 2)

    sample = read_sample(write(tmp_path / "vn", network=Double()))
    mask = sample.spectrograms["mask"]
    assert (mask[:, 64:] == 1).all()
    assert np.allclose(mask[:, :64], 0.5)


def test_the_three_voices_are_scaled_by_one_factor(tmp_path):
    sample = read_sample(write(tmp_path / "vn"))
    levels = {}
    for name, path in sample.audio.items():
        audio, rate = soundfile.read(path)
        assert rate == 48_000
        levels[name] = np.sqrt(np.mean(audio**2))
    mixture, target, estimate = (np.sqrt(np.mean(voice**2)) for voice in waveforms())
    assert levels["target"] / levels["mixture"] == pytest.approx(target / mixture, rel=0.05)
    assert levels["estimate"] / levels["mixture"] == pytest.approx(estimate / mixture, rel=0.05)


def test_a_silent_clip_is_written_too(tmp_path):
    silence = np.zeros(FRONT_END.clip_samples, np.float32)
    sample = read_sample(write(tmp_path / "vn", mixture=silence, target=silence, estimate=silence))
    assert all((sample.spectrograms[name] == 0).all() for name in PANELS)
    assert max(abs(soundfile.read(sample.audio["mixture"])[0])) == 0


def test_a_clip_that_is_shorter_than_its_front_ends_is_written_too(tmp_path):
    short = tuple(voice[: FRONT_END.clip_samples * 2 // 3] for voice in waveforms())
    sample = read_sample(write(tmp_path / "vn", mixture=short[0], target=short[1], estimate=short[2]))
    assert sample.spectrograms["mixture"].shape == (128, 128)
    assert (sample.spectrograms["mixture"][100:] == 0).all()


def test_writing_again_replaces_what_is_there(tmp_path):
    write(tmp_path / "vn")
    write(tmp_path / "vn", facts={**FACTS, "title": "Gigue"})
    assert read_sample(tmp_path / "vn").facts["title"] == "Gigue"
    assert [path.name for path in tmp_path.iterdir()] == ["vn"]


def test_a_sample_that_cannot_be_written_leaves_nothing_and_the_older_one_stays(tmp_path):
    write(tmp_path / "vn")
    with pytest.raises(TypeError):
        write(tmp_path / "vn", facts={**FACTS, "title": object()})
    assert read_sample(tmp_path / "vn").facts["title"] == "Minuet"
    assert [path.name for path in tmp_path.iterdir()] == ["vn"]


def test_a_run_without_samples_has_none(tmp_path):
    assert read_samples(tmp_path) == {}


def damage_card(folder, **changes):
    card = json.loads((folder / "sample.json").read_text())
    card = {key: value for key, value in (card | changes).items() if value != "absent"}
    (folder / "sample.json").write_text(json.dumps(card))


def test_a_sample_of_an_earlier_version_does_not_say_how_long_its_target_sounds(tmp_path):
    folder = write(tmp_path / "samples" / "vn")
    damage_card(folder, sounding_share="absent")
    assert read_samples(tmp_path)["vn"].facts["sounding_share"] is None


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: (f / "estimate.mp3").write_bytes((f / "estimate.mp3").read_bytes()[:-9]), "estimate.mp3: damaged"),
        (lambda f: (f / "mixture.mp3").unlink(), "mixture.mp3: cannot be read"),
        (lambda f: (f / "sample.json").write_text("[1"), "invalid JSON"),
        (lambda f: (f / "sample.json").write_text("[1]"), "input should be an object, found [1]"),
        (lambda f: (f / "sample.json").unlink(), "sample.json: cannot be read"),
        (lambda f: damage_card(f, title="absent"), "title: missing"),
        (lambda f: damage_card(f, title=7), "title: input should be a valid string, found 7"),
        (lambda f: damage_card(f, players="vn"), "players: input should be a valid array, found 'vn'"),
        (lambda f: damage_card(f, si_sdr_db="4"), "si_sdr_db: input should be a valid number, found '4'"),
        (lambda f: damage_card(f, instrument="vc"), "instrument is 'vc', expected vn"),
        (lambda f: damage_card(f, constant=-1), "constant: input should be greater than 0, found -1"),
        (
            lambda f: damage_card(f, front_end={"axis": "bark"}),
            "front_end: axis: input should be 'mel', 'log' or 'linear', found 'bark'",
        ),
        (lambda f: damage_card(f, front_end=[]), "sample.json"),
        (lambda f: damage_card(f, sha256={}), "damaged"),
    ],
)
def test_damage_is_one_line_that_names_the_file(tmp_path, harm, said):
    folder = write(tmp_path / "samples" / "vn")
    harm(folder)
    with pytest.raises(UserError) as caught:
        read_samples(tmp_path)
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mixture_to_try_a_model_on_is_its_test_clip_else_one_of_the_recordings_else_none(tmp_path):
    write_plain_tree(tmp_path / "data" / "mine", {"a": ["vn", "vc"], "b": ["vn", "mix"]}, 0.3)
    write(tmp_path / "samples" / "vn")
    assert example_mixture(tmp_path, "vn", str(tmp_path / "data")) == tmp_path / "samples" / "vn" / "mixture.mp3"
    assert example_mixture(tmp_path, "vc", str(tmp_path / "data")) == tmp_path / "data" / "mine" / "b" / "mix.wav"
    assert example_mixture(tmp_path, "vc", str(tmp_path / "nowhere")) is None
