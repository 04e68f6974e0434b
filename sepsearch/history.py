"""What a run's journal tells of it: how far it is, what is still to do, and what has changed since it began."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sepsearch.journal import Event
from sepsearch.plan import INTERRUPTED

STAGES = {
    "search": ("trial", "epoch", "spared", "retry", "trial_end"),
    "finalists": ("final", "final_epoch", "final_end", "fold", "fold_epoch", "fold_end"),
}
SHOWN = 6  # differences that are told one by one


@dataclass(frozen=True)
class History:
    """A run so far.

    Args:
        events: all of its journal.
    """

    events: Sequence[Event]

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
        """The event "scores"; None as long as no model was scored."""
        return next((e for e in reversed(self.events) if e["event"] == "scores"), None)

    @property
    def registered(self) -> bool:
        """Whether all final models are in the registry."""
        models = {code for e in self.events if e["event"] == "registered" for code in e["models"]}
        return self.scores is not None and set(self.scores["final"]) <= models

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self.events) and self.events[-1]["event"] == "end" and self.events[-1]["state"] == "finished"

    @property
    def begun(self) -> int:
        """How many trials have begun."""
        return sum(e["event"] == "trial" for e in self.events)

    def unfinished(self) -> dict[str, int]:
        """Units that have begun and not ended, with the last epoch that is known of each."""
        units: dict[str, int] = {}
        over = set()
        for event in self.events:
            kind = event["event"]
            if kind in ("trial", "final", "fold"):
                units[event["id"]] = 0
            elif kind in ("epoch", "final_epoch", "fold_epoch"):
                units[event["id"]] = event["epoch"]
            elif kind in ("trial_end", "final_end", "fold_end") and event["reason"] != INTERRUPTED:
                over.add(event["id"])
        return {unit: epoch for unit, epoch in units.items() if unit not in over}

    def seconds(self, stage: str) -> float:
        """How long processes that are gone have worked on a stage: from its first sign of life in each to its last."""
        total = begin = last = 0.0
        for event in self.events:
            kind = event["event"]
            if kind in ("search", "resume") or (stage == "finalists" and kind == "finalists"):
                total, begin, last = total + last - begin, event["time"], event["time"]
            elif kind in STAGES[stage] and begin:
                last = event["time"]
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
