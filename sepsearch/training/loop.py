"""Training: `fit`, a generator of epochs over a bank of networks. Knows nothing of Ray, MLflow or the command line."""

import contextlib
import functools
import hashlib
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from torch import nn

from sepsearch.data.dataset import EVALUATION_BATCH, Batches, BatchStream, Dataset, Pairs, Rows, evaluation_batches
from sepsearch.models.families import Config, make_network
from sepsearch.training.metrics import is_discontinuity


class TrainingFailed(Exception):
    """A bank that cannot go on: a loss that is not finite, or a dead network. The message is the reason."""


@dataclass(frozen=True)
class Member:
    """One network of a bank: it learns `instrument`, and all its randomness comes from both fields."""

    instrument: str
    seed: int

    def random_seed(self, purpose: str) -> int:
        """A seed for one purpose, the same on every machine, independent of the other members."""
        return int.from_bytes(hashlib.sha256(f"{self.instrument}/{self.seed}/{purpose}".encode()).digest()[:6], "big")


@dataclass(frozen=True)
class MemberResult:
    """One network after an epoch. Losses are mean squared errors, every piece counting alike.

    `ratio` is validation loss / identity loss; `gradient_norm` the mean over the epoch's batches; `zero_share` the
    part of the validation output that is exactly 0; `discontinuity` says that a loss has just jumped.
    """

    member: Member
    train_loss: float
    val_loss: float
    identity_loss: float
    gradient_norm: float
    zero_share: float
    discontinuity: bool
    network: nn.Module = field(repr=False, compare=False)

    @property
    def ratio(self) -> float:
        """Validation loss / identity loss: below 1 beats doing nothing; NaN where there is nothing to separate."""
        return self.val_loss / self.identity_loss if self.identity_loss > 0 else math.nan


@dataclass(frozen=True)
class MemberState:
    """All that a member needs to go on with the same numbers: tensors by name, and values that JSON can hold."""

    tensors: Mapping[str, torch.Tensor]
    values: Mapping[str, Any]


@dataclass(frozen=True)
class BankState:
    """A bank after `epoch` epochs."""

    epoch: int
    members: Mapping[Member, MemberState]


@dataclass(frozen=True)
class EpochResult:
    """A bank after an epoch (counted from 1). `seconds` is the epoch's wall time, validation included.

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
    batches_per_epoch: int,
    state: BankState | None = None,
) -> Iterator[EpochResult]:
    """Train one network per member, all with one configuration, and yield after every epoch.

    Members are trained in lockstep (the same number of batches each per epoch) and independently: a member's numbers
    do not depend on who else is in the bank.

    Args:
        config: the networks' configuration, learning rate, L2 penalty and batch size.
        data: rows on a device, examples and identity losses.
        members: (instrument, seed) pairs.
        epochs: the last epoch to yield; the consumer may stop earlier.
        batches_per_epoch: batches per member and epoch.
        state: go on after that epoch, of a bank of the same configuration and members, as if it had never stopped.

    Raises:
        TrainingFailed: a loss is not finite, or a network puts out nothing but zeros.
    """
    bank = [_Learner(config, data, member) for member in members]
    for learner in bank if state else ():
        assert state is not None
        learner.restore(state.members[learner.member])
    first = state.epoch + 1 if state else 1
    streams = _one_ahead(_streams(bank, max(0, epochs - first + 1), batches_per_epoch))
    with contextlib.closing(streams):
        for epoch in range(first, epochs + 1):
            begin = time.perf_counter()
            trained = [learner.train(next(streams), batches_per_epoch) for learner in bank]
            seconds = time.perf_counter() - begin
            results = tuple(
                learner.judge(epoch, loss, norm, next(streams))
                for learner, (loss, norm) in zip(bank, trained, strict=True)
            )
            examples = len(bank) * batches_per_epoch * config.batch_size
            yield EpochResult(
                epoch, results, time.perf_counter() - begin, examples / seconds, functools.partial(_state, bank, epoch)
            )


def _streams(bank: Sequence["_Learner"], epochs: int, batches: int) -> Iterator[BatchStream]:
    """All that a bank reads, in its order: every epoch the members' training, then their validation."""
    for _ in range(epochs):
        for learner in bank:
            yield learner.draw(batches)
        for learner in bank:
            yield learner.rows.stream(evaluation_batches(learner.validation))


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


def _state(bank: Sequence["_Learner"], epoch: int) -> BankState:
    return BankState(epoch, {learner.member: learner.state() for learner in bank})


@dataclass
class _Curves:
    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)


class _Learner:
    """A member at work: its network, optimizer and batches."""

    def __init__(self, config: Config, data: Dataset, member: Member):
        examples = data.examples[member.instrument]
        self.member, self.rows, self.validation = member, data.rows, examples["validation"]
        self.identity_loss = data.identity[member.instrument]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(member.random_seed("network"))
            self.network = make_network(config).to(data.rows.device)
        # Adam adds weight_decay · w to the gradient: an L2 penalty, as the reference has (AdamW decays apart from it).
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, weight_decay=config.l2)
        self.batches = Batches(examples["train"], config.batch_size, member.random_seed("batches"))
        self.random = self.batches.state
        self.curves = _Curves()

    def state(self) -> MemberState:
        """Network, optimizer, random numbers of the batches, and the curves that discontinuities are found in."""
        tensors = {f"network/{name}": tensor for name, tensor in self.network.state_dict().items()}
        for number, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{name}": tensor for name, tensor in slots.items()}
        values = {"batches": self.random, "train": self.curves.train, "validation": self.curves.validation}
        return MemberState(tensors, values)

    def restore(self, state: MemberState) -> None:
        """Take over a state."""
        slots: dict[int, dict[str, torch.Tensor]] = {}
        network = {}
        for key, tensor in state.tensors.items():
            part, _, name = key.partition("/")
            if part == "network":
                network[name] = tensor
            else:
                number, _, slot = name.partition("/")
                slots.setdefault(int(number), {})[slot] = tensor
        self.network.load_state_dict(network)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": slots})
        self.batches.state = self.random = state.values["batches"]
        self.curves = _Curves(list(state.values["train"]), list(state.values["validation"]))

    def draw(self, batches: int) -> BatchStream:
        """The batches of the next epoch; as a state says it, they are not drawn before they are trained."""
        return self.rows.stream(self.batches.draw(batches))

    def train(self, stream: BatchStream, batches: int) -> tuple[float, float]:
        """One epoch; returns the means over its batches of the loss and of the gradient's norm."""
        self.network.train()
        device = self.rows.device
        loss_sum, norm_sum = torch.zeros((), device=device), torch.zeros((), device=device)
        parameters = list(self.network.parameters())
        for mixture, target in stream:
            self.optimizer.zero_grad()
            loss = nn.functional.mse_loss(self.network(mixture), target)
            loss.backward()
            norm_sum += nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            self.optimizer.step()
            loss_sum += loss.detach()
        self.random = self.batches.state
        # Read once an epoch: on a GPU every read would wait for it.
        return float(loss_sum) / batches, float(norm_sum) / batches

    def judge(self, epoch: int, train_loss: float, gradient_norm: float, stream: BatchStream) -> MemberResult:
        """Validate after an epoch; raises `TrainingFailed` when the network is beyond hope."""
        code = self.member.instrument
        if not math.isfinite(train_loss):
            raise TrainingFailed(f"NaN: the training loss of {code} is {train_loss} in epoch {epoch}")
        val_loss, zero_share = evaluate(self.network, self.rows, self.validation, stream)
        if not math.isfinite(val_loss):
            raise TrainingFailed(f"NaN: the validation loss of {code} is {val_loss} in epoch {epoch}")
        if zero_share == 1.0:
            raise TrainingFailed(f"dead: the network of {code} puts out nothing but zeros in epoch {epoch}")
        self.curves.train.append(train_loss)
        self.curves.validation.append(val_loss)
        jumped = is_discontinuity(self.curves.train) or is_discontinuity(self.curves.validation)
        return MemberResult(
            self.member, train_loss, val_loss, self.identity_loss, gradient_norm, zero_share, jumped, self.network
        )


@torch.inference_mode()
def evaluate(network: nn.Module, rows: Rows, pairs: Pairs, stream: BatchStream | None = None) -> tuple[float, float]:
    """Mean squared error over examples, every piece counting alike, and the share of the output that is exactly 0.

    `stream` is that of the examples' `evaluation_batches` where it was begun before.
    """
    network.eval()
    weights = torch.from_numpy(pairs.weights()).to(rows.device)
    loss = torch.zeros((), dtype=torch.float64, device=rows.device)
    zeros = torch.zeros((), dtype=torch.float64, device=rows.device)
    stream = stream or rows.stream(evaluation_batches(pairs))
    for (mixture, target), weight in zip(stream, weights.split(EVALUATION_BATCH), strict=True):
        output = network(mixture)
        error = (output - target).square().mean(dim=(1, 2, 3))
        loss += (error.double() * weight).sum()
        zeros += (output == 0).double().mean() * len(mixture)
    return float(loss), float(zeros) / len(pairs)
