"""One shard: all rows of one piece, written as an Arrow file."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sepsearch.audio.spectrogram import FrontEnd, all_subsets, compress, count_clips, iterate_clips
from sepsearch.data.recordings import Piece, load_piece
from sepsearch.utils.files import file_sha256

FULL_PLAYERS = 5  # up to so many players every subset is a row; beyond, SAMPLED_SUBSETS of them (and their targets)
SAMPLED_SUBSETS = 31


def count_rows(piece: Piece, front_end: FrontEnd) -> int:
    """How many rows a piece has."""
    return count_clips(front_end, max(stem.samples for stem in piece.stems)) * len(piece_subsets(piece))


def piece_subsets(piece: Piece) -> tuple[int, ...]:
    """The subsets of players that become rows, as bit masks in counting order.

    All of them up to FULL_PLAYERS players. Beyond: every single player, everyone, and SAMPLED_SUBSETS drawn from the
    piece's name; with each also its members of every one instrument, so that a target is always a row.
    """
    players = len(piece.stems)
    if players <= FULL_PLAYERS:
        return all_subsets(players)
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(piece.name.encode()).digest()[:8], "big"))
    chosen = {1 << player for player in range(players)} | {2**players - 1}
    chosen |= {int(mask) for mask in rng.integers(1, 2**players, size=SAMPLED_SUBSETS)}
    own: dict[str, int] = {}
    for player, stem in enumerate(piece.stems):
        own[stem.instrument] = own.get(stem.instrument, 0) | 1 << player
    return tuple(sorted(chosen | {mask & part for mask in chosen for part in own.values() if mask & part}))


def write_shard(piece: Piece, front_end: FrontEnd, constant: float, rms: float, path: Path) -> dict[str, Any]:
    """Write one shard; returns its file name, rows, bytes and checksum."""
    import pyarrow as pa

    torch.set_num_threads(1)  # of this thread: the other cores have pieces of their own
    subsets = piece_subsets(piece)
    members = [[stem for i, stem in enumerate(piece.stems) if subset >> i & 1] for subset in subsets]
    clips, tensors, sound = [], [], []
    # A frame sounds when its loudest band is not 40 dB below the level of the recordings.
    threshold = float(compress(torch.tensor(rms / 100), constant))
    for clip, rows in iterate_clips(front_end, load_piece(piece), subsets, constant):
        tensors.append(rows.numpy())
        clips += [clip] * len(subsets)
        sound.append((rows.amax(dim=2) > threshold).float().mean(dim=1).numpy() * front_end.clip_seconds)
    count = len(tensors)
    table = pa.table(
        {
            "piece": pa.array([piece.name] * len(clips)),
            "title": pa.array([piece.title] * len(clips)),
            "clip": pa.array(clips, pa.int32()),
            "subset": pa.array(list(subsets) * count, pa.int64()),
            "members": pa.array([[stem.name for stem in group] for group in members] * count),
            "instruments": pa.array([[stem.instrument for stem in group] for group in members] * count),
            "sound_seconds": pa.array(np.concatenate(sound), pa.float32()),
            "spectrogram": pa.FixedShapeTensorArray.from_numpy_ndarray(
                np.concatenate(tensors), dim_names=["frame", "bin"]
            ),
        }
    )
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    facts = {"clips": count, "rows": len(table), "bytes": path.stat().st_size}
    return {"file": path.name, **facts, "sha256": file_sha256(path)}
