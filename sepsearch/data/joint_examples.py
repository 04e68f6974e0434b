"""Examples of networks with several outputs: a mixture with a target row per instrument that plays in it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sepsearch.audio.spectrogram import FRAMES
from sepsearch.data.dataset import EVALUATION_BATCH, SEARCH, Batches, Pairs, RowIndex
from sepsearch.data.split_examples import Fold

ABSENT = -1
JUDGED = ("validation", "test")


@dataclass(frozen=True)
class JointExamples:
    """Mixtures with their targets: rows of the mixture (example,) and of the targets (example, output), and the piece.

    A target is ABSENT where its instrument does not play, or is not to be trained there.
    """

    mixture: NDArray[np.int64]
    target: NDArray[np.int64]
    piece: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.mixture)

    @property
    def targets_per_example(self) -> float:
        """Mean number of targets of a drawn example: pieces are drawn evenly, then one of their examples."""
        _, inverse, counts = np.unique(self.piece, return_inverse=True, return_counts=True)
        present = (self.target != ABSENT).sum(axis=1)
        return float((present / counts[inverse]).sum() / len(counts))

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """Weight of every target in its output's mean, in which every piece counts alike, (example, output)."""
        weights = np.zeros(self.target.shape)
        for output, present in enumerate((self.target != ABSENT).T):
            _, inverse, counts = np.unique(self.piece[present], return_inverse=True, return_counts=True)
            weights[present, output] = 1.0 / (len(counts) * counts[inverse])
        return weights


def join_pairs(pairs: Sequence[Pairs]) -> JointExamples:
    """The examples of several instruments, in this order of outputs, as mixtures with several targets."""
    mixture = np.unique(np.concatenate([part.mixture for part in pairs]))
    target = np.full((len(mixture), len(pairs)), ABSENT, dtype=np.int64)
    piece = np.zeros(len(mixture), dtype=np.int64)
    for output, part in enumerate(pairs):
        place = np.searchsorted(mixture, part.mixture)
        target[place, output] = part.target
        piece[place] = part.piece
    return JointExamples(mixture, target, piece)


@dataclass(frozen=True)
class JointBatch:
    """Examples that are trained or evaluated together, as row numbers and places.

    `mixture` (example,) and `target` (target,) are row numbers, `example` and `output` (target,) say what each target
    belongs to. With `offset`, (example,), there are twice as many rows, those of the next clips behind the others, and
    an example begins at that frame.
    """

    mixture: Tensor
    target: Tensor
    example: Tensor
    output: Tensor
    offset: Tensor | None = None


def evaluation_joint_batches(examples: JointExamples) -> Iterator[JointBatch]:
    """All examples in order, as whole clips."""
    for begin in range(0, len(examples), EVALUATION_BATCH):
        yield _joint_batch(examples, np.arange(begin, min(begin + EVALUATION_BATCH, len(examples))))


def _joint_batch(examples: JointExamples, numbers: NDArray[np.int64]) -> JointBatch:
    """The examples with these numbers, (example,)."""
    target = examples.target[numbers]
    example, output = np.nonzero(target != ABSENT)
    arrays = (examples.mixture[numbers], target[example, output], example, output)
    return JointBatch(*(torch.from_numpy(array) for array in arrays))


class JointBatches:
    """Training batches of joint examples.

    Args:
        examples: joint examples.
        size: mixtures of a batch.
        seed: of the draws.
        frames: of an example.
        following: row of the same players in the next clip of every row, or -1, (row,): examples then begin anywhere
            in a clip and the next one, where that is an example with the same targets, too, so that no frame of
            another split is reached. None: examples are clips.
    """

    def __init__(
        self,
        examples: JointExamples,
        size: int,
        seed: int,
        frames: int = FRAMES,
        following: NDArray[np.int64] | None = None,
    ):
        self._examples, self._frames = examples, frames
        self._batches = Batches(examples.piece, size, seed)
        self._after = None if following is None else _examples_after(examples, following)

    @property
    def state(self) -> dict[str, Any]:
        """Where the draws are, in plain numbers."""
        return self._batches.state

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self._batches.state = state

    def draw(self, batches: int) -> list[JointBatch]:
        """The next batches."""
        return [self._batch() for _ in range(batches)]

    def _batch(self) -> JointBatch:
        numbers = self._batches.draw()
        batch = _joint_batch(self._examples, numbers)
        if self._after is None:
            return batch
        after = self._after[numbers]
        last = np.where(after == ABSENT, FRAMES, 2 * FRAMES) - self._frames
        following = _joint_batch(self._examples, np.where(after == ABSENT, numbers, after))
        mixture, target = (
            torch.cat([getattr(part, name) for part in (batch, following)]) for name in ("mixture", "target")
        )
        return JointBatch(mixture, target, batch.example, batch.output, torch.from_numpy(self._batches.offsets(last)))


def _examples_after(examples: JointExamples, following: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of every example the one with the same players and targets in the next clip, or ABSENT, (example,)."""
    row = following[examples.mixture]
    place = np.clip(np.searchsorted(examples.mixture, row), 0, len(examples) - 1)
    same_targets = ((examples.target[place] == ABSENT) == (examples.target == ABSENT)).all(axis=1)
    return np.where((examples.mixture[place] == row) & same_targets, place, ABSENT)


def excerpt(rows: Tensor, offset: Tensor, frames: int) -> Tensor:
    """Frames from an offset on of rows that continue each other.

    Args:
        rows: (2 · example, 1, frame, bin), the second half continues the first.
        offset: (example,), of the first frame.
        frames: how many.

    Returns:
        (example, 1, frames, bin)
    """
    first, second = rows.chunk(2)
    both = torch.cat([first, second], dim=2)[:, 0]
    frame = offset[:, None] + torch.arange(frames, device=offset.device)
    return both[torch.arange(len(both), device=offset.device)[:, None], frame][:, None]


def shared_training(
    index: RowIndex, examples: Mapping[str, Mapping[str, Pairs]], folds: Sequence[Fold]
) -> dict[str, dict[str, Pairs]]:
    """Training examples of networks that several instruments share: SEARCH or a fold's id → instrument → examples.

    No clip that validates or tests one of the instruments is among them, whichever it is: the layers that are shared
    would have seen it. An instrument that this leaves nothing to separate is missing, and gets a network of its own;
    so does a fold of it.

    Args:
        index: of all rows.
        examples: by instrument and split, before any are left out by sampling.
        folds: which leave one title of an instrument out; with each go the search's other instruments.
    """
    clip = index.clip_numbers()
    judged = np.concatenate([clip[splits[name].mixture] for splits in examples.values() for name in JUDGED])
    search = _outside(clip, judged, {code: splits["train"] for code, splits in examples.items()})
    shared = {SEARCH: search}
    for fold in folds:
        if fold.instrument in search:
            others = {code: pairs for code, pairs in search.items() if code != fold.instrument}
            shared[fold.id] = {fold.id: fold.splits["train"], **_outside(clip, clip[fold.held], others)}
    return shared


def _outside(clip: NDArray[np.int64], held: NDArray[np.int64], pairs: Mapping[str, Pairs]) -> dict[str, Pairs]:
    """Examples of clips that are not held, of the instruments that something to separate is left of."""
    left = {code: part.pick(np.flatnonzero(~np.isin(clip[part.mixture], held))) for code, part in pairs.items()}
    return {code: part for code, part in left.items() if len(part.separable)}
