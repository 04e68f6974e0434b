"""What a stage of training is asked for: the plan it follows, the workers it may use, the signal that ends it early."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Params = dict[str, Any]


class Plan(Protocol):
    """What a stage trains."""

    def next(self) -> tuple[str, Params] | None:
        """Id and parameters of the next unit; None when there is no more."""

    def result(self, unit: str, result: Params) -> str | None:
        """Take in an epoch's result; a reason ends the unit there, None lets it go on."""

    def ended(self, unit: str, problem: str | None, checkpoint: Path | None) -> None:
        """A unit ended. `problem` is why, where it did not end by itself or by `result`; checkpoint its last one."""


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
            self.reason = "time budget"
        return self.reason

    def end_budget(self) -> None:
        """What comes next has no deadline."""
        self.deadline = None
        if self.reason == "time budget":
            self.reason = ""


@dataclass(frozen=True)
class Workers:
    """How many units run at once, and what each one gets."""

    concurrent: int
    cpus: float
    gpus: float
