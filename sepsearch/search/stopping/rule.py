"""Interface of early-stopping rules, which search plans, replays and reports use."""

from typing import Protocol, runtime_checkable


class StoppingRule(Protocol):
    """Decides after an epoch whether a trial goes on.

    A rule is deterministic: its decisions follow from the sequence of calls alone, which is the order of the events in
    a journal. A resumed run repeats them.

    Attributes:
        factor: reduction factor: the best 1/factor of the trials at a rung go on. Rules without rungs keep it for
            display alone.
        values: rung (in epochs) → trial → value there, smaller is better; rungs in ascending order.
    """

    factor: int
    values: dict[int, dict[str, float]]

    def record(self, trial: str, epoch: int, value: float) -> None:
        """Record a trial's value after an epoch without a decision."""

    def report(self, trial: str, epoch: int, value: float) -> int | None:
        """Record a trial's value after an epoch; the rung (= this epoch) at which it ends or pauses, None to go on.

        Called for every epoch up to the full budget, where it returns None.
        """

    def cutoff(self, rung: int) -> float | None:
        """The largest value that goes on at a rung now; None where there is none."""

    def note(self, trial: str, rung: int) -> str:
        """What the last decision on a trial followed from beside the values at the rung; "" for nothing."""


@runtime_checkable
class PausingRule(StoppingRule, Protocol):
    """A rule whose trials pause at rungs and may go on later: the rung that `report` returns is a pause, not an end."""

    def paused(self, trial: str, rung: int) -> None:
        """A trial's worker is free, its checkpoint is there: from now on it can be promoted."""

    def promotable(self) -> tuple[str, int] | None:
        """The paused trial that goes on next, and its rung; None where no trial is good enough now."""

    def finishing(self) -> tuple[str, int] | None:
        """The paused trial that goes on at the end of a search in which none has completed; None to leave it so."""

    def promoted(self, trial: str, rung: int) -> None:
        """A trial that was paused at a rung goes on."""

    def withdrawn(self, trial: str) -> None:
        """A paused trial has ended: it is not promoted any more, and its values stay."""
