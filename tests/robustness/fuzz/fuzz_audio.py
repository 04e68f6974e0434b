"""Fuzzing audio files: headers damaged bit by bit and field by field, chunks lost, doubled, moved, cut."""

import io
import struct
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from damages import Case, damaged, expect, flipped, mostly, repeated
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from numpy.typing import NDArray

from sepsearch.audio.reading import RATE, load_audio, read_header

ODD_LENGTHS = [
    0,
    1,
    2,
    3,
    7,
    15,
    16,
    17,
    18,
    28,
    40,
    100,
    598,
    602,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFF0,
    0xFFFFFFFE,
    0xFFFFFFFF,
]
ODD_FORM = [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    16,
    17,
    20,
    24,
    32,
    64,
    0x11,
    0x55,
    0xFFFE,
    0xFFFF,
    8000,
    44100,
    48000,
    96000,
    144000,
]
CHUNKS = [
    name.replace(b"_", b" ") for name in b"LIST bext data fmt_ fact ds64 junk \0\0\0\0 PEAK COMM SSND id3_".split()
]
Read = tuple[NDArray[np.float64], int]  # samples, full scale = 1, and their rate


def make_sounds() -> dict[str, bytes]:
    """Small sound files of every kind, by name."""
    rng = np.random.default_rng(0)
    kinds = [
        ("WAV", "PCM_24", 48_000),
        ("WAV", "PCM_16", 44_100),
        ("WAV", "PCM_U8", 8_000),
        ("WAV", "PCM_32", 48_000),
        ("WAV", "FLOAT", 48_000),
        ("WAV", "DOUBLE", 48_000),
        ("WAV", "ULAW", 8_000),
        ("WAV", "IMA_ADPCM", 8_000),
        ("WAVEX", "PCM_24", 48_000),
        ("WAVEX", "PCM_16", 48_000),
        ("RF64", "PCM_24", 48_000),
        ("RF64", "PCM_16", 48_000),
        ("AIFF", "PCM_16", 44_100),
        ("AIFF", "PCM_24", 48_000),
        ("AIFF", "FLOAT", 48_000),
        ("FLAC", "PCM_16", 44_100),
        ("FLAC", "PCM_24", 48_000),
        ("FLAC", "PCM_S8", 48_000),
    ]
    sounds = {}
    for number, (form, subtype, rate) in enumerate(kinds):
        samples = rng.uniform(-0.5, 0.5, 150 + number % 3)
        file = io.BytesIO()
        soundfile.write(file, samples, rate, subtype=subtype, format=form)
        suffix = {"AIFF": "aiff", "FLAC": "flac"}.get(form, "wav")
        sounds[f"{number}.{suffix}"] = file.getvalue()
    file = io.BytesIO()
    soundfile.write(file, rng.uniform(-0.5, 0.5, 150), 48_000, subtype="PCM_16", format="WAV", endian="BIG")
    sounds["19.wav"] = file.getvalue()
    return sounds


def split_chunks(data: bytes, order: str) -> list[tuple[bytes, int, bytes]]:
    """(name, length as it is written, content) of every chunk, as far as they can be read."""
    chunks, place, wide = [], 12, None
    while place + 8 <= len(data):
        name, length = struct.unpack(order + "4sI", data[place : place + 8])
        if name == b"ds64" and wide is None and place + 24 <= len(data):
            wide = struct.unpack("<8xQ", data[place + 8 : place + 24])[0]
        if name == b"data" and wide:  # whatever the 32 bits say
            chunks.append((name, length, data[place + 8 : place + 8 + wide]))
            place += 8 + wide + wide % 2
            continue
        chunks.append((name, length, data[place + 8 : place + 8 + length]))
        place += 8 + length + length % 2
    return chunks


def join_chunks(head: bytes, chunks: list[tuple[bytes, int, bytes]], order: str) -> bytes:
    """A file of chunks, whose length in its head fits."""
    body = b"".join(
        struct.pack(order + "4sI", name, size & 0xFFFFFFFF) + data + b"\0" * (len(data) % 2)
        for name, size, data in chunks
    )
    return head[:4] + struct.pack(order + "I", len(body) + 4 & 0xFFFFFFFF) + head[8:12] + body


def _order(data: bytes) -> str:
    return ">" if data[:4] in (b"RIFX", b"FORM") else "<"


@st.composite
def damaged_chunks(draw: Any, data: bytes) -> bytes:
    """Chunks lost, doubled, moved, new ones, or one with another name or length."""
    order = _order(data)
    chunks = split_chunks(data, order)
    if not chunks:
        return data
    one, other = (draw(st.integers(0, len(chunks) - 1)) for _ in range(2))
    (name, length, content), before, after = chunks[one], chunks[:one], chunks[one + 1 :]
    rest, new = before + after, draw(st.binary(max_size=28))
    renamed = draw(st.sampled_from(CHUNKS))
    size = draw(st.sampled_from([*ODD_LENGTHS, *(max(0, length + more) for more in (-8, -3, -2, -1, 1, 2, 3, 8))]))
    changed = [
        rest,
        [*chunks[:other], chunks[one], *chunks[other:]],
        [*rest[:other], chunks[one], *rest[other:]],
        [*before, (renamed, len(new), new), *chunks[one:]],
        [*before, (renamed, length, content), *after],
        [*before, (name, size, content), *after],
    ]
    return join_chunks(data, draw(st.sampled_from(changed)), order)


@st.composite
def damaged_form(draw: Any, data: bytes) -> bytes:
    """A number of the description of the samples, or a length, replaced."""
    order = _order(data)
    begin = data.find(b"COMM" if order == ">" and data[:4] == b"FORM" else b"fmt ") + 8
    fields = [(0, 2), (2, 2), (2, 4), (4, 4), (6, 2), (8, 4), (8, 2), (12, 2), (14, 2), (16, 2), (24, 2)]
    lengths = [(place, 4) for place in (4, data.find(b"data") + 4, data.find(b"SSND") + 4, begin - 4, 20)]
    described = st.sampled_from([(begin + place, size) for place, size in fields])
    place, size = draw(mostly(described, st.sampled_from(lengths), 2))
    value = draw(st.sampled_from(ODD_FORM + ODD_LENGTHS if size == 4 else ODD_FORM))
    packed = struct.pack(order + {2: "H", 4: "I"}[size], value & (1 << 8 * size) - 1)
    return data[:place] + packed + data[place + size :]


def _find_chunks(data: bytes, order: str) -> dict[bytes, bytes]:
    """The content of each chunk by its name, the first of a name; those behind a wrong length are found by their name.

    Audio of which the header gives no length, or a longer one than there is, goes to the end of the file.
    """
    chunks = {name: content for name, _, content in reversed(split_chunks(data, order))}
    least = {b"fmt ": 16, b"COMM": 18, b"SSND": 9, b"data": 1}
    for name, length in least.items():
        begin = data.find(name) + 8
        if begin > 8 and len(chunks.get(name, b"")) < length:
            claimed = struct.unpack(order + "I", data[begin - 4 : begin])[0]
            if name == b"data" and data[12:16] == b"ds64":  # first in an RF64 file, whatever its own length says
                claimed = struct.unpack("<Q", data[28:36])[0]
            there = claimed if length <= claimed <= len(data) - begin else len(data) - begin
            chunks[name] = data[begin : begin + there]
    return chunks


def read_independently(data: bytes) -> Read | None:
    """What a file's own header says that its samples are: integers and floats in RIFF, RF64 and AIFF; else None."""
    order = _order(data)
    chunks = _find_chunks(data, order)
    if data[:4] in (b"RIFF", b"RIFX", b"RF64"):
        tag, _, rate, _, _, bits = struct.unpack(order + "HHIIHH", chunks[b"fmt "][:16])
        if tag == 0xFFFE:
            tag = struct.unpack(order + "H", chunks[b"fmt "][24:26])[0]
        return _decode(chunks[b"data"], order, tag, bits, rate)
    if data[:4] == b"FORM" and data[8:12] == b"AIFF":
        _, frames, bits = struct.unpack(">hIh", chunks[b"COMM"][:8])
        exponent, mantissa = struct.unpack(">HQ", chunks[b"COMM"][8:18])
        rate = int(mantissa * 2.0 ** (exponent - 16383 - 63))
        sound = chunks[b"SSND"][8 + struct.unpack(">I", chunks[b"SSND"][:4])[0] :]
        return _decode(sound[: frames * (bits // 8)] if frames else sound, ">", 1, bits, rate)
    return None


def _decode(data: bytes, order: str, tag: int, bits: int, rate: int) -> Read | None:
    width = bits // 8
    if tag == 3 and bits in (32, 64):
        return np.frombuffer(data[: len(data) // width * width], f"{order}f{width}").astype(np.float64), rate
    if tag != 1 or bits not in (8, 16, 24, 32):
        return None
    if bits == 8 and order == "<":
        return (np.frombuffer(data, np.uint8).astype(np.float64) - 128) / 128, rate
    words = np.frombuffer(data[: len(data) // width * width], np.uint8).reshape(-1, width)
    words = words if order == ">" else words[:, ::-1]
    values = np.zeros(len(words), np.int64)
    for column in range(width):
        values = values * 256 + words[:, column]
    return np.where(values >= 1 << bits - 1, values - (1 << bits), values) / float(1 << bits - 1), rate


class Target:
    """`sepsearch.audio.reading.read_header` and `load_audio`: what they accept is what the header says, sample by sample."""

    typed = False

    def __init__(self, folder: Path):
        self.folder = folder
        self.sounds = make_sounds()
        self.names = sorted(self.sounds)
        self.flac = {}
        for name in self.names:
            if name.endswith(".flac"):
                self.flac[name] = soundfile.read(io.BytesIO(self.sounds[name]), dtype="float32")

    def cases(self) -> SearchStrategy[Case]:
        """Sound files with one or two damages, most of them in their headers."""

        def damages(plain: bool, data: bytes) -> SearchStrategy[bytes]:
            flips = st.one_of(flipped(data, 60), flipped(data, 100), flipped(data))
            return st.one_of(
                flips, flips, damaged(data), *((damaged_form(data), damaged_chunks(data)) if plain else ())
            )

        @st.composite
        def case(draw: Any) -> Case:
            name = draw(st.sampled_from(self.names))
            data = draw(repeated(partial(damages, not name.endswith(".flac")), self.sounds[name], 2))
            suffix = draw(
                mostly(st.just(""), st.sampled_from((".wav", ".aif", ".flac", ".WAV", ".mp3", ".", ".wav ")), 30)
            )
            return {name.split(".")[0] + suffix.rstrip(".") if suffix else name: data}

        return case()

    def check(self, case: Case) -> bool:
        """Read it; raises `Wrong` if what was accepted is not what the header says."""
        (name, data), *_ = case.items()
        path = self.folder / name
        path.write_bytes(data or b"")
        try:
            header = read_header(path)
            frames, rate, notes = header.frames, header.rate, header.notes
            audio = load_audio(path, frames, rate)
        finally:
            path.unlink()
        expect(audio.dtype == np.float32 and audio.shape == (round(frames * RATE / rate),), f"shape {audio.shape}")
        expect(bool(np.isfinite(audio).all()), "samples that are not finite")
        expect(all(note.isprintable() for note in notes), "an odd note")
        if name in self.flac:
            wanted, wanted_rate = self.flac[name][0], rate  # a wrong rate contradicts nothing that libsndfile reads
        else:
            found = read_independently(data or b"")
            if found is None:
                return True
            wanted, wanted_rate = found[0].astype(np.float32), found[1]
        expect(
            rate == wanted_rate and frames == len(wanted),
            f"{frames} samples at {rate}, not {len(wanted)} at {wanted_rate}",
        )
        if rate != RATE:
            resampled = soxr.resample(wanted, rate, RATE, quality="HQ")
            wanted = np.zeros(len(audio), np.float32)
            wanted[: len(resampled)] = resampled[: len(audio)]
        expect(bool(np.array_equal(audio, wanted)), "other samples than the file has")
        return True
