"""Mixture to voice: masks, seams, shapes, the command line."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from sepsearch.errors import UserError
from sepsearch.metrics import si_sdr
from sepsearch.model_folder import ModelCard, save_model
from sepsearch.network import ReportConfig, make_network
from sepsearch.separate import apply_mask, main, separate_waveform, whole_mask
from sepsearch.spectrogram import PRESETS, FrontEnd, compress, expand

FRONT_END = FrontEnd(clip_seconds=1.0)


def noise(seconds: float, channels: int | None = None) -> np.ndarray:
    rng = np.random.default_rng(3)
    shape = (int(seconds * 48_000),) if channels is None else (channels, int(seconds * 48_000))
    return (0.1 * rng.standard_normal(shape)).astype(np.float32)


class Low(nn.Module):
    """Keeps the lower half of the bands and silences the rest."""

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        return torch.cat([mixture[..., :64], 0 * mixture[..., 64:]], dim=-1)


@pytest.mark.parametrize("seconds", [0.01, 0.4, 1.0, 2.37])
def test_a_network_that_passes_everything_gives_the_mixture_back(seconds):
    mixture = noise(seconds)
    voice = separate_waveform(nn.Identity(), FRONT_END, 10.0, mixture)
    assert voice.shape == mixture.shape
    np.testing.assert_allclose(voice, mixture, atol=1e-4)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_mask_keeps_the_bands_it_lets_through(preset):
    front_end = PRESETS[preset]
    time = np.arange(48_000 * 3) / 48_000
    low = 0.1 * np.sin(2 * np.pi * 400 * time).astype(np.float32)
    high = 0.1 * np.sin(2 * np.pi * (20_000 if preset == "report" else 9_000) * time).astype(np.float32)
    voice = separate_waveform(Low(), front_end, 100.0, low + high)
    assert si_sdr(voice, low) > 25


def test_clips_follow_one_another_without_a_seam():
    class Alternating(nn.Module):
        """Another loudness in every clip, the worst that can happen at a seam."""

        calls = 0

        def forward(self, mixture: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return compress(expand(mixture, 10.0) * (0.2 if self.calls % 2 else 0.9), 10.0)

    mask = whole_mask(Alternating(), FRONT_END, 10.0, noise(3.0))
    assert float((mask[1:] - mask[:-1]).abs().max()) < 0.03


def test_silence_stays_silence():
    voice = separate_waveform(make_network(ReportConfig()), FRONT_END, 10.0, np.zeros(60_000, dtype=np.float32))
    assert np.abs(voice).max() == 0


def test_stereo_keeps_its_channels():
    mixture = noise(1.2, channels=2)
    np.testing.assert_allclose(separate_waveform(nn.Identity(), FRONT_END, 10.0, mixture), mixture, atol=1e-4)


def test_an_empty_mask_leaves_nothing():
    assert np.abs(apply_mask(FRONT_END, torch.zeros(128, 128), noise(1.0))).max() == 0


@pytest.fixture
def model(tmp_path) -> Path:
    torch.manual_seed(0)
    config = ReportConfig(filters=4, head="mask")
    save_model(tmp_path / "vn", make_network(config), ModelCard("vn", config, FRONT_END, 10.0))
    return tmp_path / "vn"


def test_the_command_writes_a_file_of_the_mixtures_length_rate_and_channels(model, tmp_path, capsys):
    soundfile.write(tmp_path / "mix.wav", noise(1.3, 2).T, 44_100)
    main([str(tmp_path / "mix.wav"), "--instrument", "vn", "-o", str(tmp_path / "vn.wav"), "--model", str(model)])
    info = soundfile.info(tmp_path / "vn.wav")
    assert (info.frames, info.samplerate, info.channels) == (int(1.3 * 48_000), 44_100, 2)
    assert "violin" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"--instrument": "kazoo"}, "--instrument 'kazoo': unknown, expected one of vn"),
        ({"--instrument": "vc"}, "a model of vn, expected one of vc"),
        ({"-o": "mix.wav"}, "exists already"),
        ({"-o": "vn.mp3"}, r"ends in .wav or .flac"),
        ({"mixture": "none.wav"}, "cannot be read as audio"),
        ({"mixture": "empty.wav"}, "holds no samples"),
        ({"--model": "nowhere"}, "no model there"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(changes, expected, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("mix.wav", noise(0.5), 48_000)
    soundfile.write("empty.wav", np.zeros(0), 48_000)
    options = {"mixture": "mix.wav", "--instrument": "vn", "-o": "vn.wav", "--model": "vn", **changes}
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError, match=expected) as caught:
        main([options.pop("mixture"), *(word for option in options.items() for word in option)])
    assert "\n" not in str(caught.value)
    assert set(tmp_path.iterdir()) == before
