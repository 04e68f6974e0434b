"""Examples: pairs of rows (mixture, the instrument's part of it), and batches drawn from them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sepsearch.errors import UserError
from sepsearch.splits import SIDES, Split, TitleFacts

Batch = tuple[Tensor, ...]

EVALUATION_BATCH = 64
HELD_BACK = 0.2


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
            facts.append(TitleFacts(title, sizes, frozenset(code for p in pieces for code in self.players[p])))
        return facts


@dataclass(frozen=True)
class Pairs:
    """Examples of one instrument on one side: rows of the mixture and of the target, and the piece; all (example,)."""

    mixture: NDArray[np.int64]
    target: NDArray[np.int64]
    piece: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.mixture)

    def pick(self, examples: NDArray[np.int64]) -> "Pairs":
        """The examples with these numbers, (example,)."""
        return Pairs(self.mixture[examples], self.target[examples], self.piece[examples])

    def weights(self) -> NDArray[np.float64]:
        """Weight of every example in a mean in which every piece counts alike; they add up to 1."""
        _, inverse, counts = np.unique(self.piece, return_inverse=True, return_counts=True)
        return 1.0 / (len(counts) * counts[inverse])


def instrument_pairs(index: RowIndex, instrument: str) -> Pairs:
    """All examples of an instrument: every subset with one of its players, with the members that play it.

    Rows in which nothing sounds are no examples.
    """
    mixtures, targets = [], []
    own = np.array([sum(1 << i for i, code in enumerate(p) if code == instrument) for p in index.players])
    holds = (index.subset & own[index.piece]) != 0
    row_of = {key: row for row, key in enumerate(zip(index.piece, index.clip, index.subset, strict=True))}
    for row in np.flatnonzero(holds & (index.sound > 0)):
        piece = index.piece[row]
        mixtures.append(row)
        targets.append(row_of[piece, index.clip[row], index.subset[row] & own[piece]])
    mixture = np.array(mixtures, dtype=np.int64)
    return Pairs(mixture, np.array(targets, dtype=np.int64), index.piece[mixture])


def split_pairs(
    index: RowIndex, split: Split, instruments: Sequence[str]
) -> tuple[dict[str, dict[str, Pairs]], dict[str, str]]:
    """Examples by instrument and side ("train", "validation", "test"), and the rule of each instrument that needs one.

    Rules are keys of `splits.RULES`: the split's own, or "shared clips" where a side would be left empty.

    Raises:
        UserError: an instrument is not in the recordings, or nothing of it sounds.
    """
    examples, rules = {}, {}
    for code in instruments:
        if code not in index.instruments:
            known = ", ".join(index.instruments)
            raise UserError(f"instruments: {code!r} does not play in these recordings, expected some of {known}")
        pairs = instrument_pairs(index, code)
        if not len(pairs):
            raise UserError(f"instruments: nothing sounds in the clips of {code}; leave it out (--instruments)")
        examples[code] = {side: _part(index, split, code, pairs, side) for side in SIDES}
        if code in split.rules:
            rules[code] = split.rules[code]
        if not all(len(part) for part in examples[code].values()):
            rules[code] = "shared clips"
            examples[code] = dict.fromkeys(SIDES, pairs)
    return examples, rules


def _part(index: RowIndex, split: Split, code: str, pairs: Pairs, side: str) -> Pairs:
    """The examples of one instrument that lie on a side."""
    title, position = _places(index, pairs)
    names, counts = np.unique(title, return_counts=True)
    titles = [str(name) for _, name in sorted(zip(-counts, names, strict=True))]
    chosen = np.zeros(len(pairs), dtype=bool)
    for name, (begin, end) in split.parts(code, titles, side).items():
        chosen |= (title == name) & (position >= begin) & (position < end)
    return pairs.pick(np.flatnonzero(chosen))


def _places(index: RowIndex, pairs: Pairs) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """Title and, from 0 to 1, place in its piece of every example."""
    position = (index.clip[pairs.mixture] + 0.5) / index.clips_of_piece()[pairs.piece]
    return np.array(index.titles)[pairs.piece], position


@dataclass(frozen=True)
class Fold:
    """An instrument's examples with `title` left out: "train" and "validation" on other titles, "test" on that one."""

    id: str
    instrument: str
    title: str
    sides: Mapping[str, Pairs]


def leave_one_title_out(index: RowIndex, instrument: str, groups: Sequence[Sequence[str]] = ()) -> list[Fold]:
    """A fold for every title of an instrument; none at all where one of them would have an empty side.

    Titles of one group (they share a take) are left out together. The last fifth of every other piece validates, at
    least its last clip: only to tell the best epoch.
    """
    pairs = instrument_pairs(index, instrument)
    title, position = _places(index, pairs)
    clips = index.clips_of_piece()[pairs.piece]
    held = (position >= 1 - HELD_BACK) | ((clips > 1) & (index.clip[pairs.mixture] == clips - 1))
    folds = []
    for number, name in enumerate(sorted(set(title.tolist())), 1):
        kin = next((group for group in groups if name in group), [name])
        other = ~np.isin(title, list(kin))
        masks = {"train": other & ~held, "validation": other & held, "test": title == name}
        if not all(mask.any() for mask in masks.values()):
            return []
        sides = {side: pairs.pick(np.flatnonzero(mask)) for side, mask in masks.items()}
        folds.append(Fold(f"{instrument}-{number}", instrument, str(name), sides))
    return folds


def sample_pairs(pairs: Pairs, limit: int, seed: int) -> Pairs:
    """At most `limit` examples, piece by piece in turn so that every piece keeps about as many; all when few enough."""
    if len(pairs) <= limit:
        return pairs
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pairs))
    turn = np.zeros(len(pairs), dtype=np.int64)
    for piece in np.unique(pairs.piece):
        mine = order[pairs.piece[order] == piece]
        turn[mine] = np.arange(len(mine))
    chosen = np.sort(order[np.argsort(turn[order], kind="stable")][:limit])
    return pairs.pick(chosen)


class Batches:
    """Training batches of one instrument: a piece drawn evenly, then one of its examples, `size` times.

    So quintets, which have many subsets, do not drown duets. The draws depend on `seed` alone.
    """

    def __init__(self, pairs: Pairs, size: int, seed: int):
        order = np.argsort(pairs.piece, kind="stable")
        self._mixture, self._target = pairs.mixture[order], pairs.target[order]
        _, self._first, self._count = np.unique(pairs.piece[order], return_index=True, return_counts=True)
        self._size, self._rng = size, np.random.default_rng(seed)

    @property
    def state(self) -> dict[str, Any]:
        """Where the draws are: plain numbers; batches of the same examples and size go on from there once it is set."""
        return dict(self._rng.bit_generator.state)

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self._rng.bit_generator.state = dict(state)

    def draw(self, batches: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Row numbers (mixture, target), each int64 (size,), batch by batch."""
        for _ in range(batches):
            piece = self._rng.integers(len(self._first), size=self._size)
            example = self._first[piece] + self._rng.integers(self._count[piece])
            yield torch.from_numpy(self._mixture[example]), torch.from_numpy(self._target[example])


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
    """What a trial trains on: rows, examples by instrument and side, and each instrument's identity loss.

    The identity loss is that of the validation examples; it scales the instrument's ratio.
    """

    rows: Rows
    examples: Mapping[str, Mapping[str, Pairs]]
    identity: Mapping[str, float]


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
