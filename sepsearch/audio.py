"""Audio files: checked before they are read, then read as mono float32 at one rate.

libsndfile accepts files that are cut off, headers of programs that stream, and samples that are no numbers;
here each of them is refused in one line.
"""

import hashlib
from pathlib import Path

import numpy as np

from sepsearch.errors import UserError
from sepsearch.headers import CUT_OFF, SUFFIXES, check_header

RATE = 48_000  # Hz: everything that is loaded comes at this rate
LOWEST_RATE, HIGHEST_RATE = 8_000, 384_000  # Hz
SILENCE = 10 ** (-90 / 20)  # a peak below -90 dBFS is silence
LOUDEST = 1_000.0  # a peak of 60 dB above full scale is a broken file, not music
PLAIN_PCM24 = {("WAV", "PCM_24"), ("WAVEX", "PCM_24"), ("RF64", "PCM_24")}
PLAIN_FLAC = {"PCM_S8": 1, "PCM_16": 2, "PCM_24": 3}  # bytes a sample of what FLAC's MD5 is made


def read_header(path: Path) -> tuple[int, int]:
    """Samples and rate (Hz) of an audio file; no audio is read.

    Raises `UserError` unless it is a WAV, FLAC or AIFF file, mono, complete and of a rate from `LOWEST_RATE` to
    `HIGHEST_RATE`.
    """
    import soundfile

    if path.is_dir():
        raise UserError(f"{path}: expected an audio file, found a folder: put the file in its place")
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"{path}: expected a file {', '.join(SUFFIXES)}, found {path.suffix or 'no suffix'}: "
            "convert it with 'sox' or 'ffmpeg -i IN OUT.wav'"
        )
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: expected audio, found an empty file: copy the file again")
        check_header(path)
        info = soundfile.info(path)
    except (OSError, soundfile.SoundFileError) as error:
        raise unreadable(path, error) from None
    if info.channels != 1:
        raise UserError(
            f"{path}: expected one channel, found {info.channels}: mix it down with "
            "'sox IN.wav OUT.wav remix -' or 'ffmpeg -i IN.wav -ac 1 OUT.wav'"
        )
    if not LOWEST_RATE <= info.samplerate <= HIGHEST_RATE:
        raise UserError(
            f"{path}: expected a rate of {LOWEST_RATE} to {HIGHEST_RATE} Hz, found {info.samplerate} Hz: "
            "export the file again at 48000 Hz"
        )
    if not 0 < info.frames < 2**40:  # a FLAC file that was streamed has no count
        found = "none" if info.frames <= 0 else "no count of them in the header"
        raise UserError(f"{path}: expected samples, found {found}: export the file again")
    return info.frames, info.samplerate


def load_audio(path: Path, frames: int, rate: int) -> np.ndarray:
    """Read a file whose header says `frames` and `rate`: float32, shape (samples,), at `RATE`, full scale = 1.

    Raises `UserError` for a file that ends early, a sample that is not a finite number, silence, and samples on
    another scale than -1 to 1.
    """
    import soundfile

    try:
        info = soundfile.info(path)
        header = check_header(path)
        if (info.format, info.subtype) in PLAIN_PCM24 and header.begin is not None:
            audio = _read_pcm24(path, header.begin, frames)
        elif header.md5 and info.subtype in PLAIN_FLAC:
            audio = _read_flac(path, PLAIN_FLAC[info.subtype], header.md5)
        else:
            audio = soundfile.read(path, dtype="float32")[0]
    except MemoryError:
        raise UserError(f"{path}: expected audio that fits in the memory, found {frames} samples: {CUT_OFF}") from None
    except (OSError, soundfile.SoundFileError) as error:
        raise unreadable(path, error) from None
    if len(audio) != frames:
        raise UserError(f"{path}: expected {frames} samples, found {len(audio)}: {CUT_OFF}")
    peak = max(-audio.min(), audio.max())  # a NaN anywhere makes this NaN
    if not np.isfinite(peak):
        where = int(np.argmin(np.isfinite(audio)))
        raise UserError(
            f"{path}: expected finite samples, found {audio[where]} at second {where / rate:.3f}: "
            "render or export the file again"
        )
    if peak < SILENCE:
        raise UserError(
            f"{path}: expected sound, found silence (peak below -90 dBFS): "
            "export the file again, or remove the player from the piece"
        )
    if peak > LOUDEST:
        raise UserError(
            f"{path}: expected samples between -1 and 1, found a peak of {peak:.3g}: "
            "export the file again, scaled to full scale = 1"
        )
    if rate == RATE:
        return audio
    import soxr

    resampled = soxr.resample(audio, rate, RATE, quality="HQ")
    exact = np.zeros(round(frames * RATE / rate), np.float32)  # soxr may round its length the other way
    exact[: len(resampled)] = resampled[: len(exact)]
    return exact


def _read_pcm24(path: Path, begin: int, frames: int) -> np.ndarray:
    """The 24-bit samples that begin at a byte of a little-endian WAV file: float32, shape (samples,).

    Each is read as the upper three bytes of an overlapping 32-bit number: the same values as libsndfile gives, four
    times as fast, and decoding is half of what building shards costs.
    """
    data = np.fromfile(path, np.uint8, count=3 * frames + 1, offset=begin - 1)
    words: np.ndarray = np.ndarray((len(data) // 3,), "<i4", data, strides=(3,))
    return (words & -256).astype(np.float32) * np.float32(2**-31)


def _read_flac(path: Path, width: int, md5: bytes) -> np.ndarray:
    """The samples of a FLAC file, float32, shape (samples,); refused unless they have the MD5 that its header gives.

    libsndfile does not look at it, and passes over frames that are damaged.
    """
    import soundfile

    integers = soundfile.read(path, dtype="int32")[0]
    words = (integers >> (32 - 8 * width)).astype("<i4").view(np.uint8).reshape(-1, 4)
    if hashlib.md5(words[:, :width].tobytes(), usedforsecurity=False).digest() != md5:
        raise UserError(f"{path}: expected the samples whose checksum its header gives, found others: copy it again")
    return integers.astype(np.float32) * np.float32(2**-31)


def read_audio(path: Path) -> np.ndarray:
    """Check a file and read it: float32, shape (samples,), at `RATE`, full scale = 1.

    Raises `UserError` as `read_header` and `load_audio` do.
    """
    return load_audio(path, *read_header(path))


def frame_power(frames: np.ndarray) -> np.ndarray:
    """Mean square of each frame: float32 (frames, samples) -> float64 (frames,)."""
    return np.einsum("ij,ij->i", frames, frames).astype(np.float64) / max(frames.shape[1], 1)


def unreadable(path: Path, error: Exception) -> UserError:
    """The error for a file or folder that the system, or libsndfile, refuses to read."""
    reason = getattr(error, "strerror", None) or getattr(error, "error_string", None) or str(error)
    return UserError(f"{path}: expected readable audio, found: {reason.rstrip('.')}: copy or export it again")
