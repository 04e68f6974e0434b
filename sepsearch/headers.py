"""Headers of audio files: refused where they promise more than there is, or contradict themselves.

libsndfile mends or passes over what does not fit: it shortens, believes one of two numbers, or reads rubbish as audio.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sepsearch.errors import UserError

_RIFF = (b"RIFF", b"RIFX", b"RF64", b"BW64")
SUFFIXES = {".wav": _RIFF, ".flac": (b"fLaC",), ".aiff": (b"FORM",), ".aif": (b"FORM",)}  # how the files begin
CUT_OFF = "the file is cut off: copy or export it again"
MOST_CHUNKS = 10_000
UNKNOWN = 0xFFFFFFFF  # a length that does not fit in 32 bits, or was not known when it was written
# Forms of plain samples, and the bits that they have.
_WAV_BITS = {1: (8, 16, 24, 32), 3: (32, 64)}  # integers, floats
_AIFF_BITS = {b"NONE": (8, 16, 24, 32), b"twos": (16,), b"sowt": (16,), b"raw ": (8,),
              b"fl32": (32,), b"FL32": (32,), b"fl64": (64,), b"FL64": (64,)}  # fmt: skip
# FLAC (RFC 9639, section 9.1.2): rates that the header of a frame names by a code.
_FLAC_RATES = (0, 88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
_FLAC_BITS = (0, 8, 12, 0, 16, 20, 24, 32)


@dataclass(frozen=True)
class Header:
    """Where the samples of a little-endian WAV file begin (byte), and the MD5 that a FLAC file gives of its samples."""

    begin: int | None = None
    md5: bytes | None = None


@dataclass
class _Chunk:
    name: bytes
    begin: int  # byte at which the content begins
    length: int
    content: bytes  # the first 40 bytes


def check_header(path: Path) -> Header:
    """Refuse a file of another kind than its name says, or with another amount of audio than its header says.

    Raises:
        UserError: as said.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12).ljust(12, b"\0")
        if head[:4] not in (kinds := SUFFIXES[path.suffix.lower()]):
            raise UserError(
                f"{path}: expected a file that begins with {kinds[0].decode()}, found {head[:4]!r}: "
                "it is no audio of this kind: export it again"
            )
        if head[:4] == b"fLaC":
            return Header(md5=_check_flac(path, file))
        order = ">" if head[:4] in (b"RIFX", b"FORM") else "<"
        chunks = _read_chunks(path, file, order, size)
    audio = _check_audio(path, chunks, size)
    length = struct.unpack(order + "I", head[4:8])[0]
    if length == UNKNOWN and (wide := next((chunk.content for chunk in chunks if chunk.name == b"ds64"), b"")):
        length = int.from_bytes(wide[:8], "little")
    if length not in (0, UNKNOWN):
        _check_tail(path, chunks, audio, min(size, length + 8))
    _check_form(path, chunks, audio, order, head[8:12])
    return Header(begin=audio.begin if head[:4] in (b"RIFF", b"RF64") else None)


def _read_chunks(path: Path, file: BinaryIO, order: str, size: int) -> list[_Chunk]:
    """All chunks of a RIFF, RF64 or AIFF file: a four-letter name, a length, that many bytes, padded to even.

    RF64 (EBU Tech 3306) keeps lengths beyond 4 GB in a chunk `ds64`: 8 bytes for the file, 8 for the data.
    """
    chunks: list[_Chunk] = []
    place, wide = 12, 0
    while place + 8 <= size:
        if len(chunks) == MOST_CHUNKS:
            raise UserError(f"{path}: expected at most {MOST_CHUNKS:,} chunks, found more: export the file again")
        file.seek(place)
        head = file.read(48)
        name, length = struct.unpack(order + "4sI", head[:8])
        chunks.append(_Chunk(name, place + 8, length, head[8 : 8 + length]))
        if name == b"ds64" and len(chunks[-1].content) >= 16:
            wide = struct.unpack("<8xQ", chunks[-1].content[:16])[0] or UNKNOWN
        elif name == b"data" and wide:
            if length not in (UNKNOWN, wide):
                raise _contradiction(path, f"{wide} bytes of audio as its chunk ds64 says", f"{length}")
            chunks[-1].length = length = wide
        place += 8 + length + length % 2
    return chunks


def _check_audio(path: Path, chunks: list[_Chunk], size: int) -> _Chunk:
    """The one chunk of audio; refused if it says another length than it has."""
    found = [chunk for chunk in chunks if chunk.name in (b"data", b"SSND")]
    if not found:
        raise UserError(f"{path}: expected a chunk of audio, found none: {CUT_OFF}")
    audio, there = found[0], size - found[0].begin
    if audio.length == UNKNOWN or (audio.length == 0 and there > 0):
        raise UserError(
            f"{path}: expected the length of the audio in the header, found {audio.length:#x} as programs write it "
            "that stream: rewrite it with 'sox --ignore-length IN.wav OUT.wav' or 'ffmpeg -i IN.wav OUT.wav'"
        )
    if audio.length > there:
        raise UserError(f"{path}: expected {audio.length} bytes of audio as its header says, found {there}: {CUT_OFF}")
    if len(found) > 1:
        raise _contradiction(path, "one chunk of audio", f"{len(found)}")
    return audio


def _check_tail(path: Path, chunks: list[_Chunk], audio: _Chunk, end: int) -> None:
    """Refuse bytes behind the audio, before byte `end`, that are no chunks: then the audio is longer than it says."""
    for chunk in chunks[chunks.index(audio) + 1 :]:
        if chunk.begin <= end and not all(32 <= char < 127 for char in chunk.name):
            raise _contradiction(path, "another chunk or none behind the audio", repr(chunk.name))
    rest = end - max(chunk.begin + chunk.length for chunk in chunks)
    if 1 < rest < 8:
        raise _contradiction(path, "another chunk or none behind the audio", f"{rest} bytes")


def _check_form(path: Path, chunks: list[_Chunk], audio: _Chunk, order: str, kind: bytes) -> None:
    """Refuse a description of the samples that does not agree with itself, or with the length of the audio."""
    name = b"COMM" if kind in (b"AIFF", b"AIFC") else b"fmt "
    found = [chunk.content for chunk in chunks if chunk.name == name]
    least = {b"AIFF": 18, b"AIFC": 22}.get(kind, 16)
    if len(found) != 1 or len(found[0]) < least:
        raise _contradiction(path, f"one whole chunk {name.decode()!r}", f"{len(found)}")
    if name == b"fmt ":
        if next(chunk.begin for chunk in chunks if chunk.name == name) > audio.begin:
            raise _contradiction(path, "a description before the audio", "it behind")
        tag, channels, rate, speed, block, bits = struct.unpack(order + "HHIIHH", found[0][:16])
        if tag == 0xFFFE and len(found[0]) >= 26:
            tag = struct.unpack(order + "H", found[0][24:26])[0]
        if bits not in _WAV_BITS.get(tag, ()):
            raise _not_plain(path, f"{bits} bits of form {tag:#x}")
        if tag == 1 and any(chunk.name == b"PEAK" for chunk in chunks):
            raise _contradiction(path, "floats, since it has a chunk 'PEAK'", "integers")
        wanted = channels * bits // 8
        if (block, speed) != (wanted, wanted * rate):
            claim = f"{channels} channels of {bits} bits at {rate} Hz"
            raise _contradiction(path, f"{wanted} bytes a block for {claim}", f"{block}, and {speed} a second")
        if audio.length % max(block, 1):
            raise _contradiction(path, f"blocks of {block} bytes", f"{audio.length} bytes of audio")
        return
    channels, frames, bits = struct.unpack(">hIh", found[0][:8])
    form = found[0][18:22] if kind == b"AIFC" else b"NONE"
    if bits not in _AIFF_BITS.get(form, ()):
        raise _not_plain(path, f"{bits} bits of form {form!r}")
    there, wanted = audio.length - 8, frames * channels * bits // 8
    # libsndfile counts the byte of padding behind an odd number.
    if there not in (wanted, wanted + wanted % 2) or audio.content[:4] != bytes(4):
        raise _contradiction(path, f"{frames} samples of {channels} channels and {bits} bits", f"{there} bytes")


def _check_flac(path: Path, file: BinaryIO) -> bytes | None:
    """The MD5 of a FLAC file's samples; refused if its first frame has another rate or bits than the file.

    RFC 9639, sections 8 and 9.1; all is big-endian.
    """
    file.seek(4)
    facts, last = b"", False
    for _ in range(MOST_CHUNKS):
        head = file.read(4)
        if len(head) < 4:
            raise UserError(f"{path}: expected frames of audio, found none: {CUT_OFF}")
        last, length = head[0] >= 128, int.from_bytes(head[1:], "big")
        if head[0] % 128 == 0:
            facts = file.read(length)
        else:
            file.seek(length, 1)
        if last:
            break
    frame = file.read(4)
    if len(facts) < 34 or len(frame) < 4 or frame[:1] != b"\xff" or frame[1] & 0xFC != 0xF8:
        raise UserError(f"{path}: expected a description and frames of audio, found none: {CUT_OFF}")
    packed = int.from_bytes(facts[10:18], "big")  # 20 bits rate, 3 channels - 1, 5 bits - 1, 36 samples
    rate, bits = packed >> 44, (packed >> 36 & 31) + 1
    said_rate = _FLAC_RATES[code] if (code := frame[2] & 15) < len(_FLAC_RATES) else 0
    said_bits = _FLAC_BITS[frame[3] >> 1 & 7]
    if said_rate not in (0, rate) or said_bits not in (0, bits):
        claim = f"{said_rate or rate} Hz and {said_bits or bits} bits"
        raise _contradiction(path, f"{rate} Hz and {bits} bits as the file says", f"{claim} in its first frame")
    return facts[18:34] if any(facts[18:34]) else None


def _not_plain(path: Path, found: str) -> UserError:
    return UserError(
        f"{path}: expected readable audio of 8 to 32 bits or floats, found {found}: export it again, "
        "or convert it with 'ffmpeg -i IN OUT.wav'"
    )


def _contradiction(path: Path, expected: str, found: str) -> UserError:
    return UserError(
        f"{path}: expected {expected}, found {found}: the header is damaged: copy or export the file again"
    )
