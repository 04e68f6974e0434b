"""Audio files of any length and number of channels: checked from end to end, then read and written block by block."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from sepsearch.audio.formats import FORMATS
from sepsearch.audio.reading import Sound, checked_blocks, inspect_audio
from sepsearch.utils.errors import UserError, no_space

MOST_CHANNELS = 8  # as many as FLAC can hold
LARGEST_WAV = 2**32 - 2**16  # bytes: a WAV file counts them in 32 bits; beyond, RF64 (EBU Tech 3306) counts in 64
ALMOST_FULL = 2**20  # bytes free
HIGHEST_INTEGER = 1 - 2**-23


def open_sound(path: Path) -> Sound:
    """Look at the header of a file with 1 to 8 channels of any format that libsndfile reads.

    Raises `UserError` for more channels, and as `inspect_audio` does.
    """
    sound = inspect_audio(path, exact=False)
    if not 1 <= sound.channels <= MOST_CHANNELS:
        raise UserError(
            f"{path}: expected 1 to {MOST_CHANNELS} channels, found {sound.channels}: mix some of them down"
        )
    return sound


def read_blocks(sound: Sound) -> Iterator[NDArray[np.float32]]:
    """The samples (channel, sample), full scale = 1, in blocks of 20 s; raises `UserError` as `checked_blocks` does."""
    for block, _ in checked_blocks(sound.path, sound.frames, sound.rate):
        yield np.ascontiguousarray(block.T)


def check_samples(sound: Sound, advance: Callable[[float], object] = lambda seconds: None) -> float:
    """Read a file from end to end and return its peak; `advance` is called with the seconds read since.

    Raises `UserError` as `checked_blocks` does.
    """
    loudest = 0.0
    for block, peak in checked_blocks(sound.path, sound.frames, sound.rate):
        loudest = max(loudest, peak)
        advance(len(block) / sound.rate)
    return loudest


def written_bytes(sound: Sound, kind: str) -> int:
    """The most that a file of this length, rate and channels takes, written as one of `FORMATS`."""
    return FORMATS[kind].size(sound.frames, sound.rate, sound.channels)


class SoundWriter:
    """Writes a file of the length, rate and channels of `sound`, block by block; a context manager.

    Args:
        path: to write.
        sound: whose form it gets.
        kind: of `FORMATS`. A WAV file beyond 4 GB becomes RF64.
        name: what the file will be called, for messages.

    `peak` is that of all that was written; `limited` counts samples that FLAC and MP3 could not hold.

    Raises `UserError` where it cannot be written.
    """

    def __init__(self, path: Path, sound: Sound, kind: str, name: Path):
        import soundfile

        self._path, self._sound, self._name = path, sound, name
        self.peak, self.limited, self._frames = 0.0, 0, 0
        written = FORMATS[kind]
        form, self._limits = written.form, not written.holds_any_level
        if form == "WAV" and written_bytes(sound, kind) > LARGEST_WAV:
            form = "RF64"
        self._errors = (OSError, soundfile.SoundFileError)
        try:
            self._file = soundfile.SoundFile(
                path, "w", sound.rate, sound.channels, written.subtype, format=form, **dict(written.options)
            )
        except self._errors as error:
            raise self._failed(error) from error

    def __enter__(self) -> "SoundWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except self._errors as failure:
            if error is None:
                raise self._failed(failure) from failure
        if error is None:
            self._check()

    def write(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Write (channel, sample) and return it as the file gets it: limited to full scale unless that is floats."""
        loudest = float(max(-audio.min(), audio.max()))
        self.peak, self._frames = max(self.peak, loudest), self._frames + audio.shape[1]
        if self._limits and loudest > HIGHEST_INTEGER:
            self.limited += int((np.abs(audio) > 1).sum())
            audio = np.clip(audio, -1, HIGHEST_INTEGER)
        try:
            self._file.write(np.ascontiguousarray(audio.T))
        except self._errors as error:
            raise self._failed(error) from error
        return audio

    def _check(self) -> None:
        """Whether all samples were written: libsndfile does not report every write that a full disk refuses."""
        if self._frames != self._sound.frames:
            raise UserError(f"{self._name}: {self._frames} samples of {self._sound.frames} were made")
        try:
            found = open_sound(self._path)
        except UserError as error:
            raise self._failed(OSError(str(error))) from error
        if found != Sound(self._path, self._sound.frames, self._sound.rate, self._sound.channels):
            raise self._failed(OSError(f"{found.frames} samples of {self._sound.frames} are there"))

    def _failed(self, error: Exception) -> UserError:
        if not isinstance(error, OSError):
            # libsndfile says "System error" whatever the system said.
            full = shutil.disk_usage(self._path.parent).free < ALMOST_FULL
            error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if full else OSError(str(error).rstrip("."))
        return no_space(error, self._name)
