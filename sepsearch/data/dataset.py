"""Examples: pairs of rows (mixture, the instrument's part of it), and batches drawn from them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sepsearch.data.splits import TitleFacts

Batch = tuple[Tensor, ...]

EVALUATION_BATCH = 64
SEARCH = ""  # the name of what a search trains, among those of the folds


@dataclass(frozen=True)
class RowIndex:
    """Where every row of a shard set comes from; all arrays are (row,), rows of a piece are consecutive.

    `piece` indexes `names`, `titles` and `players`; `subset` is a bit mask over `players[piece]` (instrument codes).
    `sound` is the time in seconds that something sounds in the row.
    """

    names: tuple[str, ...]
    titles: tuple[str, ...]
    players: tuple[tuple[str, ...], ...]
    piece: NDArray[np.int64]
    clip: NDArray[np.int64]
    subset: NDArray[np.int64]
    sound: NDArray[np.float32]

    @property
    def instruments(self) -> list[str]:
        """Codes of the instruments that play, sorted."""
        return sorted({code for players in self.players for code in players})

    def clips_of_piece(self) -> NDArray[np.int64]:
        """Clips of every piece, (piece,)."""
        clips = np.zeros(len(self.names), dtype=np.int64)
        np.maximum.at(clips, self.piece, self.clip + 1)
        return clips

    def clip_numbers(self) -> NDArray[np.int64]:
        """A number for every row that no clip of another piece has, (row,)."""
        numbers: NDArray[np.int64] = self.piece * (self.clip.max() + 1) + self.clip
        return numbers

    def following(self) -> NDArray[np.int64]:
        """Of every row the number of the row of the same players in the next clip of its piece, or -1, (row,)."""
        row_of = {key: row for row, key in enumerate(zip(self.piece, self.clip, self.subset, strict=True))}
        keys = zip(self.piece, self.clip + 1, self.subset, strict=True)
        return np.array([row_of.get(key, -1) for key in keys], dtype=np.int64)

    def title_facts(self) -> list[TitleFacts]:
        """What a split looks at, title by title."""
        clips = self.clips_of_piece()
        facts = []
        for title in sorted(set(self.titles)):
            pieces = [p for p, t in enumerate(self.titles) if t == title]
            sizes: dict[int, int] = {}
            for piece in pieces:
                size = len(self.players[piece])
                sizes[size] = sizes.get(size, 0) + int(clips[piece])
            codes = frozenset(code for p in pieces for code in self.players[p])
            separable = frozenset(code for code in codes if any(self._has_others(p, code) for p in pieces))
            facts.append(TitleFacts(title, sizes, codes, separable))
        return facts

    def _has_others(self, piece: int, instrument: str) -> bool:
        """Whether an instrument plays in a piece and others sound there."""
        own = own_players(self.players[piece], instrument)
        first, last = np.searchsorted(self.piece, [piece, piece + 1])
        without = self.subset[first:last] & own == 0
        return own != 0 and bool((without & (self.sound[first:last] > 0)).any())

    def separable_instruments(self) -> frozenset[str]:
        """Codes of the instruments that there is something to separate from, in at least one clip."""
        return frozenset(code for fact in self.title_facts() for code in fact.separable or ())


def own_players(players: Sequence[str], instrument: str) -> int:
    """Bit mask of the players that play an instrument."""
    return sum(1 << number for number, code in enumerate(players) if code == instrument)


@dataclass(frozen=True)
class Pairs:
    """Examples of one instrument in one split: rows of the mixture and of the target, and the piece; all (example,).

    `others`: whether anything but the instrument sounds in the mixture; where nothing does, mixture and target are the
    same, and so the identity loss is 0. None: in all of them.
    """

    mixture: NDArray[np.int64]
    target: NDArray[np.int64]
    piece: NDArray[np.int64]
    others: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.mixture)

    def pick(self, examples: NDArray[np.int64]) -> "Pairs":
        """The examples with these numbers, (example,)."""
        others = None if self.others is None else self.others[examples]
        return Pairs(self.mixture[examples], self.target[examples], self.piece[examples], others)

    @property
    def separable(self) -> NDArray[np.int64]:
        """Numbers of the examples in which there is something to separate."""
        return np.arange(len(self)) if self.others is None else np.flatnonzero(self.others)

    def weights(self) -> NDArray[np.float64]:
        """Weight of every example in a mean in which every piece counts alike; they add up to 1."""
        _, inverse, counts = np.unique(self.piece, return_inverse=True, return_counts=True)
        return 1.0 / (len(counts) * counts[inverse])


def instrument_pairs(index: RowIndex, instrument: str) -> Pairs:
    """All examples of an instrument: every subset with one of its players, with the members that play it.

    Rows in which nothing sounds are no examples.
    """
    mixtures, targets, others = [], [], []
    own = np.array([own_players(players, instrument) for players in index.players])
    holds = (index.subset & own[index.piece]) != 0
    row_of = {key: row for row, key in enumerate(zip(index.piece, index.clip, index.subset, strict=True))}
    for row in np.flatnonzero(holds & (index.sound > 0)):
        piece, clip, subset = index.piece[row], index.clip[row], index.subset[row]
        mixtures.append(row)
        targets.append(row_of[piece, clip, subset & own[piece]])
        rest = row_of.get((piece, clip, subset & ~own[piece]))
        others.append(rest is not None and index.sound[rest] > 0)
    mixture = np.array(mixtures, dtype=np.int64)
    return Pairs(mixture, np.array(targets, dtype=np.int64), index.piece[mixture], np.array(others, dtype=bool))


def sample_pairs(pairs: Pairs, limit: int, seed: int) -> Pairs:
    """At most `limit` examples, piece by piece in turn so that every piece keeps about as many; all when few enough.

    If none of them had anything to separate although there are such examples, they are drawn from those alone.
    """
    if len(pairs) <= limit:
        return pairs
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pairs))
    turn = np.zeros(len(pairs), dtype=np.int64)
    for piece in np.unique(pairs.piece):
        mine = order[pairs.piece[order] == piece]
        turn[mine] = np.arange(len(mine))
    chosen = pairs.pick(np.sort(order[np.argsort(turn[order], kind="stable")][:limit]))
    if len(pairs.separable) and not len(chosen.separable):
        return sample_pairs(pairs.pick(pairs.separable), limit, seed)
    return chosen


class Batches:
    """Training batches of examples: a piece drawn evenly, then one of its examples, `size` times.

    So quintets, which have many subsets, do not drown duets. The draws depend on `seed` alone.

    Args:
        piece: of every example, (example,).
        size: examples of a batch.
        seed: of the draws.
    """

    def __init__(self, piece: NDArray[np.int64], size: int, seed: int):
        self._order = np.argsort(piece, kind="stable")
        _, self._first, self._count = np.unique(piece[self._order], return_index=True, return_counts=True)
        self._size, self._rng = size, np.random.default_rng(seed)

    @property
    def state(self) -> dict[str, Any]:
        """Where the draws are: plain numbers; batches of the same examples and size go on from there once it is set."""
        return dict(self._rng.bit_generator.state)

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self._rng.bit_generator.state = dict(state)

    def draw(self) -> NDArray[np.int64]:
        """Numbers of the examples of the next batch, (size,)."""
        piece = self._rng.integers(len(self._first), size=self._size)
        drawn: NDArray[np.int64] = self._order[self._first[piece] + self._rng.integers(self._count[piece])]
        return drawn

    def offsets(self, last: NDArray[np.int64]) -> NDArray[np.int64]:
        """A number from 0 to `last` for every example of a batch, (size,)."""
        return self._rng.integers(last + 1)


class BatchStream(Protocol):
    """Batches of rows one after the other; to be closed where it is not read to its end."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __next__(self) -> Batch: ...

    def close(self) -> None: ...


class Rows:
    """Spectrogram rows on a device, all of them; a batch is an index.

    On a CPU the shards stay where they are (memory map or object store, shared by all workers, no copy); on a GPU they
    are copied to it once.

    Args:
        shards: float16 (row, frame, bin), in the order of the row numbers.
        device: torch device.
    """

    def __init__(self, shards: Sequence[NDArray[np.float16] | Tensor], device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        tensors = [as_tensor(shard) for shard in shards]
        self._first = np.cumsum([0] + [len(tensor) for tensor in tensors])
        if self.device.type != "cpu":
            tensors = [_joined(tensors, self.device)]
            self._first = np.array([0, len(tensors[0])])
        self._shards = tensors

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def bytes_ahead(self) -> int:
        """The most bytes of copies of rows that are held while rows are streamed."""
        return 0

    def take(self, rows: Tensor) -> Tensor:
        """Float32 (row, 1, frame, bin) on the device for int64 row numbers (row,)."""
        if len(self._shards) == 1:
            return self._shards[0][rows.to(self.device)].unsqueeze(1).float()
        numbers = rows.numpy()
        shards = np.searchsorted(self._first, numbers, side="right") - 1
        picked = [self._shards[s][r] for s, r in zip(shards, numbers - self._first[shards], strict=True)]
        return torch.stack(picked).unsqueeze(1).float()

    def stream(self, batches: Iterable[Batch]) -> BatchStream:
        """What `take` makes of every tensor of every batch of row numbers, batch by batch."""
        return (tuple(self.take(rows) for rows in batch) for batch in batches)


def as_tensor(array: NDArray[np.float16] | Tensor) -> Tensor:
    """A view of a read-only array: torch has no read-only tensors and warns, but nothing here writes to rows."""
    import warnings

    if isinstance(array, Tensor):
        return array
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _joined(tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    """All rows as one tensor on a device, which never holds any of them twice."""
    if len(tensors) == 1:
        return tensors[0].to(device)
    joined = torch.empty(sum(map(len, tensors)), *tensors[0].shape[1:], dtype=tensors[0].dtype, device=device)
    for part, tensor in zip(joined.split([len(tensor) for tensor in tensors]), tensors, strict=True):
        part.copy_(tensor)
    return joined


@dataclass(frozen=True)
class Dataset:
    """What a trial trains on: rows, examples by instrument and split, and each instrument's identity loss.

    The identity loss is that of the validation examples; it scales the instrument's ratio.
    `shared`: training examples of networks with several outputs (`joint_examples.shared_training`), by the name that
    is trained for, SEARCH or a fold's id, and instrument; without them they are the instruments' own.
    `following`: of every row the number of the row of the same players in the next clip, or -1, (row,); None where
    examples are whole clips alone.
    """

    rows: Rows
    examples: Mapping[str, Mapping[str, Pairs]]
    identity: Mapping[str, float]
    shared: Mapping[str, Mapping[str, Pairs]] = field(default_factory=dict)
    following: NDArray[np.int64] | None = None


def evaluation_batches(pairs: Pairs) -> Iterator[Batch]:
    """Row numbers (mixture, target) of all examples in order, each (batch,)."""
    mixture, target = torch.from_numpy(pairs.mixture), torch.from_numpy(pairs.target)
    for begin in range(0, len(pairs), EVALUATION_BATCH):
        part = slice(begin, begin + EVALUATION_BATCH)
        yield mixture[part], target[part]


def iterate_batches(pairs: Pairs, weights: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The same with the examples' weights: (mixture, target, weight)."""
    for (mixture, target), weight in zip(evaluation_batches(pairs), weights.split(EVALUATION_BATCH), strict=False):
        yield mixture, target, weight
