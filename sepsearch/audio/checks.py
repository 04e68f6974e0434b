"""Checks of audio files: refused where libsndfile would lose or invent samples, going by its log.

libsndfile reads nearly everything. Where a header contradicts itself or the file, it takes the likelier number and says
so in its log (`soundfile.info(path).extra_info`): "data : 144000 (should be 71978)". Only what loses or invents samples
is refused here; the rest is read, at most with a note.
"""

import re
from pathlib import Path

from sepsearch.audio.headers import (
    CODECS,
    SAMPLE_BYTES,
    WAV,
    AudioInfo,
    behind_id3,
    contradiction,
    cut_off,
    ffmpeg_command,
    logged_number,
    read_at,
)
from sepsearch.audio.wav_checks import check_wav
from sepsearch.utils.errors import UserError

OGG_PAGE = 27 + 255 + 255 * 255  # bytes, at most


def check_header(path: Path, info: AudioInfo) -> tuple[str, ...]:
    """Harmless contradictions in the header of an audio file, one line each.

    Raises:
        UserError: reading the file would lose or invent samples.
        OSError: the file cannot be read.
    """
    if info.subtype == "PCM_32" and re.search(r"^\s*PEAK\s*:", info.extra_info, re.MULTILINE):
        codec = "pcm_f32be" if info.format == "AIFF" else CODECS["FLOAT"]
        command = f"ffmpeg -c:a {codec} -i IN{path.suffix} -c copy OUT{path.suffix}"
        raise contradiction(path, "floats, since it has a chunk 'PEAK'", "integers", command)
    chunks = re.findall(r"^ ?(?:data|SSND) : \d", info.extra_info, re.MULTILINE)
    if len(chunks) > 1 or "no 'ds64' chunk" in info.extra_info:
        raise contradiction(path, "one chunk of audio", f"{len(chunks)}", ffmpeg_command(path, "-c copy"))
    formats = re.findall(r"^ ?(?:fmt|COMM) +: \d", info.extra_info, re.MULTILINE)
    if len(formats) > 1:  # libsndfile goes by the last one
        raise contradiction(
            path, "one chunk that gives rate and width", f"{len(formats)}", ffmpeg_command(path, "-c copy")
        )
    if info.format in WAV | {"AIFF"} and info.subtype not in SAMPLE_BYTES:
        return (f"encoded in blocks ({info.subtype}): the last one may end in samples that were not recorded",)
    if info.format in WAV:
        return tuple(check_wav(path, info))
    if info.format == "AIFF":
        _check_aiff(path, info)
    if info.format == "OGG":
        _check_ogg(path, info.extra_info)
    return ()


def decoding_fault(log: str) -> str:
    """The line of a log that says, after decoding, that parts of the file were lost; "" if there is none."""
    found = re.search(r"^.*(reports a hole|Corrupted bitstream|LOST_SYNC|CRC_MISMATCH).*$", log, re.MULTILINE)
    return found[0].strip() if found else ""


def _check_aiff(path: Path, info: AudioInfo) -> None:
    """Refuse an AIFF file unless both chunks, COMM and SSND, give the same number of samples."""
    frames = logged_number(info.extra_info, "Frames")
    if frames is None or frames == info.frames:
        return
    if frames > info.frames:
        raise UserError(f"{path}: expected {frames} samples as its header says, found {info.frames}: {cut_off(path)}")
    unknown = re.search(r"SSND\s*:\s*\d+\s*\(should be", info.extra_info) is not None
    if frames or unknown:
        raise contradiction(
            path, f"{frames} samples as its header says", f"{info.frames}", ffmpeg_command(path, "-c copy")
        )


def _check_ogg(path: Path, log: str) -> None:
    """Refuse an OGG file whose last page is missing or cut; what follows a whole last page is no matter (RFC 3533)."""
    if re.search("end-of-stream", log, re.IGNORECASE):
        raise UserError(f"{path}: expected a last page that is marked as such, found none: {cut_off(path)}")
    if "Junk after the last page" not in log:
        return
    with path.open("rb") as file:
        size = file.seek(0, 2)
        tail = read_at(file, max(0, size - 2 * OGG_PAGE), 2 * OGG_PAGE)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    sizes = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or not page[5] & 4 or len(page) < 27 + len(sizes) + sum(sizes):
        raise UserError(f"{path}: expected a whole last page, found a part of one: {cut_off(path)}")


def flac_md5(path: Path) -> bytes | None:
    """The MD5 that a FLAC file gives of its samples (RFC 9639, section 8.2); None if it gives none."""
    with path.open("rb") as file:
        head = read_at(file, behind_id3(file), 42)
    return head[26:] if head[:4] == b"fLaC" and any(head[26:]) else None
