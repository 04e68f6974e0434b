"""Audio files: checked before they are read, then read as mono float32 at one rate.

libsndfile accepts files that are cut off, headers of programs that stream, and samples that are no numbers;
here each of them is refused in one line.
"""

import struct
from pathlib import Path

import numpy as np

from sepsearch.errors import UserError

RATE = 48_000  # Hz: everything that is loaded comes at this rate
LOWEST_RATE, HIGHEST_RATE = 8_000, 384_000  # Hz
SILENCE = 10 ** (-90 / 20)  # a peak below -90 dBFS is silence
LOUDEST = 1_000.0  # a peak of 60 dB above full scale is a broken file, not music
_RIFF = (b"RIFF", b"RIFX", b"RF64", b"BW64")
SUFFIXES = {".wav": _RIFF, ".flac": (b"fLaC",), ".aiff": (b"FORM",), ".aif": (b"FORM",)}  # how the files begin
PLAIN_PCM24 = {("WAV", "PCM_24"), ("WAVEX", "PCM_24"), ("RF64", "PCM_24")}
_CUT_OFF = "the file is cut off: copy or export it again"


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
        _check_complete(path)
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
        if (info.format, info.subtype) in PLAIN_PCM24 and (begin := _check_complete(path)) is not None:
            audio = _read_pcm24(path, begin, frames)
        else:
            audio = soundfile.read(path, dtype="float32")[0]
    except (OSError, soundfile.SoundFileError) as error:
        raise unreadable(path, error) from None
    if len(audio) != frames:
        raise UserError(f"{path}: expected {frames} samples, found {len(audio)}: {_CUT_OFF}")
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


def _check_complete(path: Path) -> int | None:
    """Refuse a file of another kind than its name says, or with fewer bytes of audio than its header says.

    Returns the byte at which the audio of a little-endian WAV file begins, None for any other kind.

    libsndfile just shortens the latter.
    RIFF, RF64 and AIFF are lists of chunks: a four-letter name, a length, that many bytes, padded to even.
    RF64 (EBU Tech 3306) keeps lengths beyond 4 GB in a chunk `ds64`: 8 bytes for the file, 8 for the data.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        form = file.read(12)[:4]
        if form not in (kinds := SUFFIXES[path.suffix.lower()]):
            raise UserError(
                f"{path}: expected a file that begins with {kinds[0].decode()}, found {form!r}: "
                "it is no audio of this kind: export it again"
            )
        if form == b"fLaC":
            return None  # no such chunks: reading it will tell
        order = ">" if form in (b"RIFX", b"FORM") else "<"
        promised = 0
        while len(head := file.read(8)) == 8:
            name, length = struct.unpack(order + "4sI", head)
            if name in (b"data", b"SSND"):
                break
            body = file.read(16) if name == b"ds64" else b""
            if len(body) == 16:
                promised = struct.unpack("<8xQ", body)[0]
            file.seek(length + length % 2 - len(body), 1)
        else:
            raise UserError(f"{path}: expected a chunk of audio, found none: {_CUT_OFF}")
        begin = file.tell()
        there = size - begin
    if length == 0xFFFFFFFF and promised:
        length = promised
    if length == 0xFFFFFFFF or (length == 0 and there > 0):
        raise UserError(
            f"{path}: expected the length of the audio in the header, found {length:#x} as programs write it "
            "that stream: rewrite it with 'sox --ignore-length IN.wav OUT.wav' or 'ffmpeg -i IN.wav OUT.wav'"
        )
    if length > there:
        raise UserError(f"{path}: expected {length} bytes of audio as its header says, found {there}: {_CUT_OFF}")
    return begin if form in (b"RIFF", b"RF64") else None
