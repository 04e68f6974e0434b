"""Durations between a journal's events that do not depend on changes of the machine's clock."""

from collections.abc import Collection
from typing import Any

from sepsearch.search.events import Event

PROCESS_EVENTS = ("search", "resume", "continue")  # the first event of a process


class RunClock:
    """Moments of a journal's events such that their differences are durations, even if the machine's clock was set.

    Within a process they follow the events' `elapsed`, which is monotonic; from one process to the next, and in older
    journals, `time`, of which a step back counts as none.
    """

    def __init__(self) -> None:
        self._last: tuple[float, float, float | None] | None = None  # moment, time, elapsed of the last event

    def read(self, event: Event) -> float:
        """The moment of the next event: seconds since 1970 on a clock that was not set since the first event."""
        time, elapsed = event["time"], event.get("elapsed")
        if self._last is None:
            self._last = time, time, elapsed
            return float(time)
        moment, time_before, before = self._last
        step = time - time_before
        if event["event"] not in PROCESS_EVENTS and elapsed is not None and before is not None:
            # Less than before: a process that wrote no event at its beginning.
            step = elapsed - before if elapsed >= before else step
        moment += max(0.0, step)
        self._last = moment, time, elapsed
        return moment


class StageTimer:
    """Seconds that all processes have worked on a stage, each from its first event to its last one of the stage.

    Args:
        begins: kinds of events that begin it, or begin it anew in another process.
        kinds: kinds of events that belong to it.
    """

    def __init__(self, begins: Collection[str], kinds: Collection[str]):
        self._begins, self._kinds = begins, kinds
        self._before = self._begin = self._last = 0.0

    def add(self, event: dict[str, Any] | Event, moment: float) -> None:
        """Take in an event of any kind."""
        if event["event"] in self._begins:
            self._before += self._last - self._begin
            self._begin = self._last = moment
        elif event["event"] in self._kinds and self._begin:
            self._last = moment

    @property
    def seconds(self) -> float:
        """Altogether so far."""
        return self._before + self._last - self._begin
