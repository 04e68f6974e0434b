"""One network at work: batches, optimizer, schedule, averaging, validation."""

import copy
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sepsearch.data.dataset import BatchStream, Dataset, Pairs, Rows
from sepsearch.data.joint_examples import (
    ABSENT,
    JointBatch,
    JointBatches,
    JointExamples,
    evaluation_joint_batches,
    excerpt,
    join_pairs,
)
from sepsearch.models.families import Config, make_network, output_weights
from sepsearch.training.members import Member, MemberResult, NetworkState, TrainingFailed
from sepsearch.training.metrics import is_discontinuity
from sepsearch.training.optimization import learning_rate, make_optimizer, update_average

SHARED = "all"  # in place of an instrument, of what the members of a shared network have in common


@dataclass
class _Curves:
    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)


class Learner:
    """A network with an output per instrument, and all that trains and validates it.

    Args:
        config: its configuration.
        data: rows on a device, examples and identity losses.
        members: the first outputs, which are validated; all have the same seed.
        training: examples of every output by instrument, the members' first; others are trained along.
        batches: of an epoch, of examples of every instrument; a network with several outputs draws as many as show
            it each instrument that often on average.
        epochs: of the whole training, which the schedule of the learning rate spans.
    """

    def __init__(
        self,
        config: Config,
        data: Dataset,
        members: Sequence[Member],
        training: Mapping[str, Pairs],
        batches: float,
        epochs: int,
    ):
        first = members[0]
        self.own = own = first if len(training) == 1 else Member(SHARED, first.seed)
        self.name = f"{first.instrument}/{first.seed}"  # no other network of a bank has its first member
        self.config, self.data, self.members = config, data, tuple(members)
        self.validation = join_pairs([data.examples[member.instrument]["validation"] for member in members])
        examples = join_pairs(list(training.values()))
        settings = config.training
        self.outputs = len(training)  # more than are validated where others are trained along
        self.batches = max(1, round(batches * len(training) / examples.targets_per_example))
        self.steps = self.batches * epochs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(own.random_seed("network"))
            self.network = make_network(config, len(training)).to(data.rows.device)
        self.optimizer = make_optimizer(self.network, settings)
        self.average = copy.deepcopy(self.network) if settings.averaging else None
        following = data.following if settings.offsets == "random" else None
        if settings.offsets == "random" and following is None:
            raise ValueError("offsets: random: the data set has no `following`, the rows of the next clips")
        seed = own.random_seed("batches")
        self.draws = JointBatches(examples, settings.batch_size, seed, settings.frames, following)
        self.random = self.draws.state
        self.curves = [_Curves() for _ in members]
        self._drawn: list[JointBatch] = []

    def state(self) -> NetworkState:
        """Network, optimizer, random numbers of the batches, and the curves that discontinuities are found in."""
        tensors = {f"network/{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.average:
            tensors |= {f"average/{name}": tensor for name, tensor in self.average.state_dict().items()}
        for number, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{name}": tensor for name, tensor in slots.items()}
        curves = [[curve.train, curve.validation] for curve in self.curves]
        codes = [member.instrument for member in self.members]
        return NetworkState(tensors, {"batches": self.random, "curves": curves, "outputs": codes})

    def restore(self, state: NetworkState) -> None:
        """Take over a state."""
        slots: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.part("optimizer").items():
            number, _, slot = key.partition("/")
            slots.setdefault(int(number), {})[slot] = tensor
        self.network.load_state_dict(state.part("network"))
        if self.average:
            self.average.load_state_dict(state.part("average"))
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": slots})
        self.draws.state = self.random = state.values["batches"]
        self.curves = [_Curves(list(train), list(validation)) for train, validation in state.values["curves"]]

    def training_stream(self) -> BatchStream:
        """The rows of the next epoch; its batches are drawn here."""
        self._drawn = self.draws.draw(self.batches)
        return self.data.rows.stream([(batch.mixture, batch.target) for batch in self._drawn])

    def validation_stream(self) -> BatchStream:
        """The rows of the validation examples."""
        return _stream(self.data.rows, self.validation)

    def train(self, epoch: int, stream: BatchStream) -> tuple[list[float], float]:
        """One epoch; returns the means over its batches of every output's loss and of the gradient's norm.

        What a network draws at random, as by dropout, depends on seed and epoch alone: not on what else the process
        trains, nor on whether the epoch follows a restart.
        """
        device = self.data.rows.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.own.random_seed(f"epoch {epoch}"))
            return self._train(epoch, stream)

    def _train(self, epoch: int, stream: BatchStream) -> tuple[list[float], float]:
        self.network.train()
        device, settings = self.data.rows.device, self.config.training
        outputs, drawn = self.outputs, self._drawn
        losses, counts = torch.zeros(outputs, device=device), torch.zeros(outputs, device=device)
        norm_sum = torch.zeros((), device=device)
        for number, (batch, (mixture, target)) in enumerate(zip(drawn, stream, strict=True)):
            step = (epoch - 1) * self.batches + number
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(settings, step, self.steps)
            self.optimizer.zero_grad()
            errors, output = self._errors(batch, mixture, target)
            errors.mean().backward()
            norm_sum += self._clipped_norm(settings.clip_norm)
            self.optimizer.step()
            if self.average:
                update_average(self.average, self.network, settings.averaging, step)
            losses.index_add_(0, output, errors.detach())
            counts.index_add_(0, output, torch.ones_like(errors))
        self.random = self.draws.state
        # Read once an epoch: on a GPU every read would wait for it.
        return (losses / counts.clamp(min=1)).tolist(), float(norm_sum) / len(drawn)

    def _errors(self, batch: JointBatch, mixture: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared error of every target that is there, and its output, (target,) each."""
        device, frames = mixture.device, self.config.training.frames
        example, output = batch.example.to(device), batch.output.to(device)
        if batch.offset is not None:
            offset = batch.offset.to(device)
            mixture, target = excerpt(mixture, offset, frames), excerpt(target, offset[example], frames)
        found = self.network(mixture)[example, output]
        return (found - target[:, 0]).square().mean(dim=(1, 2)), output

    def _clipped_norm(self, largest: float) -> Tensor:
        parameters = list(self.network.parameters())
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if largest:
            nn.utils.clip_grads_with_norm_(parameters, largest, norm)
        return norm

    def judge(self, epoch: int, losses: Sequence[float], norm: float, stream: BatchStream) -> list[MemberResult]:
        """Validate after an epoch; raises `TrainingFailed` when a loss is not finite."""
        network = self.average or self.network
        found = evaluate_outputs(network, self.data.rows, self.validation, stream)
        results = []
        for number, (member, curves) in enumerate(zip(self.members, self.curves, strict=True)):
            train_loss, (val_loss, zero_share) = losses[number], found[number]
            for kind, loss in (("training", train_loss), ("validation", val_loss)):
                if not math.isfinite(loss):
                    raise TrainingFailed(f"NaN: the {kind} loss of {member.instrument} is {loss} in epoch {epoch}")
            curves.train.append(train_loss)
            curves.validation.append(val_loss)
            jumped = is_discontinuity(curves.train) or is_discontinuity(curves.validation)
            identity = self.data.identity[member.instrument]
            weights = functools.partial(_output_weights, self.config, network, number)
            results.append(MemberResult(member, train_loss, val_loss, identity, norm, zero_share, jumped, weights))
        return results


def _output_weights(config: Config, network: nn.Module, output: int) -> dict[str, Tensor]:
    return output_weights(config, network.state_dict(), output)


def _stream(rows: Rows, examples: JointExamples) -> BatchStream:
    return rows.stream((batch.mixture, batch.target) for batch in evaluation_joint_batches(examples))


def evaluate(network: nn.Module, rows: Rows, pairs: Pairs) -> tuple[float, float]:
    """Mean squared error over examples, every piece counting alike, and the share of the output that is exactly 0."""
    joint = join_pairs([pairs])
    return evaluate_outputs(network, rows, joint, _stream(rows, joint))[0]


@torch.inference_mode()
def evaluate_outputs(
    network: nn.Module, rows: Rows, joint: JointExamples, stream: BatchStream
) -> list[tuple[float, float]]:
    """Of every output the mean squared error over its targets, pieces counting alike, and the share of exact zeros.

    Args:
        network: with at least as many outputs.
        rows: that the examples are of.
        joint: the examples.
        stream: of the rows of `joint`, in order.
    """
    network.eval()
    device = rows.device
    weights = torch.from_numpy(joint.weights)
    outputs = joint.target.shape[1]
    loss = torch.zeros(outputs, dtype=torch.float64, device=device)
    zeros = torch.zeros(outputs, dtype=torch.float64, device=device)
    begin = 0
    for batch, (mixture, target) in zip(evaluation_joint_batches(joint), stream, strict=True):
        example, output = batch.example.to(device), batch.output.to(device)
        found = network(mixture)[example, output]
        errors = (found - target[:, 0]).square().mean(dim=(1, 2)).double()
        loss.index_add_(0, output, errors * weights[begin + batch.example, batch.output].to(device))
        zeros.index_add_(0, output, (found == 0).double().mean(dim=(1, 2)))
        begin += len(mixture)
    counts = (joint.target != ABSENT).sum(axis=0).tolist()
    return [(one, share / count) for one, share, count in zip(loss.tolist(), zeros.tolist(), counts, strict=True)]
