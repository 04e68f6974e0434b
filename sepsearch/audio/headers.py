"""Shared by the checks of audio headers: encodings, numbers of libsndfile's log, and errors that say what to do."""

import re
from pathlib import Path
from typing import BinaryIO, Protocol

from sepsearch.utils.errors import UserError

WAV = {"WAV", "WAVEX", "RF64"}
# Bytes a sample of encodings with a fixed number of them. Others pad their last block with samples not in the music.
SAMPLE_BYTES = {
    "PCM_S8": 1,
    "PCM_U8": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
    "ULAW": 1,
    "ALAW": 1,
}
# ffmpeg's names for the encodings of WAV files; its default is 16 bits.
CODECS = {
    "PCM_U8": "pcm_u8",
    "PCM_16": "pcm_s16le",
    "PCM_24": "pcm_s24le",
    "PCM_32": "pcm_s32le",
    "FLOAT": "pcm_f32le",
    "DOUBLE": "pcm_f64le",
    "ULAW": "pcm_mulaw",
    "ALAW": "pcm_alaw",
}


class AudioInfo(Protocol):
    """What `soundfile.info` and `soundfile.SoundFile` give."""

    format: str
    subtype: str
    channels: int
    samplerate: int
    frames: int
    extra_info: str


def cut_off(path: Path) -> str:
    """What to do with a file that ends early or is damaged."""
    command = ffmpeg_command(path, "" if path.suffix.lower() == ".flac" else "-c copy")
    return f"the file is cut off: copy or export it again, or keep what is there with '{command}'"


def ffmpeg_command(path: Path, options: str) -> str:
    """A command that writes a file of the same type anew, with these options before the output's name."""
    return " ".join(["ffmpeg -i", f"IN{path.suffix}", *options.split(), f"OUT{path.suffix}"])


def logged_number(log: str, name: str) -> int | None:
    """The first number of 32 bits that the log gives under a name; it writes the upper half of them below 0."""
    found = re.search(rf"^\s*{name}\s*:\s*(-?\d+)\b", log, re.MULTILINE)
    return int(found[1]) % 2**32 if found else None


def contradiction(path: Path, expected: str, found: str, command: str) -> UserError:
    """The error for a header that contradicts itself or the file; `command` writes the file anew."""
    return UserError(
        f"{path}: expected {expected}, found {found}: the header is damaged: copy or export the file again, or write "
        f"it anew with '{command}' and listen to it"
    )


def behind_id3(file: BinaryIO) -> int:
    """Where the content begins: behind an ID3v2 tag, if there is one, whose length counts 7 bits a byte."""
    head = read_at(file, 0, 10)
    return 10 + sum(byte << 7 * (3 - k) for k, byte in enumerate(head[6:])) if head[:3] == b"ID3" else 0


def read_at(file: BinaryIO, place: int, count: int) -> bytes:
    """At most `count` bytes from a place of a file on."""
    file.seek(place)
    return file.read(count)
