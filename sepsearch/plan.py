"""What a stage of training is asked for: the plan it follows, the workers it may use, the signal that ends it early."""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from sepsearch.places import Place

Params = dict[str, Any]

INTERRUPTED, TIME_BUDGET = "interrupted", "time budget"


@dataclass(frozen=True)
class Ending:
    """How a unit came to its end: by itself or by the plan ("returned"), from outside ("halted"), by an exception

    ("raised"), or with its worker ("died"). `reason` says more where there is more to say.
    """

    how: Literal["returned", "halted", "raised", "died"] = "returned"
    reason: str = ""


RETURNED = Ending()


class Plan(Protocol):
    """What a stage trains."""

    def next(self) -> tuple[str, Params] | None:
        """Id and parameters of the next unit; None when there is none now."""

    def finished(self) -> bool:
        """Whether all units have ended and no more will come."""

    def result(self, unit: str, result: Params) -> str | None:
        """Take in an epoch's result; a reason ends the unit there, None lets it go on."""

    def ended(self, unit: str, ending: Ending) -> None:
        """A unit ended; the plan may hand it out again."""

    def give_up(self, reason: str) -> None:
        """Nobody will train what is still unfinished."""


class Attempts:
    """Units that wait to be handed out again, and how often the worker of each has died.

    Args:
        limit: how often a unit is tried again after its worker's death.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.deaths: dict[str, int] = {}
        self.waiting: list[str] = []

    def again(self, unit: str) -> int | None:
        """Count a death: the number of the attempt to come, or None when there were enough."""
        deaths = self.deaths.get(unit, 0) + 1
        return deaths if deaths <= self.limit else None

    def failure(self, unit: str, ending: Ending) -> str:
        """Why a unit that is not tried again has failed."""
        if ending.how == "died" and self.limit:
            return f"{ending.reason} ({self.deaths.get(unit, 0) + 1} times)"
        return ending.reason or "the worker returned early"


def remove_checkpoints(place: Place | None, units: Iterable[str]) -> None:
    """Remove the checkpoints of units that have ended."""
    if place is not None:
        place.remove(*(f"{unit}.checkpoint" for unit in units))


@dataclass
class StopSignal:
    """Why everything must stop, once there is a reason: set by a signal handler or by the deadline.

    `deadline` is in seconds of `time.monotonic`.
    """

    deadline: float | None = None
    reason: str = field(default="", init=False)

    def check(self) -> str:
        """The reason to stop, or an empty string."""
        if not self.reason and self.deadline is not None and time.monotonic() > self.deadline:
            self.reason = TIME_BUDGET
        return self.reason

    def end_budget(self) -> None:
        """What comes next has no deadline."""
        self.deadline = None
        if self.reason == TIME_BUDGET:
            self.reason = ""


@dataclass(frozen=True)
class Workers:
    """How many units run at once, and what each one gets."""

    concurrent: int
    cpus: float
    gpus: float

    def fit(self, resources: Mapping[str, float]) -> int:
        """How many run at once on a node that has these resources."""
        fits = [resources.get("CPU", 0.0) / self.cpus]
        if self.gpus:
            fits.append(resources.get("GPU", 0.0) / self.gpus)
        return min(math.floor(min(fits) + 1e-9), self.concurrent)
