from pathlib import Path

import numpy as np
import pytest
import soundfile
from recording_fixtures import RATE, melody, write_wav

from sepsearch.audio.reading import read_audio, read_header
from sepsearch.utils.errors import UserError


def test_a_file_is_read_at_48_khz_whatever_its_rate(tmp_path: Path) -> None:
    write_wav(tmp_path / "mix.wav", melody("vn", 1.0, np.random.default_rng(0), 44_100), 44_100)
    header = read_header(tmp_path / "mix.wav")
    assert (header.frames, header.rate, header.channels, header.notes) == (44_100, 44_100, 1, ())
    audio = read_audio(tmp_path / "mix.wav")
    assert (audio.dtype, audio.shape) == (np.float32, (RATE,))
    assert np.abs(audio).max() == pytest.approx(0.15, rel=0.05)


@pytest.mark.parametrize("name", ["mix.mp3", "mix", "mix.m4a", "mix.raw"])
def test_a_file_that_libsndfile_does_not_read_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"ID3")
    with pytest.raises(UserError, match=rf"{name}: expected readable audio, found: .*ffmpeg"):
        read_audio(tmp_path / name)


def test_a_file_is_read_by_its_content_whatever_its_name(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mix.flac", melody("vn", 0.5, np.random.default_rng(0)), RATE)
    (tmp_path / "mix.flac").rename(tmp_path / "mix.wav")
    assert len(read_audio(tmp_path / "mix.wav")) == RATE // 2


def test_several_channels_are_read_as_their_mean(tmp_path: Path) -> None:
    tune = melody("vn", 0.5, np.random.default_rng(0))
    write_wav(tmp_path / "mix.wav", np.stack([tune, 0.25 * tune, tune], axis=1))
    np.testing.assert_allclose(read_audio(tmp_path / "mix.wav"), 0.75 * tune, atol=2**-22)


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mix\.wav: expected readable audio, found: No such file or directory"):
        read_audio(tmp_path / "mix.wav")


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64"])
def test_24_bit_samples_are_the_same_as_libsndfiles(kind, tmp_path):
    rng = np.random.default_rng(0)
    audio = rng.integers(-(2**23), 2**23, 5001) / 2**23
    audio[:3] = -1.0, 0.0, 1 - 2**-23
    soundfile.write(tmp_path / "a.wav", audio, 48_000, subtype="PCM_24", format=kind)
    np.testing.assert_array_equal(
        read_audio(tmp_path / "a.wav"), soundfile.read(tmp_path / "a.wav", dtype="float32")[0]
    )


def test_24_bit_samples_behind_other_chunks_are_found(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.linspace(-0.5, 0.5, 1000), 48_000, subtype="PCM_24")
    content = path.read_bytes()
    at = content.index(b"data")
    extra = b"LIST" + (10).to_bytes(4, "little") + b"0123456789"
    size = (len(content) - 8 + len(extra)).to_bytes(4, "little")
    path.write_bytes(content[:4] + size + content[8:at] + extra + content[at:])
    np.testing.assert_allclose(read_audio(path), np.linspace(-0.5, 0.5, 1000), atol=2**-23)
