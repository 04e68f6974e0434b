"""Formats of audio files: names that say audio, formats that are read as stems, formats that are written.

libsndfile decides by content what a file is; names matter only where a folder is searched for audio.
"""

from dataclasses import dataclass
from pathlib import Path

from sepsearch.audio.headers import SAMPLE_BYTES, WAV, behind_id3
from sepsearch.utils.errors import UserError

READ_SUFFIXES = frozenset(
    ".wav .wave .bwf .rf64 .w64 .flac .aiff .aif .aifc .caf .au .snd .mp3 .ogg .oga .opus".split()  # noqa: SIM905
)
# Audio that libsndfile does not read: found in a folder, it is refused with a reason, not passed over.
OTHER_SUFFIXES = frozenset(
    ".m4a .m4b .aac .alac .wma .ape .wv .tta .mpc .mka .ac3 .dsf .dff .amr .mp2 .ra .spx".split()  # noqa: SIM905
)
LOSSY = frozenset(("MP3", "OGG"))
STEM_FORMATS = WAV | {"FLAC", "AIFF"} | LOSSY

_MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # Hz: MPEG 1, 2 and 2.5, layer III
_MP3_BYTES = 320_000 / 8  # a second, the most of layer III
_MP3_HEAD = 4096  # bytes in which the first frame and its tag are


def is_audio_name(path: Path) -> bool:
    """Whether a file's name says that it is audio, readable or not."""
    return path.suffix.lower() in READ_SUFFIXES | OTHER_SUFFIXES


def is_exact(form: str, subtype: str) -> bool:
    """Whether a format, as libsndfile names it, gives just the samples that were recorded, or is MP3 or Ogg.

    Other encodings pad their last block with samples that are not in the music.
    """
    return form in STEM_FORMATS and (subtype in SAMPLE_BYTES or form in LOSSY)


def counts_samples(path: Path) -> bool:
    """Whether an MP3 file says how many samples it has: in a tag Xing, Info or VBRI within its first frame.

    Of others libsndfile gives an estimate. Raises `OSError` if the file cannot be read.
    """
    with path.open("rb") as file:
        file.seek(behind_id3(file))
        head = file.read(_MP3_HEAD)
    places = [head.find(tag) for tag in (b"Xing", b"Info")]
    # The lowest bit of the flags behind the tag: the number of frames follows.
    return b"VBRI" in head or any(place >= 0 and len(head) > place + 7 and head[place + 7] & 1 for place in places)


@dataclass(frozen=True)
class Written:
    """A format that is written: how libsndfile names it and its samples, and what it can hold."""

    form: str
    subtype: str
    bytes_per_sample: int  # 0: compressed, at a rate that does not depend on the number of channels
    most_channels: int
    options: tuple[tuple[str, object], ...] = ()  # of `soundfile.SoundFile`

    @property
    def holds_any_level(self) -> bool:
        """Whether samples beyond full scale are kept as they are."""
        return self.subtype == "FLOAT"

    def size(self, frames: int, rate: int, channels: int) -> int:
        """The most bytes that a file of this length takes."""
        content = frames * channels * self.bytes_per_sample if self.bytes_per_sample else frames / rate * _MP3_BYTES
        return int(content) + 2**16


FORMATS = {
    "wav": Written("WAV", "FLOAT", 4, 1024),
    "flac": Written("FLAC", "PCM_24", 3, 8),
    # The best variable rate, about 250 kbit/s for two channels: what is separated may be separated again.
    "mp3": Written("MP3", "MPEG_LAYER_III", 0, 2, (("bitrate_mode", "VARIABLE"), ("compression_level", 0.0))),
}


def require_writable(kind: str, path: Path, rate: int, channels: int) -> None:
    """Raise `UserError` unless a file of this rate and number of channels, such as `path`, can be written as `kind`."""
    if channels > FORMATS[kind].most_channels:
        raise UserError(
            f"{path}: expected at most {FORMATS[kind].most_channels} channels for --format {kind}, found {channels}: "
            "choose --format wav"
        )
    if kind == "mp3" and rate not in _MP3_RATES:
        raise UserError(
            f"{path}: expected one of {', '.join(map(str, _MP3_RATES))} Hz for --format mp3, found {rate} Hz: "
            "choose --format flac or wav"
        )
