"""What a run's journal tells of it: how far it is, what is still to do, and what has changed since it began."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sepsearch.search.events import Event
from sepsearch.search.protocol import reopens

STAGES = {
    "search": ("trial", "epoch", "spared", "retry", "trial_end"),
    "finalists": ("final", "final_epoch", "final_end", "fold", "fold_epoch", "fold_end"),
}
SHOWN = 6  # differences that are told one by one


class RunClock:
    """Moments of a journal's events such that their differences are durations, whatever became of the machine's clock.

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
        if event["event"] not in ("search", "resume") and elapsed is not None and before is not None:
            # Less than before: a process that wrote no event at its beginning.
            step = elapsed - before if elapsed >= before else step
        moment += max(0.0, step)
        self._last = moment, time, elapsed
        return moment


@dataclass(frozen=True)
class History:
    """A run so far.

    Args:
        events: all of its journal.
        lost: what is wrong with the files that its scores tell of; "" for nothing. They do not count then.
    """

    events: Sequence[Event]
    lost: str = ""

    @property
    def search(self) -> Event:
        """The event "search" with all that later events have changed in it; empty for a run that never began."""
        search: Event = {}
        for event in self.events:
            if event["event"] == "search":
                search = dict(event)
            elif event["event"] == "resume":
                search |= event["changed"]
        return search

    @property
    def finalists(self) -> list[dict[str, Any]] | None:
        """The chosen configurations; None while the search goes on."""
        return next((e["configurations"] for e in reversed(self.events) if e["event"] == "finalists"), None)

    @property
    def scores(self) -> Event | None:
        """The event "scores"; None as long as no model was scored, or where the models' files are lost."""
        last = next((e for e in reversed(self.events) if e["event"] == "scores"), None)
        return last if last and last["final"] and not self.lost else None

    @property
    def registered(self) -> bool:
        """Whether all final models are in the registry."""
        models: set[str] = set()
        for event in self.events:
            if event["event"] == "scores":
                models = set()
            elif event["event"] == "registered":
                models |= set(event["models"])
        return self.scores is not None and set(self.scores["final"]) <= models

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        last = self.events[-1] if self.events else {}
        return last.get("event") == "end" and last["state"] == "finished" and not self.lost

    @property
    def begun(self) -> int:
        """How many trials have begun."""
        return sum(e["event"] == "trial" for e in self.events)

    def unfinished(self) -> dict[str, int]:
        """Units that have begun and not ended, or that go on all the same, with the last epoch that is known of each.

        A trial that failed because of its environment goes on while the search does, a finalist until one is scored.
        """
        units: dict[str, int] = {}
        over: dict[str, Event] = {}
        for event in self.events:
            kind = event["event"]
            if kind in ("trial", "final", "fold"):
                units[event["id"]] = 0
            elif kind in ("epoch", "final_epoch", "fold_epoch"):
                units[event["id"]] = event["epoch"]
            elif kind in ("trial_end", "final_end", "fold_end"):
                over[event["id"]] = event
            elif kind == "resume":
                over = {id: end for id, end in over.items() if id not in event["units"]}
        ended = {"trial_end": self.finalists is not None}
        for id, end in list(over.items()):
            if reopens(end) and not ended.get(end["event"], self.scores is not None):
                del over[id]
        return {unit: epoch for unit, epoch in units.items() if unit not in over}

    def seconds(self, stage: str) -> float:
        """How long processes that are gone have worked on a stage: from its first sign of life in each to its last."""
        total = begin = last = 0.0
        clock = RunClock()
        for event in self.events:
            kind, moment = event["event"], clock.read(event)
            if kind in ("search", "resume") or (stage == "finalists" and kind == "finalists"):
                total, begin, last = total + last - begin, moment, moment
            elif kind in STAGES[stage] and begin:
                last = moment
        return total + last - begin


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two nested tables of plain values: "search.trials: 8 → 12", one line each."""
    found = []
    for key in [*before, *(key for key in now if key not in before)]:
        old, new = (json.loads(json.dumps(table.get(key), default=str)) for table in (before, now))
        name = f"{prefix}{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{name}.")
        elif old != new:
            found.append(f"{name}: {_short(old)} → {_short(new)}")
    return found


def _short(value: Any) -> str:
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def summary(found: Sequence[str]) -> str:
    """Differences in one line."""
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more
