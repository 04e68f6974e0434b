"""WAV files as bytes, made chunk by chunk, for tests of headers that programs write wrongly."""

import struct

import numpy as np

UNKNOWN = 0xFFFFFFFF


def samples(count: int, bits: int = 24) -> bytes:
    """Seeded random samples, little-endian, none of them 0."""
    return np.random.default_rng(count).integers(1, 256, count * bits // 8, dtype=np.uint8).tobytes()


def chunk(name: bytes, content: bytes, length: int | None = None, padded: bool = True) -> bytes:
    """A chunk of a RIFF file: name, length (that of its content unless another is claimed), content, padding to even."""
    size = len(content) if length is None else length
    return name + struct.pack("<I", size) + content + b"\0" * (padded and len(content) % 2)


def form(
    rate: int = 48_000,
    bits: int = 24,
    channels: int = 1,
    block: int | None = None,
    speed: int | None = None,
    tag: int = 1,
) -> bytes:
    """A chunk that describes samples; `block` bytes a block and `speed` bytes a second are right unless given."""
    block = channels * bits // 8 if block is None else block
    return chunk(
        b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, block * rate if speed is None else speed, block, bits)
    )


def riff(*chunks: bytes, length: int | None = None) -> bytes:
    """A RIFF file of chunks, whose length fits unless another is claimed."""
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if length is None else length) + body


INFO = chunk(b"LIST", b"INFOISFT\x0a\0\0\0Pro Tools\0")


def decoded(audio: bytes, bits: int = 24) -> np.ndarray:
    """The whole samples of little-endian integers, float32, full scale = 1."""
    width = bits // 8
    words = np.frombuffer(audio[: len(audio) // width * width], np.uint8).reshape(-1, width).astype(np.int64)
    values = (words << (8 * np.arange(width))).sum(axis=1)
    return (np.where(values >= 1 << bits - 1, values - (1 << bits), values) / (1 << bits - 1)).astype(np.float32)
