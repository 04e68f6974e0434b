"""Training: `fit`, a generator of epochs over a bank of networks. Knows nothing of Ray, MLflow or the command line."""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from sepsearch.data.dataset import SEARCH, BatchStream, Dataset, Pairs
from sepsearch.models.families import Config
from sepsearch.training.learner import Learner
from sepsearch.training.members import BankState, Member, MemberResult, TrainingFailed


@dataclass(frozen=True)
class EpochResult:
    """A bank after an epoch (counted from 1). `seconds` is the epoch's wall time, validation included.

    `examples_per_second` counts every instrument's; a mixture whose network separates two of them counts twice.
    `state()` is what `fit` goes on from; it holds the bank's own tensors, so it must be saved before the next epoch.
    """

    epoch: int
    members: tuple[MemberResult, ...]
    seconds: float
    examples_per_second: float
    state: Callable[[], BankState] = field(repr=False, compare=False)

    @property
    def ratio(self) -> float:
        """The objective: the mean of the members' ratios, of those that have one; NaN if none has.

        An instrument whose identity loss is 0 has none: there is nothing to separate in its validation examples.
        """
        ratios = [member.ratio for member in self.members if math.isfinite(member.ratio)]
        return fmean(ratios) if ratios else math.nan


def fit(
    config: Config,
    data: Dataset,
    members: Sequence[Member],
    *,
    epochs: int,
    batches_per_epoch: float,
    state: BankState | None = None,
) -> Iterator[EpochResult]:
    """Train networks with one configuration, and yield after every epoch.

    With `heads: one` a network per member, in lockstep (the same number of batches each per epoch) and independently: a
    member's numbers do not depend on who else is in the bank. With `heads: all` a network per seed, which has an output
    per member and draws as many batches as show it every instrument's examples as often, on average.

    Args:
        config: the networks' architecture and how they are trained.
        data: rows on a device, examples and identity losses.
        members: (instrument, seed) pairs.
        epochs: the last epoch to yield, and the end of the learning rate's schedule; the consumer may stop earlier.
        batches_per_epoch: batches of every instrument's examples per epoch; at least one batch is drawn.
        state: go on after that epoch, of a bank of the same configuration and members, as if it had never stopped.

    Raises:
        TrainingFailed: a loss is not finite, or all networks put out nothing but zeros.
    """
    bank = list(_learners(config, data, members, batches_per_epoch, epochs))
    for learner in bank if state else ():
        assert state is not None
        learner.restore(state.networks[learner.name])
    first = state.epoch + 1 if state else 1
    streams = _one_ahead(_streams(bank, max(0, epochs - first + 1)))
    with contextlib.closing(streams):
        for epoch in range(first, epochs + 1):
            begin = time.perf_counter()
            trained = [learner.train(epoch, next(streams)) for learner in bank]
            seconds = time.perf_counter() - begin
            found = {
                result.member: result
                for learner, (losses, norm) in zip(bank, trained, strict=True)
                for result in learner.judge(epoch, losses, norm, next(streams))
            }
            results = tuple(found[member] for member in members)
            if all(result.dead for result in results):
                raise TrainingFailed(f"dead: {_codes(members)} put out nothing but zeros in epoch {epoch}")
            examples = len(members) * batches_per_epoch * config.training.batch_size
            yield EpochResult(
                epoch, results, time.perf_counter() - begin, examples / seconds, functools.partial(_state, bank, epoch)
            )


def _codes(members: Sequence[Member]) -> str:
    return f"the network{'s' if len(members) > 1 else ''} of {', '.join(member.instrument for member in members)}"


def _learners(
    config: Config, data: Dataset, members: Sequence[Member], batches: float, epochs: int
) -> Iterator[Learner]:
    """The networks of a bank: one per member, or one per seed for all members that may share one."""
    groups: dict[tuple[str, int], list[Member]] = {}
    for member in members:
        alone = config.training.heads == "one" or not _shares(data, member) or member.instrument in data.shared
        groups.setdefault((member.instrument if alone else SEARCH, member.seed), []).append(member)
    for group in groups.values():
        yield Learner(config, data, group, _training(config, data, group), batches, epochs)


def _shares(data: Dataset, member: Member) -> bool:
    """Whether a member may share a network: where the data set names those that do, it must be among them."""
    shared = data.shared.get(member.instrument, data.shared.get(SEARCH))
    return shared is None or member.instrument in shared


def _training(config: Config, data: Dataset, group: Sequence[Member]) -> dict[str, Pairs]:
    """Training examples by output of the network of a group of members."""
    codes = [member.instrument for member in group]
    own = {code: data.examples[code]["train"] for code in codes}
    if config.training.heads == "one" or not _shares(data, group[0]):
        return own
    fold = data.shared.get(codes[0])
    if fold is not None:  # the other instruments are trained along, without the title that is left out
        return {codes[0]: fold[codes[0]], **fold}
    shared = data.shared.get(SEARCH, own)
    return {code: shared[code] for code in codes}


def _streams(bank: Sequence[Learner], epochs: int) -> Iterator[BatchStream]:
    """All that a bank reads, in its order: every epoch the networks' training, then their validation."""
    for _ in range(epochs):
        for learner in bank:
            yield learner.training_stream()
        for learner in bank:
            yield learner.validation_stream()


def _one_ahead(streams: Iterable[BatchStream]) -> Generator[BatchStream, None, None]:
    """The streams, each of which is made before the one before it is used: rows from far away are on their way then."""
    made: list[BatchStream] = []
    try:
        for stream in streams:
            made.append(stream)
            if len(made) == 2:
                yield made[0]
                del made[0]
        yield from made
    finally:
        for stream in made:
            stream.close()


def _state(bank: Sequence[Learner], epoch: int) -> BankState:
    return BankState(epoch, {learner.name: learner.state() for learner in bank})
