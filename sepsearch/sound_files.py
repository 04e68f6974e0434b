"""Audio files of any length and number of channels: checked from end to end, then read and written block by block."""

import errno
import hashlib
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from sepsearch.audio import HIGHEST_RATE, LOUDEST, LOWEST_RATE, PLAIN_FLAC, unreadable
from sepsearch.errors import UserError, no_space
from sepsearch.headers import CUT_OFF, SUFFIXES, check_header

OGG = {".ogg", ".oga", ".opus"}
MOST_CHANNELS = 8  # as many as FLAC can hold
BLOCK_SECONDS = 20.0
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
LARGEST_WAV = 2**32 - 2**16  # bytes: a WAV file counts them in 32 bits; beyond, RF64 (EBU Tech 3306) counts in 64
# As they are written: (format, subtype, bytes a sample). Floats hold any level.
FORMATS = {"wav": ("WAV", "FLOAT", 4), "flac": ("FLAC", "PCM_24", 3)}
ALMOST_FULL = 2**20  # bytes free
HIGHEST_INTEGER = 1 - 2**-23


@dataclass(frozen=True)
class Sound:
    """An audio file: samples per channel, rate in Hz, channels."""

    path: Path
    frames: int
    rate: int
    channels: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.frames / self.rate


def open_sound(path: Path) -> Sound:
    """Look at the header of a WAV, FLAC, AIFF or OGG file.

    Raises `UserError` unless it is complete, as far as its header tells, with 1 to 8 channels and a rate from
    `LOWEST_RATE` to `HIGHEST_RATE`.
    """
    import soundfile

    suffix = path.suffix.lower()
    if suffix not in OGG | set(SUFFIXES):
        raise UserError(
            f"{path}: expected a file .wav, .flac, .ogg or .aiff, found {suffix or 'no suffix'}: "
            "convert it with 'ffmpeg -i IN OUT.wav'"
        )
    try:
        if not path.is_file() and path.exists():
            raise UserError(f"{path}: expected an audio file, found a folder or a device")
        if path.stat().st_size == 0:
            raise UserError(f"{path}: expected audio, found an empty file: copy the file again")
        if suffix in OGG:
            _check_ogg(path)
        else:
            check_header(path)
        info = soundfile.info(path)
    except (OSError, ValueError, soundfile.SoundFileError) as error:
        raise unreadable(path, error) from None
    if not 1 <= info.channels <= MOST_CHANNELS:
        raise UserError(f"{path}: expected 1 to {MOST_CHANNELS} channels, found {info.channels}: mix some of them down")
    if not LOWEST_RATE <= info.samplerate <= HIGHEST_RATE:
        raise UserError(
            f"{path}: expected a rate of {LOWEST_RATE} to {HIGHEST_RATE} Hz, found {info.samplerate} Hz: "
            "export the file again at 48000 Hz"
        )
    if not 0 < info.frames < 2**40:  # a FLAC file that was streamed has no count
        found = "none" if info.frames <= 0 else "no count of them in the header"
        raise UserError(f"{path}: expected samples, found {found}: export the file again")
    return Sound(path, info.frames, info.samplerate, info.channels)


def _check_ogg(path: Path) -> None:
    """Refuse an OGG file unless all its pages are whole, and the last is marked as such (RFC 3533, section 6).

    libsndfile passes over pages that are damaged, and believes that the last one it finds is the end.
    """
    last = False
    with path.open("rb") as file:
        while head := file.read(27):
            sizes = file.read(head[26]) if len(head) == 27 else b""
            body = file.read(sum(sizes))
            if head[:4] != b"OggS" or len(head) < 27 or len(sizes) < head[26] or len(body) < sum(sizes):
                raise UserError(f"{path}: expected whole pages of OGG, found {head[:4]!r}: {CUT_OFF}")
            if _ogg_checksum(head[:22] + bytes(4) + head[26:] + sizes + body) != head[22:26]:
                raise UserError(f"{path}: expected pages that have their checksum, found another: copy the file again")
            last = bool(head[5] & 4)
    if not last:
        raise UserError(f"{path}: expected a last page that is marked as such, found none: {CUT_OFF}")


def _ogg_checksum(page: bytes) -> bytes:
    """CRC-32 of a page: zlib's polynomial from the other end of every byte, without its inversions."""
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return mirrored.to_bytes(4, "big").translate(_MIRRORED)


def read_blocks(sound: Sound) -> Iterator[NDArray[np.float32]]:
    """The samples (channel, sample), full scale = 1, in blocks of `BLOCK_SECONDS`.

    Raises `UserError` for a file that ends early or cannot be read.
    """
    for block in _raw_blocks(sound, "float32"):
        yield np.ascontiguousarray(block.T)


def _raw_blocks(sound: Sound, kind: str) -> Iterator[NDArray]:
    """(sample, channel) of a type, in blocks."""
    import soundfile

    size, found = int(BLOCK_SECONDS * sound.rate), 0
    try:
        with soundfile.SoundFile(sound.path) as file:
            while found < sound.frames and len(
                block := file.read(min(size, sound.frames - found), dtype=kind, always_2d=True)
            ):
                found += len(block)
                yield block
    except (OSError, soundfile.SoundFileError) as error:
        raise unreadable(sound.path, error) from None
    if found != sound.frames:
        raise UserError(f"{sound.path}: expected {sound.frames} samples, found {found}: {CUT_OFF}")


def check_samples(sound: Sound, advance: Callable[[float], object] = lambda seconds: None) -> float:
    """Read a file from end to end and return its peak; `advance` is called with the seconds read since.

    Raises `UserError` for a file that ends early, a sample that is not a finite number or far beyond full scale, and
    FLAC whose samples do not have the checksum that its header gives (libsndfile does not look at it).
    """
    import soundfile

    md5 = check_header(sound.path).md5 if sound.path.suffix.lower() == ".flac" else None
    width = PLAIN_FLAC.get(soundfile.info(sound.path).subtype, 0) if md5 else 0
    digest = hashlib.md5(usedforsecurity=False)
    peak, begin = 0.0, 0
    for block in _raw_blocks(sound, "int32" if width else "float32"):
        if width:
            words = (block >> (32 - 8 * width)).astype("<i4").view(np.uint8).reshape(-1, 4)
            digest.update(words[:, :width].tobytes())
            block = block * np.float32(2**-31)
        loudest = float(max(-block.min(), block.max()))  # a NaN anywhere makes this NaN
        if not math.isfinite(loudest):
            odd = int(np.argmin(np.isfinite(block).all(axis=1)))
            raise UserError(
                f"{sound.path}: expected finite samples, found {block[odd].tolist()} at second "
                f"{(begin + odd) / sound.rate:.3f}: render or export the file again"
            )
        peak, begin = max(peak, loudest), begin + len(block)
        advance(len(block) / sound.rate)
    if width and digest.digest() != md5:
        raise UserError(
            f"{sound.path}: expected the samples whose checksum its header gives, found others: copy it again"
        )
    if peak > LOUDEST:
        raise UserError(
            f"{sound.path}: expected samples between -1 and 1, found a peak of {peak:.3g}: "
            "export the file again, scaled to full scale = 1"
        )
    return peak


def written_bytes(sound: Sound, kind: str) -> int:
    """The most that a file of this length, rate and channels takes, written as one of `FORMATS`."""
    return sound.frames * sound.channels * FORMATS[kind][2] + 2**16


class SoundWriter:
    """Writes a file of the length, rate and channels of `sound`, block by block; a context manager.

    Args:
        path: to write.
        sound: whose form it gets.
        kind: of `FORMATS`. A WAV file beyond 4 GB becomes RF64.
        name: what the file will be called, for messages.

    `peak` is that of all that was written; `limited` counts samples that integers could not hold.

    Raises `UserError` where it cannot be written.
    """

    def __init__(self, path: Path, sound: Sound, kind: str, name: Path):
        import soundfile

        self._path, self._sound, self._name = path, sound, name
        self.peak, self.limited, self._frames = 0.0, 0, 0
        form, subtype, _ = FORMATS[kind]
        self._integers = subtype != "FLOAT"
        if form == "WAV" and written_bytes(sound, kind) > LARGEST_WAV:
            form = "RF64"
        self._errors = (OSError, soundfile.SoundFileError)
        try:
            self._file = soundfile.SoundFile(path, "w", sound.rate, sound.channels, subtype, format=form)
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
        """Write (channel, sample) and return it as the file holds it: limited to full scale if that is integers."""
        loudest = float(max(-audio.min(), audio.max()))
        self.peak, self._frames = max(self.peak, loudest), self._frames + audio.shape[1]
        if self._integers and loudest > HIGHEST_INTEGER:
            self.limited += int((np.abs(audio) > 1).sum())
            audio = np.clip(audio, -1, HIGHEST_INTEGER)
        try:
            self._file.write(np.ascontiguousarray(audio.T))
        except self._errors as error:
            raise self._failed(error) from error
        return audio

    def _check(self) -> None:
        """Whether all is there: libsndfile does not tell of everything that a full disk refuses."""
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
