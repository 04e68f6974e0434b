"""Checks of WAV files: refused where libsndfile would lose samples, or read other chunks as samples.

libsndfile's log ends after 2,047 characters, which long comments in front of the audio fill, and it says nothing of
bytes behind the audio: so the place of the audio is looked up in the file itself.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from sepsearch.audio.headers import (
    CODECS,
    SAMPLE_BYTES,
    AudioInfo,
    behind_id3,
    contradiction,
    cut_off,
    ffmpeg_command,
    logged_number,
    read_at,
)
from sepsearch.utils.errors import UserError

UNKNOWN = 0xFFFFFFFF  # a length that does not fit in 32 bits, or was not known when it was written
SOX_UNKNOWN = 0x7FFFF000  # what sox writes instead, rounded down to whole blocks
TAIL = 2**16  # bytes at the end of a file that are searched for chunks
# Chunks that follow the audio, known although they may be cut off.
_KNOWN_CHUNKS = {
    b"LIST",
    b"id3 ",
    b"ID3 ",
    b"bext",
    b"iXML",
    b"cue ",
    b"smpl",
    b"inst",
    b"JUNK",
    b"junk",
    b"PAD ",
    b"FLLR",
    b"fact",
    b"PEAK",
    b"minf",
    b"elm1",
    b"regn",
    b"umid",
    b"DGDA",
    b"_PMX",
    b"acid",
}
_ID3V1 = 128  # bytes of a tag "TAG" at the very end


@dataclass(frozen=True)
class _Data:
    """The audio of a WAV file: its first byte, its length and the end of the RIFF content by the header, byte order."""

    begin: int
    claimed: int
    end: int
    order: Literal["little", "big"]


def check_wav(path: Path, info: AudioInfo) -> list[str]:
    """Harmless contradictions in a WAV file whose encoding has a fixed number of bytes a sample, one line each.

    Raises:
        UserError: reading the file would lose or invent samples.
        OSError: the file cannot be read.
    """
    log, width = info.extra_info, SAMPLE_BYTES[info.subtype] * info.channels
    block = logged_number(log, "Block Align")
    if block not in (None, width) or "Ambiguous information" in log:
        claim = f"{info.channels} channels of {info.subtype}"
        command = ffmpeg_command(path, f"-c:a {CODECS[info.subtype]}")
        raise contradiction(path, f"blocks of {width} bytes for {claim}", f"{block}", command)
    notes = []
    speed = logged_number(log, "Bytes/sec")
    if speed not in (None, width * info.samplerate):
        notes.append(f"its header says {info.samplerate} Hz, but {speed} bytes a second: read at {info.samplerate} Hz")
    with path.open("rb") as file:
        size = file.seek(0, 2)
        data = _find_data(file, size) or _logged_data(file, log, size)
        if data is not None:
            notes += _check_data(path, file, size, data, info)
    return notes


def _find_data(file: BinaryIO, size: int) -> _Data | None:
    """The audio of a RIFF, RIFX or RF64 file, found by way of its chunks; None where that way leads nowhere.

    RF64 (EBU Tech 3306) keeps lengths beyond 4 GB in a chunk `ds64`: 8 bytes for the file, 8 for the audio.
    """
    start = behind_id3(file)
    head = read_at(file, start, 12)
    order: Literal["little", "big"] = "big" if head[:4] == b"RIFX" else "little"
    length, wide, place = int.from_bytes(head[4:8], order), 0, start + 12
    while len(head := read_at(file, place, 24)) >= 8:
        name, content = head[:4], int.from_bytes(head[4:8], order)
        if name == b"data":
            end = size if length in (0, UNKNOWN) else min(size, start + 8 + length)
            return _Data(place + 8, wide or content, end, order)
        if name == b"ds64" and len(head) == 24:
            length, wide = struct.unpack("<QQ", head[8:24])
        place += 8 + content + content % 2
    return None


def _logged_data(file: BinaryIO, log: str, size: int) -> _Data | None:
    """The audio of a little-endian WAV file with a chunk of a wrong length before it, by the length in the log."""
    if (claimed := logged_number(log, "data")) is None:
        return None
    begin = read_at(file, 0, TAIL).find(b"data" + claimed.to_bytes(4, "little")) + 8
    return _Data(begin, claimed, size, "little") if begin > 8 else None


def _check_data(path: Path, file: BinaryIO, size: int, data: _Data, info: AudioInfo) -> list[str]:
    """Notes on the length of a WAV file's audio; refused if libsndfile would not read just these samples."""
    width, there = SAMPLE_BYTES[info.subtype] * info.channels, size - data.begin
    streamed = data.claimed in (UNKNOWN, SOX_UNKNOWN // width * width) and data.claimed > there
    notes = []
    if streamed or (data.claimed == 0 and there >= width and not _is_chunk(file, data.begin, size, data.order)):
        _check_streamed(path, file, size, data, info)
        notes.append("its header gives no length of the audio, as programs that stream write it: read to its end")
        length = there
    elif data.claimed // width > there // width:
        claim = f"{data.claimed} bytes of audio as its header says"
        raise UserError(f"{path}: expected {claim}, found {there}: {cut_off(path)}")
    else:
        _check_behind(path, file, data, width)
        length = min(data.claimed, there)
    if info.frames != length // width:
        raise contradiction(
            path, f"{length // width} samples by its header", f"{info.frames}", ffmpeg_command(path, "-c copy")
        )
    if length % width:
        notes.append("its audio ends within a sample: all whole samples are read")
    return notes


def _check_streamed(path: Path, file: BinaryIO, size: int, data: _Data, info: AudioInfo) -> None:
    """Refuse a WAV file without a length of its audio if libsndfile reads nothing, or the chunks behind it as audio."""
    found = f"{data.claimed:#x} as programs that stream write it"
    if info.frames == 0:
        raise UserError(
            f"{path}: expected the length of the audio in the header, found {found}: write it anew with "
            "'sox --ignore-length IN.wav OUT.wav' or 'ffmpeg -i IN.wav -c copy OUT.wav'"
        )
    begin = max(data.begin, size - TAIL)
    tail = read_at(file, begin, TAIL)
    ends = {len(tail)}
    for place in range(len(tail) - 8, -1, -1):
        length = int.from_bytes(tail[place + 4 : place + 8], data.order)
        if _is_name(tail[place : place + 4]) and ends & {place + 8 + length, place + 8 + length + length % 2}:
            ends.add(place)
    if (first := begin + min(ends)) < size:
        frames = (first - data.begin) // (SAMPLE_BYTES[info.subtype] * info.channels)
        command = ffmpeg_command(path, f"-af atrim=end_sample={frames} -c:a {CODECS[info.subtype]}")
        raise UserError(
            f"{path}: expected the length of the audio in the header, found {found}, and {size - first} bytes behind "
            f"the audio that are none: write it anew with '{command}'"
        )


def _check_behind(path: Path, file: BinaryIO, data: _Data, width: int) -> None:
    """Refuse bytes between the audio and the end of the file that are no chunk: then there may be more audio.

    Some programs leave the byte of padding out that belongs behind an odd number.
    """
    place = data.begin + data.claimed
    rest = data.end - place
    if rest <= data.claimed % 2 or (data.claimed + rest) // width == data.claimed // width:
        return
    if any(_is_chunk(file, place + padding, data.end, data.order) for padding in {0, data.claimed % 2}):
        return
    if rest == _ID3V1 and read_at(file, place, 3) == b"TAG":
        return
    if _is_zero(file, place, data.end):
        return
    raise UserError(
        f"{path}: expected {data.claimed} bytes of audio as its header says, found {rest} more behind them: the header "
        "is damaged: copy or export the file again, or read all as audio with "
        "'ffmpeg -ignore_length 1 -i IN.wav -c copy OUT.wav'"
    )


def _is_chunk(file: BinaryIO, place: int, end: int, order: Literal["little", "big"]) -> bool:
    """Whether a chunk begins at a byte of a RIFF file: four printable characters and a length that fits."""
    head = read_at(file, place, 8)
    fits = int.from_bytes(head[4:], order) <= end - place - 8
    return len(head) == 8 and _is_name(head[:4]) and (fits or head[:4] in _KNOWN_CHUNKS)


def _is_name(name: bytes) -> bool:
    return all(32 <= char < 127 for char in name)


def _is_zero(file: BinaryIO, place: int, end: int) -> bool:
    while place < end:
        block = read_at(file, place, min(2**20, end - place))
        if not block or block.count(0) < len(block):
            return False
        place += len(block)
    return True
