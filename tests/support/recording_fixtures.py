"""Miniature recordings for tests: a few seconds of music-like sound in the layouts that users have."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

RATE = 48_000
LOWEST_NOTE = {  # MIDI, so that every instrument of a test has its own place
    "vn": 67,
    "va": 57,
    "vc": 43,
    "db": 31,
    "fl": 76,
    "ob": 70,
    "cl": 62,
    "sax": 56,
    "bn": 40,
    "tpt": 64,
    "hn": 50,
    "tbn": 45,
    "tba": 33,
}


def melody(code: str, seconds: float, rng: np.random.Generator, rate: int = RATE) -> np.ndarray:
    """Random notes of an instrument, float64, shape (samples,), peak 0.15, with a silent lead-in."""
    audio = np.zeros(round(seconds * rate))
    start = rng.uniform(0.05, 0.15) * seconds
    while start < seconds - 0.1:
        length = min(rng.uniform(0.2, 0.5), seconds - start)
        pitch = 440 * 2 ** ((LOWEST_NOTE[code] + rng.integers(12) + rng.uniform(-0.2, 0.2) - 69) / 12)
        time = np.arange(int(length * rate)) / rate
        turns = [pitch * k * time + rng.uniform() for k in range(1, 7)]
        partials = [np.sin(2 * np.pi * turn) / k ** rng.uniform(1, 2) for k, turn in enumerate(turns, 1)]
        envelope = np.sin(np.pi * time / length) ** rng.uniform(0.3, 1)
        begin = int(start * rate)
        audio[begin : begin + len(time)] += sum(partials) * envelope
        start += length * rng.uniform(0.95, 1.2)
    audio *= 0.15 / np.abs(audio).max()
    return audio


def write_wav(path: Path, audio: np.ndarray, rate: int = RATE, subtype: str = "PCM_24") -> None:
    """Write audio, shape (samples,) or (samples, channels), and the folders that `path` needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, subtype=subtype)


def write_urmp_piece(
    root: Path, name: str, seconds: float, seed: int = 0, instruments: Sequence[str] | None = None
) -> Path:
    """Write one piece in URMP's layout and the junk beside it; the third stem of piece 15 is mislabelled.

    The instruments are the words after the first two of `name` unless they are given.
    """
    number, title, *codes = name.split("_")
    codes = list(instruments or codes)
    if instruments:
        title = "_".join(name.split("_")[1 : -len(codes)])
    rng = np.random.default_rng([seed, *name.encode()])
    folder, mixture = root / name, np.zeros(round(seconds * RATE))
    for k, code in enumerate(codes, start=1):
        stem = np.round(melody(code, seconds, rng) * 2**23) / 2**23
        mixture += stem
        label = "tpt" if (number, k) == ("15", 3) else code
        tail = f"{k}_{label}_{number}_{title}"
        write_wav(folder / f"AuSep_{tail}.wav", stem)
        (folder / f"F0s_{tail}.txt").write_text("0.000\t0.0\n")
        (folder / f"Notes_{tail}.txt").write_text("0.5\t440.0\t0.4\n")
        (folder / f"._AuSep_{tail}.wav").write_bytes(b"\0\5\26\7")
    write_wav(folder / f"AuMix_{name}.wav", mixture)
    for junk in (f"Sco_{name}.mid", f"Sco_{name}.pdf", f"Vid_{name}.mp4", ".DS_Store"):
        (folder / junk).write_bytes(b"no audio")
    return folder


def write_urmp_tree(root: Path, pieces: Sequence[tuple[str, float]], seed: int = 0) -> Path:
    """Write (folder name, seconds) pieces such as ("01_Jupiter_vn_vc", 2.0) in URMP's layout; return `root`.

    Every stem has notes of its own, so no two pieces share a take.
    """
    for name, seconds in pieces:
        write_urmp_piece(root, name, seconds, seed)
    (root / "Supplementary_Files").mkdir(parents=True, exist_ok=True)
    write_wav(root / "Supplementary_Files" / "example.wav", np.zeros((480, 2)))
    (root / ".DS_Store").write_bytes(b"no audio")
    return root


def write_plain_tree(root: Path, pieces: Mapping[str, Sequence[str]], seconds: float = 2.0, seed: int = 0) -> Path:
    """Write pieces in the plain layout, such as {"Elise--take2": ["vn", "vc_1", "vc_2", "mix"]}; return `root`."""
    for name, files in pieces.items():
        rng = np.random.default_rng([seed, *name.encode()])
        stems = {file: melody(file.split("_")[0], seconds, rng) for file in files if file != "mix"}
        for file in files:
            write_wav(root / name / f"{file}.wav", stems[file] if file != "mix" else sum(stems.values()))
    return root
