"""Audio files: checked before they are read, then read as mono float32 at one rate, channels mixed down.

libsndfile decodes. What it would lose or invent, and samples that are no numbers, are refused in one line each.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepsearch.audio.checks import check_header, decoding_fault, flac_md5
from sepsearch.audio.formats import LOSSY, STEM_FORMATS, counts_samples, is_exact
from sepsearch.audio.headers import SAMPLE_BYTES, cut_off
from sepsearch.utils.errors import UserError

RATE = 48_000  # Hz: everything that is loaded comes at this rate
LOWEST_RATE, HIGHEST_RATE = 8_000, 384_000  # Hz
SILENCE = 10 ** (-90 / 20)  # a peak below -90 dBFS is silence
BLOCK_SECONDS = 20.0
LOUDEST = 1_000.0  # a peak of 60 dB above full scale is a broken file, not music


@dataclass(frozen=True)
class Sound:
    """An audio file: samples per channel, rate in Hz, channels."""

    path: Path
    frames: int
    rate: int
    channels: int
    notes: tuple[str, ...] = field(default=(), compare=False)  # harmless contradictions of its header
    lossy: bool = field(default=False, compare=False)  # MP3 or Ogg

    @property
    def seconds(self) -> float:
        """Its length in seconds."""
        return self.frames / self.rate


def inspect_audio(path: Path, exact: bool = True) -> Sound:
    """The header of an audio file of any number of channels; no audio is read, but of MP3 files that do not say how
    many samples they have.

    Args:
        path: of the file; its name does not matter.
        exact: refuse encodings that add samples that were not recorded (see `is_exact`); else all that libsndfile
            reads is accepted.

    Raises:
        UserError: it is no such file or empty, reading it would lose or invent samples, or its rate is not one from
            `LOWEST_RATE` to `HIGHEST_RATE`.
    """
    import soundfile

    try:
        if path.stat().st_size == 0 and path.is_file():
            raise UserError(f"{path}: expected audio, found an empty file: copy the file again")
        if not path.is_file():
            raise UserError(f"{path}: expected an audio file, found a folder or a device: put the file in its place")
        path.open("rb").close()  # libsndfile does not say why a file cannot be opened
        info = soundfile.info(path)
        if exact and not is_exact(info.format, info.subtype):
            raise UserError(
                f"{path}: expected plain samples in a file {', '.join(sorted(STEM_FORMATS))}, found {info.format} of "
                f"kind {info.subtype}: convert it with 'ffmpeg -i IN{path.suffix} OUT.flac'"
            )
        notes = check_header(path, info)
        frames = info.frames if info.format != "MP3" or counts_samples(path) else _count_samples(path)
    except (OSError, ValueError, TypeError, soundfile.SoundFileError) as error:
        # libsndfile finds no header, and soundfile asks for the rate of `.raw`, which has none.
        raise unreadable(path, error) from None
    if not LOWEST_RATE <= info.samplerate <= HIGHEST_RATE:
        raise UserError(
            f"{path}: expected a rate of {LOWEST_RATE} to {HIGHEST_RATE} Hz, found {info.samplerate} Hz: "
            "export the file again at 48000 Hz"
        )
    if frames <= 0:
        raise UserError(f"{path}: expected samples, found none: export the file again")
    if frames >= 2**40:  # a FLAC file that was streamed: libsndfile cannot read it to its end
        raise UserError(
            f"{path}: expected the number of samples in the header, found none as programs that stream write it: "
            f"write it anew with 'ffmpeg -i IN{path.suffix} OUT{path.suffix}'"
        )
    return Sound(path, frames, info.samplerate, info.channels, notes, info.format in LOSSY)


def _count_samples(path: Path) -> int:
    """The samples per channel of a file, by decoding all of it."""
    import soundfile

    with soundfile.SoundFile(path) as file:
        return sum(len(block) for block in file.blocks(int(BLOCK_SECONDS * file.samplerate), dtype="float32"))


def read_header(path: Path) -> Sound:
    """The header of a mono file; raises `UserError` for more channels, and as `inspect_audio` does."""
    header = inspect_audio(path)
    if header.channels != 1:
        raise UserError(
            f"{path}: expected one channel, found {header.channels}: mix it down with "
            "'sox IN.wav OUT.wav remix -' or 'ffmpeg -i IN.wav -ac 1 OUT.wav'"
        )
    return header


def checked_blocks(path: Path, frames: int, rate: int) -> Iterator[tuple[NDArray[np.float32], float]]:
    """The samples of a file whose header says `frames` and `rate`, (sample, channel), full scale = 1, and their peaks.

    Those of FLAC must have the MD5 that its header gives: libsndfile does not compare it, and some of its versions pass
    over damaged frames.

    Raises:
        UserError: the file ends early or cannot be decoded, a sample is not a finite number or far beyond full scale,
            or the MD5 is another.
    """
    import soundfile

    size, found, digest = int(BLOCK_SECONDS * rate), 0, hashlib.md5(usedforsecurity=False)
    try:
        md5 = flac_md5(path)
        with soundfile.SoundFile(path) as file:
            width, kind = (SAMPLE_BYTES[file.subtype], "int32") if md5 else (0, "float32")
            while found < frames and len(block := file.read(min(size, frames - found), dtype=kind, always_2d=True)):
                if md5:
                    digest.update(packed_samples(block, width))
                    block = block.astype(np.float32) * np.float32(2**-31)
                peak = _checked_peak(path, block, found / rate, rate)
                found += len(block)
                yield block, peak
            fault = decoding_fault(file.extra_info)
    except OSError as error:
        raise unreadable(path, error) from None
    except soundfile.SoundFileError as error:
        raise UserError(
            f"{path}: expected {frames} samples, found some behind {found / rate:.1f} s that cannot be decoded "
            f"({_reason(error)}): {cut_off(path)}"
        ) from None
    if found != frames or fault:
        why = f" ({fault})" if fault else ""
        raise UserError(f"{path}: expected {frames} samples, found {found}{why}: {cut_off(path)}")
    if md5 and digest.digest() != md5:
        raise UserError(f"{path}: expected the samples whose checksum its header gives, found others: copy it again")


def _checked_peak(path: Path, block: np.ndarray, begin: float, rate: int) -> float:
    """The peak of samples (sample, channel) from second `begin` on; refuses what is not finite or beyond `LOUDEST`."""
    peak = float(max(-block.min(), block.max()))  # a NaN anywhere makes this NaN
    if not math.isfinite(peak):
        odd = int(np.argmin(np.isfinite(block).all(axis=1)))
        values = block[odd].tolist()
        raise UserError(
            f"{path}: expected finite samples, found {values if len(values) > 1 else values[0]} at second "
            f"{begin + odd / rate:.3f}: render or export the file again"
        )
    if peak > LOUDEST:
        raise UserError(
            f"{path}: expected samples between -1 and 1, found a peak of {peak:.3g}: "
            "export the file again, scaled to full scale = 1"
        )
    return peak


def load_audio(path: Path, frames: int, rate: int) -> np.ndarray:
    """Read a file whose header says `frames` and `rate`: float32, shape (samples,), at `RATE`, full scale = 1.

    Several channels are mixed down: their mean. Raises `UserError` for silence, and as `checked_blocks` does.
    """
    try:
        audio = np.empty(frames, np.float32)
    except (MemoryError, ValueError):
        raise UserError(
            f"{path}: expected audio that fits in the memory, found {frames} samples: {cut_off(path)}"
        ) from None
    begin = 0
    for block in _mono_blocks(path, frames, rate):
        audio[begin : begin + len(block)] = block
        begin += len(block)
    if rate == RATE:
        return audio
    import soxr

    resampled = soxr.resample(audio, rate, RATE, quality="HQ")
    exact = np.zeros(round(frames * RATE / rate), np.float32)  # soxr may round its length the other way
    exact[: len(resampled)] = resampled[: len(exact)]
    return exact


def check_audio(path: Path, frames: int, rate: int) -> None:
    """Read a file from end to end and keep nothing; raises `UserError` as `load_audio` does."""
    for _ in _mono_blocks(path, frames, rate):
        pass


def _mono_blocks(path: Path, frames: int, rate: int) -> Iterator[np.ndarray]:
    """The mean of a file's channels, float32 (sample,), block by block; raises `UserError` for silence at the end."""
    loudest = mixed = 0.0
    for block, peak in checked_blocks(path, frames, rate):
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        loudest, mixed = max(loudest, peak), max(mixed, float(np.abs(mono).max(initial=0.0)))
        yield mono
    if mixed < SILENCE <= loudest:
        raise UserError(
            f"{path}: expected channels that can be mixed down, found that they cancel each other: "
            "invert one of them, or export one channel"
        )
    if loudest < SILENCE:
        raise UserError(
            f"{path}: expected sound, found silence (peak below -90 dBFS): "
            "export the file again, or remove the player from the piece"
        )


def packed_samples(integers: np.ndarray, width: int) -> bytes:
    """What FLAC's MD5 is made of: samples that fill the upper `width` bytes of an int32, little-endian, packed."""
    words = (integers >> (32 - 8 * width)).astype("<i4").view(np.uint8).reshape(-1, 4)
    return words[:, :width].tobytes()


def read_audio(path: Path) -> np.ndarray:
    """Check a file and read it: float32, shape (samples,), at `RATE`, full scale = 1, channels mixed down.

    Raises `UserError` as `inspect_audio` and `load_audio` do.
    """
    header = inspect_audio(path)
    return load_audio(path, header.frames, header.rate)


def frame_power(frames: np.ndarray) -> np.ndarray:
    """Mean square of each frame: float32 (frames, samples) -> float64 (frames,)."""
    return np.einsum("ij,ij->i", frames, frames).astype(np.float64) / max(frames.shape[1], 1)


def unreadable(path: Path, error: Exception) -> UserError:
    """The error for a file or folder that the system, or libsndfile, refuses to read."""
    advice = (
        "copy or export it again"
        if isinstance(error, OSError)
        else ("export it again, or convert it with 'ffmpeg -i IN OUT.wav'")
    )
    return UserError(f"{path}: expected readable audio, found: {_reason(error)}: {advice}")


def _reason(error: Exception) -> str:
    reason = str(getattr(error, "strerror", None) or getattr(error, "error_string", None) or error).rstrip(".")
    # What libsndfile says of a file that begins as MP3 does and goes on otherwise. It was opened before: it is there.
    return reason if "possibly a pipe" not in reason else "no audio that libsndfile knows"
