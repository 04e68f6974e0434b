"""Gauges of a running search for the Ray dashboard and Prometheus, which shows their names with `ray_` before them.

Ray exports what was set every 10 s (`RAY_metrics_report_interval_ms`) and forgets what was not set again for two such
intervals (its telemetry/open_telemetry_metric_recorder.py). So what runs is set again and again, and whatever has ended
is gone soon after: as many series live as jobs run, however many have run.

OpenTelemetry in Ray's agent keeps the first 2,000 label sets of a gauge for as long as the agent lives, and drops all
later ones. So running jobs are labelled by slot, a small number that is used again, and not by their ids.
"""

import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping

from sepsearch.distributed.worker_metrics import AGAIN_SECONDS, MEMORY, MEMORY_LABELS, MEMORY_TEXT, make_gauge
from sepsearch.runs.reducer import STAGES
from sepsearch.runs.state import RunState
from sepsearch.search.events import Event

# Name → what it says, and its labels. Units are in the names as Prometheus wants them; ratios and counts have none.
GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "sepsearch_ratio": (
        "Validation loss / identity loss of a running job (a trial, or a finalist and seed) after its last epoch;"
        " instrument all: the mean, which is the search's objective. Below 1 beats doing nothing.",
        ("search", "slot", "instrument"),
    ),
    "sepsearch_epoch": ("Epochs done by a running job.", ("search", "slot")),
    "sepsearch_trial_number": (
        "Number of the trial that runs in a slot: 31 for t0031. Finalists have none.",
        ("search", "slot"),
    ),
    "sepsearch_best_ratio": (
        "The best ratio among trials that reached the full budget; instrument all: of the means.",
        ("search", "instrument"),
    ),
    "sepsearch_trials": (
        "Jobs by stage (search, finalists, leave-one-title-out) and state (waiting, running, completed, stopped,"
        " failed).",
        ("search", "stage", "state"),
    ),
    "sepsearch_epochs_per_second": ("Epochs of all jobs together, over the last five minutes.", ("search",)),
    "sepsearch_examples_per_second": ("Training examples of all running jobs together.", ("search",)),
    "sepsearch_remaining_seconds": ("What is likely left of the stage at work.", ("search",)),
    MEMORY: (MEMORY_TEXT, MEMORY_LABELS),
}
Reading = tuple[str, float, dict[str, str]]  # a gauge's name, value and labels


class Slots:
    """Small numbers, from 0, for the jobs that run at a time; a job keeps its number until it ends."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}  # job → slot

    def update(self, running: Iterable[str]) -> Mapping[str, int]:
        """Free the slots of jobs that no longer run, and give each new one the lowest that is free."""
        now = list(running)
        self.of = {id: self.of[id] for id in now if id in self.of}
        free = iter(sorted(set(range(len(now))) - set(self.of.values())))
        for id in now:
            if id not in self.of:
                self.of[id] = next(free)
        return self.of


def job_readings(run: RunState, id: str, slot: int) -> Iterator[Reading]:
    """Values of the gauges of a running job, once it has done an epoch."""
    job = run.running[id]
    if not job.epochs:
        return
    labels = {"search": run.name, "slot": str(slot)}
    yield "sepsearch_epoch", float(job.epochs), labels
    if trial := re.fullmatch(r"t(\d+)", id):
        yield "sepsearch_trial_number", float(trial[1]), labels
    for code, ratio in {"all": job.ratio, **job.ratios}.items():
        if ratio is not None and math.isfinite(ratio):
            yield "sepsearch_ratio", ratio, {**labels, "instrument": code}


def readings(run: RunState, now: float) -> Iterator[Reading]:
    """Values of the gauges of the whole run; `now` is a moment as `RunState.last` is."""
    search = {"search": run.name}
    if run.best and run.best.ratio is not None:
        yield "sepsearch_best_ratio", run.best.ratio, {**search, "instrument": "all"}
    for code, (ratio, _) in run.best_of.items():
        yield "sepsearch_best_ratio", ratio, {**search, "instrument": code}
    for stage in STAGES.values():
        if stage == run.stage or run.begun[stage]:
            for state, count in run.states(stage).items():
                yield "sepsearch_trials", float(count), {**search, "stage": stage, "state": state}
    yield "sepsearch_epochs_per_second", run.throughput.rate(now) or 0.0, search
    yield "sepsearch_examples_per_second", run.examples_per_second(now), search
    if left := run.remaining(now):
        yield "sepsearch_remaining_seconds", left[0], search


class Gauges:
    """A journal listener that sets the gauges of a run from its driver.

    Args:
        run: its state, which has taken in every event before this listener.
    """

    def __init__(self, run: RunState) -> None:
        self._gauges = {name: make_gauge(name, *about) for name, about in GAUGES.items() if name != MEMORY}
        self._run = run
        self._slots = Slots()
        self._refreshed = -math.inf
        self._seen = time.monotonic()  # when the last event came

    def handle(self, event: Event) -> None:
        """Take in an event as it happens; an epoch's gauges are set at once, so that a short trial is seen, too."""
        self._seen = time.monotonic()
        match event["event"]:
            case "epoch" | "final_epoch" | "fold_epoch" if event["id"] in self._run.running:
                self._set_unit(event["id"])

    def refresh(self) -> None:
        """Set all gauges again, at most every AGAIN_SECONDS."""
        now = time.monotonic()
        if now - self._refreshed >= AGAIN_SECONDS and self._run.search:
            self._refreshed = now
            for id in list(self._run.running):
                self._set_unit(id)
            self._set(readings(self._run, self._run.last + now - self._seen))

    def _set_unit(self, id: str) -> None:
        self._set(job_readings(self._run, id, self._slots.update(self._run.running)[id]))

    def _set(self, found: Iterator[Reading]) -> None:
        for name, value, labels in found:
            self._gauges[name].set(value, labels)
