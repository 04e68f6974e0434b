"""State of a run at any point of its journal, and what follows from it."""

import math
from collections.abc import Iterable, Mapping, Sequence

from sepsearch.runs.job import RUNNING, Job
from sepsearch.runs.reducer import RunReducer
from sepsearch.runs.verdict import baseline_ratio
from sepsearch.search.events import Event, KnownRun, ScoresEvent
from sepsearch.search.protocol import INTERRUPTED
from sepsearch.search.selection import Choice, choose_model

QUIET_SECONDS = 300.0  # that nothing was written: its process may be gone
QUIET_EPOCHS = 3.0  # but epochs may be long
SPEED_SPREAD = 0.15  # share by which epochs of other configurations are faster or slower, of the time left


class RunState(RunReducer):
    """State of a run, reduced from its events: read by resume, results, watch, gauges, MLflow, report, promote, replay.

    For attributes and arguments see `RunReducer`.
    """

    @property
    def name(self) -> str:
        """Of the run."""
        return str(self.search.get("name", ""))

    @property
    def known(self) -> Sequence[KnownRun]:
        """Other runs whose completed trials the sampler's study began with."""
        return self.search.get("known", [])

    @property
    def codes(self) -> list[str]:
        """The run's instruments."""
        validation = self.search.get("baselines", {}).get("validation", {})
        return list(self.search.get("settings", {}).get("instruments") or validation.get("identity", {}))

    @property
    def reference(self) -> Mapping[str, float | None]:
        """Ratios by instrument of the reference network's trial; empty before it has completed."""
        job = self.jobs.get(self.search.get("reference", ""))
        return job.ratios if job and job.state == "completed" else {}

    def constant_gain(self) -> float | None:
        """Ratio of the best constant gain on validation titles, mean over instruments; None without baselines."""
        losses = self.search.get("baselines", {}).get("validation", {})
        found = [baseline_ratio(losses, "gain", code) for code in self.codes]
        ratios = [ratio for ratio in found if ratio is not None]
        return sum(ratios) / len(ratios) if ratios else None

    @property
    def scored(self) -> ScoresEvent | None:
        """The event "scores", if it has scores and their models' files are there."""
        return self.scores if self.scores and self.scores["final"] and not self.lost else None

    @property
    def registered(self) -> bool:
        """Whether all final models are in the registry."""
        return self.scored is not None and self.scored["final"].keys() <= self.models.keys()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.end == "finished" and not self.lost

    def jobs_of(self, stage: str) -> dict[str, Job]:
        """The jobs of a stage, by id."""
        return {id: job for id, job in self.jobs.items() if job.stage == stage}

    def unfinished(self) -> dict[str, int]:
        """Jobs that have begun and neither ended nor paused, or that a resumed run goes on with, with their last epoch.

        A trial that failed because of its environment goes on while the search does, a finalist until one is scored.
        """
        over = {"search": self.configurations is not None}
        present = {one["id"] for one in self.configurations or ()}  # others were finalists before the run was extended
        return {
            job.id: job.epochs
            for job in self.jobs.values()
            if (job.state == RUNNING and job.id not in self.paused)
            or (
                job.reopens
                and not over.get(job.stage, self.scored is not None)
                and (job.stage == "search" or job.configuration in present or not self.former)
            )
        }

    def seconds(self, stage: str) -> float:
        """How long all processes so far have worked on "search" or "finalists" (with all retraining)."""
        return self._timers[stage].seconds

    def wanted(self, stage: str) -> int:
        """How many jobs a stage has in all; for left-out titles those that began (their number is not known)."""
        if stage == "search":
            over = self.stage != "search" or self.stopped  # by its time budget, a rule or by hand, perhaps
            return self.begun[stage] if over else int(self.search.get("settings", {}).get("trials", 0))
        if stage == "finalists":
            seeds = int(self.search.get("space", {}).get("final", {}).get("seeds", 1))
            return max(self.begun[stage], len(self.configurations or ()) * seeds - self.dropped)
        return self.begun[stage]

    def states(self, stage: str) -> dict[str, int]:
        """How many jobs of a stage are waiting (paused trials, too), running, completed, stopped and failed."""
        running = sum(job.stage == stage for job in self.running.values())
        ended = {state: self.ended[stage, state] for state in ("completed", "stopped", "failed")}
        ended["stopped"] += self.ended[stage, INTERRUPTED]
        waiting = max(0, self.wanted(stage) - running - sum(ended.values()))
        return {"waiting": waiting, "running": running, **ended}

    def cutoff(self, rung: int) -> float | None:
        """The ratio that is good enough at a rung now; None where there are too few values (see `Rungs`)."""
        return self.rungs.cutoff(rung)

    def chosen(self, code: str) -> tuple[Choice | None, Choice | None]:
        """The finalist that leads on an instrument by its mean over finished seeds, and the reference network."""
        known = {run.finalist.id: run.finalist for run in self.finals.values()}
        if self.configurations is not None:  # others were finalists before the run was extended
            known = {one["id"]: known[one["id"]] for one in self.configurations if one["id"] in known}
        still = [finalist for id, finalist in known.items() if id not in self.eliminated]
        own = [finalist for finalist in known.values() if finalist.reference]
        runs = {id: run for id, run in self.finals.items() if not run.weights or code in run.members}
        rule = self.search.get("space", {}).get("final", {}).get("choose", "best")
        return choose_model(runs, code, still, rule), choose_model(runs, code, own)

    def silence(self, now: float) -> float:
        """Seconds that nothing was written for, if that is more than a running job is silent; 0 otherwise."""
        if self.end or not self.search:
            return 0.0
        longest = max((job.seconds for job in self.running.values()), default=0.0)
        quiet = now - self.last
        return quiet if quiet > max(QUIET_SECONDS, QUIET_EPOCHS * longest) else 0.0

    def examples_per_second(self, now: float) -> float:
        """Training examples per second of all running jobs together, while they train."""
        return len(self.running) * self.throughput.examples_per_second(now)

    def epochs_done(self) -> int:
        """Epochs that the jobs of the present stage have done."""
        return sum(job.epochs for job in self.jobs.values() if job.stage == self.stage)

    def epochs_left(self) -> float:
        """Estimate of the epochs that the present stage has still to do."""
        running = [job for job in self.running.values() if job.stage == self.stage]
        waiting = self.states(self.stage)["waiting"] - len(self.paused)  # most of those that are paused go no further
        return waiting * self._expect(0) + sum(self._expect(job.epochs) for job in running)

    def _expect(self, epochs: int) -> float:
        """Estimate of the epochs left of a job of the present stage that has done so many."""
        if self.stage == "search":
            return self._length.left(epochs)
        return float(int(self.search["settings"].get("final_epochs", 0)) - epochs)

    def remaining(self, now: float) -> tuple[float, float] | None:
        """Estimate of the seconds left for the stage, and of those for the finalists after it (0 if they run).

        None where there is no estimate: no epoch has been done, or the run is over.
        """
        speed = self.throughput.rate(now)
        if not speed or self.end or self.scores:
            return None
        running = [job for job in self.running.values() if job.stage == self.stage]
        final = int(self.search["settings"].get("final_epochs", 0))
        # The last ones run side by side, and each takes its own time.
        alone = max((self._expect(job.epochs) * job.seconds for job in running), default=0.0)
        left = max(self.epochs_left() / speed, alone)
        if self.stage != "search":
            return left, 0.0
        if budget := (self.search["settings"].get("options") or {}).get("time_budget"):
            left = min(left, max(0.0, budget - self.throughput.worked(now)))
        return left, self._length.finalists * final / speed

    def remaining_range(self, now: float) -> tuple[float, float] | None:
        """Range of the seconds left for the stage: two standard deviations of its trials' epochs, and SPEED_SPREAD.

        None where `remaining` is.
        """
        speed, left = self.throughput.rate(now), self.remaining(now)
        if not speed or left is None:
            return None
        spread = 0.0
        if self.stage == "search":
            states = self.states("search")
            spread = 2 * self._length.spread * math.sqrt(states["waiting"] + states["running"]) / speed
        low, high = left[0] * (1 - SPEED_SPREAD) - spread, left[0] * (1 + SPEED_SPREAD) + spread
        return max(0.0, low), high


def reduce_events(events: Iterable[Event], history: bool = False) -> RunState:
    """The state after some events, from the first on; raises `UserError` as `RunState.handle`."""
    state = RunState(history)
    for event in events:
        state.handle(event)
    return state
