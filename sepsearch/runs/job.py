"""One job of a run: a trial, a finalist with one seed, or a model that is trained without one title."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sepsearch.search.events import EpochEvent
from sepsearch.search.protocol import INTERRUPTED

RUNNING = "running"


class Epoch(NamedTuple):
    """One epoch of a job.

    Args:
        epoch: from 1 on.
        ratio: mean over instruments; None where it is not finite.
        seconds: how long it took.
        at: seconds that all processes had worked on the stage when it was done; pauses between them do not count.
        losses: validation loss by instrument.
        train_losses: training loss, likewise.
        ratios: validation loss / identity loss, likewise.
        jumps: instruments whose loss jumped.
    """

    epoch: int
    ratio: float | None
    seconds: float
    at: float
    losses: Mapping[str, float | None]
    train_losses: Mapping[str, float | None]
    ratios: Mapping[str, float | None]
    jumps: Sequence[str]


def make_epoch(event: EpochEvent, at: float) -> Epoch:
    """The record of an epoch's event; `at` as `Epoch` has it."""
    members = {member["instrument"]: member for member in event["members"]}
    return Epoch(
        event["epoch"],
        event["ratio"],
        event.get("seconds") or 0.0,
        at,
        losses={code: member.get("val_loss") for code, member in members.items()},
        train_losses={code: member.get("train_loss") for code, member in members.items()},
        ratios={code: member.get("ratio") for code, member in members.items()},
        jumps=[code for code, member in members.items() if member.get("discontinuity")],
    )


@dataclass(slots=True)
class Job:
    """A trial, a finalist with one seed, or a model that is trained without one title.

    `ratio` is the last epoch's, `ratios` that of each instrument, `seconds` how long it took. `state` is "running",
    "completed", "stopped" or "failed". `dead` are the instruments whose network puts out nothing but zeros. `jumps`
    counts discontinuities of losses. `history` has all epochs, if the `RunState` keeps them.
    """

    id: str
    stage: str
    params: Mapping[str, Any]
    configuration: str = ""
    seed: int | None = None
    state: str = RUNNING
    reason: str = ""
    reopens: bool = False
    epochs: int = 0
    ratio: float | None = None
    ratios: Mapping[str, float | None] = field(default_factory=dict)
    dead: Sequence[str] = ()
    seconds: float = 0.0
    jumps: int = 0
    spared: bool = False
    retries: list[str] = field(default_factory=list)
    history: list[Epoch] = field(default_factory=list)

    @property
    def remark(self) -> str:
        """What must be known about the ratio, such as "dead: vn"; "" for nothing."""
        return f"dead: {', '.join(self.dead)}" if self.dead else ""

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C has ended it: it goes on when the run is resumed."""
        return self.reason == INTERRUPTED

    @property
    def losses(self) -> dict[str, list[tuple[int, float | None]]]:
        """(epoch, validation loss) by instrument, from `history`."""
        codes = dict.fromkeys(code for one in self.history for code in one.losses)
        return {code: [(one.epoch, one.losses[code]) for one in self.history if code in one.losses] for code in codes}

    @property
    def jump_epochs(self) -> dict[str, list[int]]:
        """Epochs with discontinuities by instrument, from `history`."""
        codes = {code for one in self.history for code in one.jumps}
        return {code: [one.epoch for one in self.history if code in one.jumps] for code in codes}
