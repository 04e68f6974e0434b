"""Incremental state of a run, from its events; memory is independent of the journal's length."""

import math
import re
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepsearch.runs.history import RunClock
from sepsearch.runs.results import Retrained
from sepsearch.runs.throughput import SearchLength, Throughput
from sepsearch.search.asha import Rungs
from sepsearch.search.events import Event
from sepsearch.search.protocol import reopens
from sepsearch.search.selection import Choice, choose_model
from sepsearch.utils.errors import UserError

ENDS = {"search": "trial_end", "finalists": "final_end", "titles left out": "fold_end"}
STAGES = {end.removesuffix("_end"): stage for stage, end in ENDS.items()}  # by the event that begins a unit
QUIET_SECONDS = 300.0  # that nothing was written: its process may be gone
QUIET_EPOCHS = 3.0  # but epochs may be long
SHOWN_FAILURES = 5


@dataclass
class Running:
    """A unit at work. `ratio` is the last epoch's, `ratios` that of each instrument, `seconds` how long it took."""

    id: str
    stage: str
    params: Mapping[str, Any]
    epochs: int = 0
    ratio: float | None = None
    ratios: Mapping[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Best:
    """The best trial so far, of those with the full budget: an early ratio of another says nothing beside it."""

    ratio: float
    trial: str
    epochs: int
    params: Mapping[str, Any]


class RunState:
    """Listens to a journal's events, from the first on.

    Attributes:
        search: the event "search" with all later changes; empty for a run that never began.
        end: how the run ended: finished, interrupted, failed, or "" where no end is written.
        last: moment of the last event (see `history.RunClock`: seconds since 1970 on a clock that is never set);
            `begin` that of the first, `since` when the stage began, or a process went on with it.
        written: when the last event was written by the clock of its machine, which may have been set.
        running: units at work, by id.
        ended: how many units ended, by (stage, state).
        begun: how many units began, by stage.
        best: the best trial; None as long as none reached the full budget.
        best_of: instrument → (ratio, trial) of the best there, likewise; `reference` the report's ratios.
        rungs: with the values of those that arrived; `stopped_at` counts by rung.
        failures: the last ones, (unit, reason); `deaths` counts workers that died and whose units went on.
        retrained: the finalists.
        scores: the event "scores"; None before.
    """

    def __init__(self) -> None:
        self.search: Event = {}
        self.end, self.stage = "", ""
        self.begin = self.since = self.last = self.written = 0.0
        self._clock = RunClock()
        self.running: dict[str, Running] = {}
        self.ended: Counter[tuple[str, str]] = Counter()
        self.begun: Counter[str] = Counter()
        self.best: Best | None = None
        self.best_of: dict[str, tuple[float, str]] = {}
        self.reference: Mapping[str, float | None] = {}
        self.rungs = Rungs(1, 2, 1)
        self.stopped_at: Counter[int] = Counter()
        self.failures: deque[tuple[str, str]] = deque(maxlen=SHOWN_FAILURES)
        self.deaths = 0
        self.retrained = Retrained()
        self.scores: Event | None = None
        self.throughput = Throughput()
        self._length = SearchLength()
        self._reopening: dict[str, tuple[Running, Event]] = {}  # units that a resumed run goes on with, and their ends
        self._spared: set[str] = set()
        self._dropped = 0

    def handle(self, event: Event) -> None:
        """Take in an event. Raises `UserError` for one that does not hold what a run writes: a person has made it."""
        try:
            self._take(event)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            problem = f"an event {event.get('event')} does not hold what a run writes ({type(error).__name__})"
            raise UserError(f"journal: {problem}: restore the file") from error

    def _take(self, event: Event) -> None:
        kind = event["event"]
        self.last, self.written = self._clock.read(event), event["time"]
        self.retrained.add(event)
        if kind in ("search", "resume"):
            self._begin(event)
        elif kind in STAGES:
            self.begun[STAGES[kind]] += 1
            self._enter(STAGES[kind])
            self.running[event["id"]] = Running(event["id"], STAGES[kind], event["params"])
        elif kind.endswith("epoch"):
            self._epoch(event)
        elif kind.removesuffix("_end") in STAGES:
            self._end(event)
        elif kind == "finalists":
            self._enter("finalists")
        elif kind == "eliminated":
            self._dropped += event["left"]
        elif kind == "spared":
            self._spared.add(event["id"])
        elif kind == "retry":
            self.deaths += 1
            self.failures.append((event["id"], f"{event['reason']}; goes on after epoch {event['epochs']}"))
        elif kind == "scores":
            self.scores = event
        elif kind == "end":
            self.end = event["state"]

    def _enter(self, stage: str) -> None:
        if stage != self.stage:
            self.stage, self.since = stage, self.last

    def _begin(self, event: Event) -> None:
        """The run, or another process of it, begins."""
        if event["event"] == "search":
            self.search, self.begin = dict(event), self.last
            self._enter("search")
        else:
            self.search |= event["changed"]
            self.since = self.last
        self.end = ""
        settings, space = self.search["settings"], self.search["space"]
        before, rules = self.rungs.values, space.get("search", {})
        factor = settings.get("reduction_factor") or rules.get("reduction_factor", 2)
        self.rungs = Rungs(rules.get("grace_epochs", 1), factor, self.epochs)
        for rung, values in before.items():
            for id, value in values.items():
                self.rungs.report(id, rung, value)
        self._length.begin(settings, space)
        self.throughput.begin(self.last)
        for unit, end in [self._reopening.pop(id) for id in event.get("units", ()) if id in self._reopening]:
            self.ended[unit.stage, end["state"]] -= 1
            self.running[unit.id] = unit
            if unit.stage == "search":
                self._length.ended(-unit.epochs, -1)

    def _epoch(self, event: Event) -> None:
        unit = self.running.get(event["id"])
        if unit is None:  # of a unit that had ended: its weights were lost, and a resumed run trains it again
            return
        ratio = event["ratio"]
        unit.epochs, unit.ratio = event["epoch"], ratio
        unit.ratios = {member["instrument"]: member["ratio"] for member in event["members"]}
        unit.seconds = event.get("seconds") or 0.0
        self.throughput.add(self.last, unit.seconds, event.get("examples_per_second") or 0.0)
        if unit.stage != "search" or ratio is None:
            return
        if unit.id not in self._spared:
            self.rungs.report(unit.id, unit.epochs, ratio)
        if unit.epochs >= self.epochs:
            self._full_budget(unit, ratio)

    def _full_budget(self, unit: Running, ratio: float) -> None:
        if self.best is None or ratio < self.best.ratio:
            self.best = Best(ratio, unit.id, unit.epochs, unit.params)
        for code, value in unit.ratios.items():
            if value is not None and value < self.best_of.get(code, (math.inf, ""))[0]:
                self.best_of[code] = (value, unit.id)
        if unit.id == self.search["reference"]:
            self.reference = unit.ratios

    def _end(self, event: Event) -> None:
        unit = self.running.pop(event["id"], None)
        if unit is None:
            return
        self.ended[unit.stage, event["state"]] += 1
        if unit.stage == "search":
            self._length.ended(event["epochs"])
        elif event.get("weights"):
            self._keep(event)
        if reopens(event):
            self._reopening[unit.id] = unit, event
        if event["state"] == "failed":
            self.failures.append((unit.id, event["reason"]))
        elif found := re.fullmatch(r"stopped at rung (\d+)", event["reason"]):
            self.stopped_at[int(found[1])] += 1

    def _keep(self, event: Event) -> None:
        if run := self.retrained.runs.get(event["id"]):
            run.weights = Path(event["weights"])

    @property
    def name(self) -> str:
        """Of the run."""
        return str(self.search.get("name", ""))

    @property
    def epochs(self) -> int:
        """The full budget of a trial."""
        return int(self.search.get("settings", {}).get("epochs", 0))

    @property
    def codes(self) -> list[str]:
        """The run's instruments."""
        validation = self.search.get("baselines", {}).get("validation", {})
        return list(self.search.get("settings", {}).get("instruments") or validation.get("identity", {}))

    def wanted(self, stage: str) -> int:
        """How many units a stage has in all; for titles left out those that began (their number is not known)."""
        if stage == "search":
            over = self.stage != "search"  # by its time budget, perhaps
            return self.begun[stage] if over else int(self.search.get("settings", {}).get("trials", 0))
        if stage == "finalists":
            seeds = self.search.get("space", {}).get("final", {}).get("seeds", 1)
            return max(self.begun[stage], len(self.retrained.configurations) * seeds - self._dropped)
        return self.begun[stage]

    def states(self, stage: str) -> dict[str, int]:
        """How many units of a stage are waiting, running, completed, stopped and failed."""
        running = sum(unit.stage == stage for unit in self.running.values())
        ended = {state: self.ended[stage, state] for state in ("completed", "stopped", "failed")}
        waiting = max(0, self.wanted(stage) - running - sum(ended.values()))
        return {"waiting": waiting, "running": running, **ended}

    def cutoff(self, rung: int) -> float | None:
        """The ratio that is good enough at a rung now; None where there is too little to judge by (see `Rungs`)."""
        values = self.rungs.values[rung].values()
        passing = sorted(values)[: len(values) // self.rungs.factor]
        return passing[-1] if passing else None

    def chosen(self, code: str) -> tuple[Choice | None, Choice | None]:
        """The finalist that leads on an instrument by its mean over the seeds that are done, and the report's."""
        known = {run.finalist.id: run.finalist for run in self.retrained.runs.values()}
        reference = {one["id"] for one in self.retrained.configurations if one.get("reference")}
        still = [finalist for id, finalist in known.items() if id not in self.retrained.eliminated]
        own = [finalist for id, finalist in known.items() if id in reference]
        runs = {id: run for id, run in self.retrained.runs.items() if not run.weights or code in run.members}
        return choose_model(runs, code, still), choose_model(runs, code, own)

    def silence(self, now: float) -> float:
        """Seconds that nothing was written for, if that is more than a run at work is silent; 0 otherwise."""
        if self.end or not self.search:
            return 0.0
        longest = max((unit.seconds for unit in self.running.values()), default=0.0)
        quiet = now - self.last
        return quiet if quiet > max(QUIET_SECONDS, QUIET_EPOCHS * longest) else 0.0

    def examples_per_second(self, now: float) -> float:
        """Training examples per second of all running units together, while they train."""
        return len(self.running) * self.throughput.examples_per_second(now)

    def remaining(self, now: float) -> tuple[float, float] | None:
        """Seconds that the stage is likely to take from now on, and those of the finalists after it (0 if they run).

        None where nothing can be said: no epoch has been seen, or the run is over.
        """
        speed = self.throughput.rate(now)
        if not speed or self.end or self.scores:
            return None
        running = [unit for unit in self.running.values() if unit.stage == self.stage]
        waiting, length = self.states(self.stage)["waiting"], self._length
        final = int(self.search["settings"].get("final_epochs", 0))
        expect = length.left if self.stage == "search" else lambda epochs: final - epochs
        # The last ones run side by side, and each takes its own time.
        alone = max((expect(unit.epochs) * unit.seconds for unit in running), default=0.0)
        left = max((waiting * expect(0) + sum(expect(unit.epochs) for unit in running)) / speed, alone)
        if self.stage != "search":
            return left, 0.0
        if budget := (self.search["settings"].get("options") or {}).get("time_budget"):
            left = min(left, max(0.0, budget - self.throughput.worked(now)))
        return left, length.finalists * final / speed
