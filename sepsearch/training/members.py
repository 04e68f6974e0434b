"""Members of a bank of networks: what is trained, its numbers after an epoch, its state."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


class TrainingFailed(Exception):
    """A bank that cannot go on: a loss that is not finite, or no network that puts out anything but zeros.

    The message is the reason.
    """


@dataclass(frozen=True)
class Member:
    """One instrument's network of a bank, or its output of a network that several share.

    All randomness of a network of its own comes from both fields.
    """

    instrument: str
    seed: int

    def random_seed(self, purpose: str) -> int:
        """A seed for one purpose, the same on every machine, independent of the other members."""
        return int.from_bytes(hashlib.sha256(f"{self.instrument}/{self.seed}/{purpose}".encode()).digest()[:6], "big")


@dataclass(frozen=True)
class MemberResult:
    """One instrument after an epoch. Losses are mean squared errors, every piece counting alike.

    `ratio` is validation loss / identity loss; `gradient_norm` the mean over the epoch's batches; `zero_share` the
    part of the validation output that is exactly 0; `dead` says that all of it is, so the ratio is that of silence;
    `discontinuity` says that a loss has just jumped. `weights` copies those of the network with this output alone.
    """

    member: Member
    train_loss: float
    val_loss: float
    identity_loss: float
    gradient_norm: float
    zero_share: float
    discontinuity: bool
    weights: Callable[[], dict[str, torch.Tensor]] = field(repr=False, compare=False)

    @property
    def dead(self) -> bool:
        """Whether the network puts out nothing but zeros."""
        return self.zero_share == 1.0

    @property
    def ratio(self) -> float:
        """Validation loss / identity loss: below 1 beats doing nothing; NaN where there is nothing to separate."""
        return self.val_loss / self.identity_loss if self.identity_loss > 0 else math.nan


@dataclass(frozen=True)
class NetworkState:
    """All that a network needs to go on with the same numbers: tensors by name, and values that JSON can hold."""

    tensors: Mapping[str, torch.Tensor]
    values: Mapping[str, Any]

    def part(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of "network", "average" or "optimizer"; empty for none."""
        return {key.removeprefix(f"{name}/"): t for key, t in self.tensors.items() if key.startswith(f"{name}/")}


@dataclass(frozen=True)
class BankState:
    """A bank after `epoch` epochs: the state of every network, by its name."""

    epoch: int
    networks: Mapping[str, NetworkState]
