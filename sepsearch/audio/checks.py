"""Checks of audio files: refused where libsndfile would lose or invent samples, going by its log.

libsndfile reads nearly everything. Where a header contradicts itself or the file, it takes the likelier number and says
so in its log (`soundfile.info(path).extra_info`): "data : 144000 (should be 71978)". Only what loses or invents samples
is refused here; the rest is read, at most with a note.

The log ends after 2,047 characters, which long comments in front of the audio fill, and it says nothing of bytes behind
the audio: so the place of the audio in a WAV file is looked up in the file itself.
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

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
CUT_OFF = "the file is cut off: copy or export it again, or keep what is there with"
UNKNOWN = 0xFFFFFFFF  # a length that does not fit in 32 bits, or was not known when it was written
SOX_UNKNOWN = 0x7FFFF000  # what sox writes instead, rounded down to whole blocks
TAIL = 2**16  # bytes at the end of a file that are searched for chunks
OGG_PAGE = 27 + 255 + 255 * 255  # bytes, at most
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


class AudioInfo(Protocol):
    """What `soundfile.info` and `soundfile.SoundFile` give."""

    format: str
    subtype: str
    channels: int
    samplerate: int
    frames: int
    extra_info: str


@dataclass(frozen=True)
class _Data:
    """The audio of a WAV file: its first byte, its length and the end of the RIFF content by the header, byte order."""

    begin: int
    claimed: int
    end: int
    order: Literal["little", "big"]


def check_header(path: Path, info: AudioInfo) -> tuple[str, ...]:
    """Harmless contradictions in the header of an audio file, one line each.

    Raises:
        UserError: reading the file would lose or invent samples.
        OSError: the file cannot be read.
    """
    if info.subtype == "PCM_32" and re.search(r"^\s*PEAK\s*:", info.extra_info, re.MULTILINE):
        codec = "pcm_f32be" if info.format == "AIFF" else CODECS["FLOAT"]
        command = f"ffmpeg -c:a {codec} -i IN{path.suffix} -c copy OUT{path.suffix}"
        raise _contradiction(path, "floats, since it has a chunk 'PEAK'", "integers", command)
    chunks = re.findall(r"^ ?(?:data|SSND) : \d", info.extra_info, re.MULTILINE)
    if len(chunks) > 1 or "no 'ds64' chunk" in info.extra_info:
        raise _contradiction(path, "one chunk of audio", f"{len(chunks)}", _ffmpeg(path, "-c copy"))
    if info.format in WAV | {"AIFF"} and info.subtype not in SAMPLE_BYTES:
        return (f"encoded in blocks ({info.subtype}): the last one may end in samples that were not recorded",)
    if info.format in WAV:
        return tuple(_check_wav(path, info))
    if info.format == "AIFF":
        _check_aiff(path, info)
    if info.format == "OGG":
        _check_ogg(path, info.extra_info)
    return ()


def decoding_fault(log: str) -> str:
    """The line of a log that says, after decoding, that parts of the file were lost; "" if there is none."""
    found = re.search(r"^.*(reports a hole|Corrupted bitstream|LOST_SYNC|CRC_MISMATCH).*$", log, re.MULTILINE)
    return found[0].strip() if found else ""


def cut_off(path: Path) -> str:
    """What to do with a file that ends early or is damaged."""
    return f"{CUT_OFF} '{_ffmpeg(path, '' if path.suffix.lower() == '.flac' else '-c copy')}'"


def _ffmpeg(path: Path, options: str) -> str:
    return " ".join(["ffmpeg -i", f"IN{path.suffix}", *options.split(), f"OUT{path.suffix}"])


def _number(log: str, name: str) -> int | None:
    """The first number of 32 bits that the log gives under a name; it writes the upper half of them below 0."""
    found = re.search(rf"^\s*{name}\s*:\s*(-?\d+)\b", log, re.MULTILINE)
    return int(found[1]) % 2**32 if found else None


def _contradiction(path: Path, expected: str, found: str, command: str) -> UserError:
    return UserError(
        f"{path}: expected {expected}, found {found}: the header is damaged: copy or export the file again, or write "
        f"it anew with '{command}' and listen to it"
    )


def _check_wav(path: Path, info: AudioInfo) -> list[str]:
    log, width = info.extra_info, SAMPLE_BYTES[info.subtype] * info.channels
    block = _number(log, "Block Align")
    if block not in (None, width) or "Ambiguous information" in log:
        claim = f"{info.channels} channels of {info.subtype}"
        command = _ffmpeg(path, f"-c:a {CODECS[info.subtype]}")
        raise _contradiction(path, f"blocks of {width} bytes for {claim}", f"{block}", command)
    notes = []
    speed = _number(log, "Bytes/sec")
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
    head = _read(file, start, 12)
    order: Literal["little", "big"] = "big" if head[:4] == b"RIFX" else "little"
    length, wide, place = int.from_bytes(head[4:8], order), 0, start + 12
    while len(head := _read(file, place, 24)) >= 8:
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
    if (claimed := _number(log, "data")) is None:
        return None
    begin = _read(file, 0, TAIL).find(b"data" + claimed.to_bytes(4, "little")) + 8
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
        raise _contradiction(
            path, f"{length // width} samples by its header", f"{info.frames}", _ffmpeg(path, "-c copy")
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
    tail = _read(file, begin, TAIL)
    ends = {len(tail)}
    for place in range(len(tail) - 8, -1, -1):
        length = int.from_bytes(tail[place + 4 : place + 8], data.order)
        if _is_name(tail[place : place + 4]) and ends & {place + 8 + length, place + 8 + length + length % 2}:
            ends.add(place)
    if (first := begin + min(ends)) < size:
        frames = (first - data.begin) // (SAMPLE_BYTES[info.subtype] * info.channels)
        command = _ffmpeg(path, f"-af atrim=end_sample={frames} -c:a {CODECS[info.subtype]}")
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
    if rest == _ID3V1 and _read(file, place, 3) == b"TAG":
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
    head = _read(file, place, 8)
    fits = int.from_bytes(head[4:], order) <= end - place - 8
    return len(head) == 8 and _is_name(head[:4]) and (fits or head[:4] in _KNOWN_CHUNKS)


def _is_name(name: bytes) -> bool:
    return all(32 <= char < 127 for char in name)


def _is_zero(file: BinaryIO, place: int, end: int) -> bool:
    while place < end:
        block = _read(file, place, min(2**20, end - place))
        if not block or block.count(0) < len(block):
            return False
        place += len(block)
    return True


def _check_aiff(path: Path, info: AudioInfo) -> None:
    """Refuse an AIFF file unless both chunks, COMM and SSND, give the same number of samples."""
    frames = _number(info.extra_info, "Frames")
    if frames is None or frames == info.frames:
        return
    if frames > info.frames:
        raise UserError(f"{path}: expected {frames} samples as its header says, found {info.frames}: {cut_off(path)}")
    unknown = re.search(r"SSND\s*:\s*\d+\s*\(should be", info.extra_info) is not None
    if frames or unknown:
        raise _contradiction(path, f"{frames} samples as its header says", f"{info.frames}", _ffmpeg(path, "-c copy"))


def _check_ogg(path: Path, log: str) -> None:
    """Refuse an OGG file whose last page is missing or cut; what follows a whole last page is no matter (RFC 3533)."""
    if re.search("end-of-stream", log, re.IGNORECASE):
        raise UserError(f"{path}: expected a last page that is marked as such, found none: {cut_off(path)}")
    if "Junk after the last page" not in log:
        return
    with path.open("rb") as file:
        size = file.seek(0, 2)
        tail = _read(file, max(0, size - 2 * OGG_PAGE), 2 * OGG_PAGE)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    sizes = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or not page[5] & 4 or len(page) < 27 + len(sizes) + sum(sizes):
        raise UserError(f"{path}: expected a whole last page, found a part of one: {cut_off(path)}")


def behind_id3(file: BinaryIO) -> int:
    """Where the content begins: behind an ID3v2 tag, if there is one, whose length counts 7 bits a byte."""
    head = _read(file, 0, 10)
    return 10 + sum(byte << 7 * (3 - k) for k, byte in enumerate(head[6:])) if head[:3] == b"ID3" else 0


def flac_md5(path: Path) -> bytes | None:
    """The MD5 that a FLAC file gives of its samples (RFC 9639, section 8.2); None if it gives none."""
    with path.open("rb") as file:
        head = _read(file, behind_id3(file), 42)
    return head[26:] if head[:4] == b"fLaC" and any(head[26:]) else None


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)
