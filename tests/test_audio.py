from pathlib import Path

import numpy as np
import pytest
from trees import RATE, melody, write_wav

from sepsearch.audio import read_audio, read_header
from sepsearch.errors import UserError


def test_a_file_is_read_at_48_khz_whatever_its_rate(tmp_path: Path) -> None:
    write_wav(tmp_path / "mix.wav", melody("vn", 1.0, np.random.default_rng(0), 44_100), 44_100)
    assert read_header(tmp_path / "mix.wav") == (44_100, 44_100)
    audio = read_audio(tmp_path / "mix.wav")
    assert (audio.dtype, audio.shape) == (np.float32, (RATE,))
    assert np.abs(audio).max() == pytest.approx(0.15, rel=0.05)


@pytest.mark.parametrize("name", ["mix.mp3", "mix"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"ID3")
    with pytest.raises(UserError, match=r"expected a file \.wav, \.flac, \.aiff, \.aif, found .*ffmpeg"):
        read_audio(tmp_path / name)


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mix\.wav: expected readable audio, found: No such file or directory"):
        read_audio(tmp_path / "mix.wav")
