"""A synthetic data set in memory: needs torch and numpy alone."""

import numpy as np

from sepsearch.audio.spectrogram import all_subsets
from sepsearch.data.baselines import all_baselines
from sepsearch.data.dataset import Dataset, RowIndex, Rows
from sepsearch.data.split_examples import split_pairs
from sepsearch.data.splits import split_titles


def synthetic_index(pieces: dict[str, tuple[str, ...]], clips: int = 2) -> RowIndex:
    """An index over pieces (name "title" or "title/arrangement" → players), every subset of `clips` clips."""
    piece, clip, subset = [], [], []
    for number, players in enumerate(pieces.values()):
        for c in range(clips):
            for s in all_subsets(len(players)):
                piece.append(number)
                clip.append(c)
                subset.append(s)
    return RowIndex(
        names=tuple(pieces),
        titles=tuple(name.split("/")[0] for name in pieces),
        players=tuple(pieces.values()),
        piece=np.array(piece),
        clip=np.array(clip),
        subset=np.array(subset),
        sound=np.ones(len(piece), dtype=np.float32),
    )


def synthetic_rows(index: RowIndex, seed: int = 0) -> np.ndarray:
    """Float16 (row, 128, 128): every instrument sounds in its own bands, mixtures are sums."""
    codes = index.instruments
    rng = np.random.default_rng(seed)
    rows = np.zeros((len(index.piece), 128, 128), dtype=np.float32)
    voices: dict[tuple[int, int, int], np.ndarray] = {}
    for row, (piece, clip, subset) in enumerate(zip(index.piece, index.clip, index.subset, strict=True)):
        for player, code in enumerate(index.players[piece]):
            if subset >> player & 1:
                if (piece, clip, player) not in voices:
                    voice = np.zeros((128, 128), dtype=np.float32)
                    voice[:, codes.index(code) :: len(codes)] = rng.random((128, 1)) * 2
                    voices[piece, clip, player] = voice
                rows[row] += voices[piece, clip, player]
    return rows.astype(np.float16)


def synthetic_data(device: str = "cpu") -> Dataset:
    """A data set of two instruments in four titles that a network learns in a few batches."""
    index = synthetic_index({"a": ("vn", "vc"), "b": ("vn", "vc"), "c": ("vn", "vn", "vc"), "d": ("vc", "vn")})
    rows = Rows([synthetic_rows(index)], device)
    split = split_titles(index.title_facts(), seed=0)
    examples, _ = split_pairs(index, split, ["vn", "vc"])
    identity = all_baselines(rows, examples)["validation"]["identity"]
    return Dataset(rows, examples, identity)
