"""Audio files and folders of recordings, damaged or made to hurt."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hostile import corpus, few, fuzz_audio, fuzz_folders, fuzz_target, refusal, verdicts
from hypothesis import given
from hypothesis import strategies as st

from sepsearch.audio.reading import RATE, read_audio, read_header
from sepsearch.data.recordings import read_folder
from sepsearch.utils.errors import UserError

SOUNDS = fuzz_audio.make_sounds()


@corpus("audio")
def test_a_hostile_audio_file_is_refused_in_one_line(path):
    assert path.name in refusal(lambda: read_audio(path))


@corpus("audio_harmless")
def test_a_file_with_a_harmless_contradiction_is_read_as_its_header_says(path, tmp_path):
    assert len(read_audio(path)) > 0
    if path.suffix != ".flac":
        with fuzz_target(fuzz_audio, tmp_path) as target:
            assert target.check({path.name: path.read_bytes()})


def test_a_file_of_nothing_but_chunks_is_refused(tmp_path):
    head, rest = SOUNDS["0.wav"][:12], SOUNDS["0.wav"][12:]
    (tmp_path / "vn.wav").write_bytes(head + b"junk\0\0\0\0" * 10_001 + rest)
    assert "No 'data' chunk" in refusal(lambda: read_audio(tmp_path / "vn.wav"))


def test_every_kind_of_plain_audio_is_read_sample_by_sample(tmp_path):
    plain = [name for name, data in SOUNDS.items() if fuzz_audio.read_independently(data) or name.endswith("flac")]
    with fuzz_target(fuzz_audio, tmp_path) as target:
        assert [name for name in plain if not target.check({name: SOUNDS[name]})] == []
    assert len(plain) == 16


@pytest.mark.parametrize("name", ["0.wav", "4.wav", "8.wav", "11.wav", "15.flac", "19.wav"])
def test_no_flipped_bit_of_a_header_changes_samples(name, tmp_path):
    """A flipped bit of a rate is noted where the header contradicts it (not in FLAC), and the samples are the same."""
    data = SOUNDS[name]
    path = tmp_path / name
    path.write_bytes(data)
    header, audio = read_header(path), soundfile.read(path, dtype="float32")[0]
    refused = 0
    size = 100 if name.endswith("flac") else data.find(b"data") + 8
    for bit in range(8 * size):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            found = read_header(path)
            assert len(read_audio(path)) == round(found.frames * RATE / found.rate)
        except UserError:
            refused += 1
            continue
        assert np.array_equal(soundfile.read(path, dtype="float32")[0], audio)
        assert found.frames == header.frames
        assert found.rate == header.rate or found.notes or name.endswith("flac")
    assert refused > 8 * 6


@few
@given(st.sampled_from(sorted(SOUNDS)), st.integers(0, 1000))
def test_a_file_that_is_cut_off_is_refused(tmp_path_factory, name, missing):
    path = tmp_path_factory.getbasetemp() / name
    data = SOUNDS[name]
    path.write_bytes(data[: len(data) - 3 - missing % (len(data) - 3)])
    assert name in refusal(lambda: read_audio(path))


@few
@given(st.lists(st.integers(-(2**23), 2**23 - 1), min_size=2, max_size=40), st.sampled_from(["wav", "flac", "aiff"]))
def test_samples_come_back_as_they_were_written(tmp_path_factory, samples, suffix):
    path = tmp_path_factory.getbasetemp() / f"samples.{suffix}"
    wanted = np.array([2**22, *samples]) / 2**23
    soundfile.write(path, wanted, 48_000, subtype="PCM_24")
    assert np.array_equal(read_audio(path), wanted.astype(np.float32))


@pytest.mark.parametrize(("module", "count"), [(fuzz_audio, 300), (fuzz_folders, 60)])
def test_what_the_fuzzer_makes_is_refused_or_read_rightly(module, count, tmp_path):
    with fuzz_target(module, tmp_path) as target:
        assert verdicts(target, count) == {"accepted", "refused"}


@pytest.mark.parametrize("name", ["a\nb", "01_\udcff_vn_vc", "\x1b[31mred", "\u202evn_vc"])
@pytest.mark.parametrize("where", ["piece", "stem", "above"])
def test_a_name_that_is_no_text_is_refused(tmp_path, name, where):
    place = {"piece": f"data/{name}/vn.wav", "stem": f"data/Elise/AuSep_1_{name}.wav", "above": f"{name}/Elise/vn.wav"}[
        where
    ]
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_bytes(SOUNDS["0.wav"])
    assert "printable" in refusal(lambda: read_folder(tmp_path / place.split("/")[0]))


def test_links_that_loop_or_lead_nowhere_are_refused_and_a_link_to_audio_is_that_audio(tmp_path):
    (tmp_path / "elsewhere.wav").write_bytes(SOUNDS["0.wav"])
    piece = tmp_path / "data" / "Elise"
    piece.mkdir(parents=True)
    (piece / "vn.wav").symlink_to(tmp_path / "elsewhere.wav")
    assert [stem.path for stem in read_folder(tmp_path / "data").pieces[0].stems] == [piece / "vn.wav"]
    for target in ("vc.wav", "nowhere.wav", "/dev/zero", "/dev/null", "."):
        (piece / "vc.wav").unlink(missing_ok=True)
        (piece / "vc.wav").symlink_to(target)
        assert "vc.wav" in refusal(lambda: read_folder(tmp_path / "data"))


def test_a_pipe_is_not_waited_for(tmp_path):
    (tmp_path / "Elise").mkdir()
    os.mkfifo(tmp_path / "Elise" / "vn.wav")
    assert "vn.wav" in refusal(lambda: read_folder(tmp_path))


def test_the_path_of_a_folder_may_be_anything(tmp_path):
    assert "File name too long" in refusal(lambda: read_folder(tmp_path / ("x" * 300)))
    assert "printable" in refusal(lambda: read_folder(Path("a\0b")))
