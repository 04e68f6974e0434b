"""Reduction of a journal's events to the state of a run: the one reader of events outside the search itself."""

import math
import re
from collections import Counter, deque
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

from sepsearch.runs.clock import PROCESS_EVENTS, RunClock, StageTimer
from sepsearch.runs.job import RUNNING, Job, make_epoch
from sepsearch.runs.throughput import SearchLength, Throughput
from sepsearch.search.events import (
    ContinueEvent,
    EliminatedEvent,
    EpochEvent,
    Event,
    FinalEvent,
    FinalistRecord,
    FinalistsEvent,
    FoldEvent,
    JobEndEvent,
    PauseEvent,
    RegisteredEvent,
    ResumeEvent,
    RetryEvent,
    ScoresEvent,
    SearchEvent,
    SearchStoppedEvent,
    TrialEvent,
)
from sepsearch.search.protocol import reopens
from sepsearch.search.selection import Finalist, SeedRun
from sepsearch.search.stopping.methods import METHODS
from sepsearch.search.stopping.rule import StoppingRule
from sepsearch.spaces.constraints import fastest, violation
from sepsearch.utils.errors import UserError

STAGES = {"trial": "search", "final": "finalists", "fold": "leave-one-title-out"}  # by the event that begins a job
SEARCH_EVENTS = ("trial", "epoch", "spared", "paused", "promoted", "retry", "trial_end")
RETRAINING_EVENTS = ("final", "final_epoch", "final_end", "fold", "fold_epoch", "fold_end")
SHOWN_FAILURES = 5


class RunReducer:
    """What a run's events add up to; `handle` takes them, from the first on. Use `state.RunState`.

    Memory grows with the number of jobs, and with that of their epochs only if they are kept.

    Args:
        history: keep every epoch of every job, for curves.

    Attributes:
        search: the event "search" with all later changes; empty for a run that never began.
        end: how the run ended: finished, interrupted, failed, or "" while no end is written.
        last: moment of the last event (see `RunClock`: seconds since 1970 on a clock that is never set); `begin` that
            of the first, `since` when the stage began, or a process went on with it.
        written: when the last event was written by the clock of its machine, which may have been set.
        jobs: by id, in the order in which they began; `running` those at work.
        ended: number of jobs by (stage, state), where "interrupted" is apart from "stopped"; `begun`: by stage.
        too_large: number of proposals that were not trained, because their network has too many parameters;
            `infeasible`: of trials that ended because they were too slow.
        best: the best trial that completed with the full budget; None as long as there is none.
        best_of: instrument → (ratio, trial) of the best there, likewise.
        rungs: with the values of those that arrived; `stopped_at` counts by rung. `paused`: trials that wait at one.
        failures: the last ones, (job, reason); `deaths` counts workers that died and whose jobs went on.
        configurations: the finalists, None while the search goes on; `former`: these and all that a run had before it
            was extended; `eliminated`: id → reason of those that are out.
        stopped: the event that has ended the search before its last trial, by a rule or by hand; None without one.
        finals: finalists with one seed each, by id; `dropped`: how many are not trained after elimination.
        scores: the event "scores"; None before.
        lost: what is wrong with the files that the scores are of (`run_files.state_with_files`); "" for nothing.
        models: registered models of these scores by instrument; `settled`: those of earlier scores, too.
        champions: what became of the registry's alias, by instrument.
        resumes: how often the run was resumed; `extensions`: how often it went on after it had finished.
    """

    def __init__(self, history: bool = False) -> None:
        self._history = history
        self.search = cast(SearchEvent, {})
        self.end, self.stage = "", ""
        self.begin = self.since = self.last = self.written = 0.0
        self._clock = RunClock()
        self._timers = {
            "search": StageTimer(PROCESS_EVENTS, SEARCH_EVENTS),
            "finalists": StageTimer((*PROCESS_EVENTS, "finalists"), RETRAINING_EVENTS),
        }
        self.jobs: dict[str, Job] = {}
        self.running: dict[str, Job] = {}
        self.ended: Counter[tuple[str, str]] = Counter()
        self.begun: Counter[str] = Counter()
        self.best: Job | None = None
        self.best_of: dict[str, tuple[float, str]] = {}
        self._kind = ("none", 1, 2, 1)  # method, first rung, factor, full budget
        self.rungs: StoppingRule = METHODS["none"](*self._kind[1:])
        self.paused: dict[str, Job] = {}
        self.stopped_at: Counter[int] = Counter()
        self.too_large = self.infeasible = 0
        self.failures: deque[tuple[str, str]] = deque(maxlen=SHOWN_FAILURES)
        self.deaths = self.dropped = self.resumes = self.extensions = 0
        self.stopped: SearchStoppedEvent | None = None
        self.configurations: list[FinalistRecord] | None = None
        self.former: list[FinalistRecord] = []
        self.eliminated: dict[str, str] = {}
        self.finals: dict[str, SeedRun] = {}
        self.search_seconds: float | None = None
        self.scores: ScoresEvent | None = None
        self.lost = ""
        self.models: dict[str, str] = {}
        self.settled: dict[str, str] = {}
        self.champions: dict[str, dict[str, Any]] = {}
        self.throughput = Throughput()
        self._length = SearchLength()

    @property
    def epochs(self) -> int:
        """The full budget of a trial."""
        return int(self.search.get("settings", {}).get("epochs", 0))

    def handle(self, event: Event) -> None:
        """Take in an event. Raises `UserError` for one that does not hold what a run writes: it was made by hand."""
        try:
            self._handle(event)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            problem = f"an event {event.get('event')} does not hold what a run writes ({type(error).__name__})"
            raise UserError(f"journal: {problem}: restore the file") from error

    def _handle(self, event: Event) -> None:
        self.last, self.written = self._clock.read(event), event["time"]
        for timer in self._timers.values():
            timer.add(event, self.last)
        match event["event"]:
            case "search" | "resume" | "continue":
                self._begin(event)
            case "trial" | "final" | "fold":
                self._begin_job(event)
            case "epoch" | "final_epoch" | "fold_epoch":
                self._epoch(event)
            case "trial_end" | "final_end" | "fold_end":
                self._end(event)
            case "spared":
                self.jobs[event["id"]].spared = True
            case "paused" | "promoted":
                self._pause(event)
            case "retry":
                self._retry(event)
            case "search_stopped":
                self.stopped = event
            case "finalists":
                self._finalists(event)
            case "eliminated":
                self._eliminate(event)
            case "scores":
                self.scores, self.models = event, {}
            case "registered":
                self._register(event)
            case "end":
                self.end = event["state"]

    def _enter(self, stage: str) -> None:
        if stage != self.stage:
            self.stage, self.since = stage, self.last

    def _begin(self, event: SearchEvent | ResumeEvent | ContinueEvent) -> None:
        """The run, or another process of it, begins."""
        if event["event"] == "search":
            self.search, self.begin = event.copy(), self.last
            self._enter("search")
        else:
            self.search = cast(SearchEvent, {**self.search, **event["changed"]})
            self.since = self.last
            self.resumes += event["event"] == "resume"
        if event["event"] == "continue":
            self._take_back()
            self.extensions += 1
        self.end = ""
        settings, space = self.search["settings"], self.search["space"]
        rules = space.get("search", {})
        factor = settings.get("reduction_factor") or rules.get("reduction_factor", 2)
        self._make_rungs(rules.get("stopping", "asha"), rules.get("grace_epochs", 1), factor, self.epochs)
        self._length.begin(settings, space)
        self.throughput.begin(self.last)
        if event["event"] != "search":
            for job in [job for job in self.jobs.values() if job.interrupted or job.id in event["units"]]:
                self._reopen(job)

    def _take_back(self) -> None:
        """The search goes on: there are no finalists and no scores any more. What was trained stays."""
        self.configurations = self.search_seconds = self.scores = self.stopped = None
        self.models, self.champions, self.eliminated = {}, {}, {}
        self.dropped, self.lost = 0, ""
        self._enter("search")

    def _recount(self, stage: str, jobs: Collection[Job]) -> None:
        """Count the jobs of a stage anew, of which these still belong to it."""
        self.begun[stage] = len(jobs)
        for key in [key for key in self.ended if key[0] == stage]:
            del self.ended[key]
        self.ended.update((stage, job.counted) for job in jobs if job.state != RUNNING)

    def _make_rungs(self, method: str, grace: int, factor: int, epochs: int) -> None:
        """Make the rungs of the search; where a resumed one has others, they get the values that are known."""
        kind = (method, grace, factor, epochs)
        if kind == self._kind:
            return
        before, self._kind, self.rungs = self.rungs.values, kind, METHODS[method](grace, factor, epochs)
        for rung, values in before.items():
            for id, value in values.items():
                self.rungs.record(id, rung, value)

    def _reopen(self, job: Job) -> None:
        if job.state != RUNNING:
            self.ended[job.stage, job.counted] -= 1
            if job.stage == "search":
                self._length.ended(-job.epochs, -1)
        job.state, job.reason, job.reopens = RUNNING, "", False
        self.running[job.id] = job
        if run := self.finals.get(job.id):
            run.state = run.failure = ""
            run.weights = None

    def _begin_job(self, event: TrialEvent | FinalEvent | FoldEvent) -> None:
        job = Job(event["id"], STAGES[event["event"]], event["params"])
        if event["event"] == "trial":
            job.parameters = event.get("parameters")
            self.too_large += len(event.get("infeasible", ()))
        else:
            job.configuration, job.seed = event["configuration"], event["seed"]
        if before := self.jobs.get(job.id):  # a title left out of another model than before the run was extended
            self.begun[job.stage] -= 1
            self.ended[job.stage, before.counted] -= before.state != RUNNING
        self.jobs[job.id] = self.running[job.id] = job
        self.begun[job.stage] += 1
        self._enter(job.stage)
        if event["event"] == "final":
            known = {one["id"]: one for one in self.configurations or ()}.get(event["configuration"])
            finalist = Finalist.of(known) if known else Finalist(event["configuration"], "", event["params"], False)
            self.finals[job.id] = SeedRun(job.id, finalist, event["seed"])

    def _epoch(self, event: EpochEvent) -> None:
        job = self.jobs[event["id"]]
        job.epochs, job.ratio, job.seconds = event["epoch"], event["ratio"], event.get("seconds") or 0.0
        job.ratios = {member["instrument"]: member.get("ratio") for member in event["members"]}
        job.dead = [member["instrument"] for member in event["members"] if member.get("zero_share") == 1]
        job.jumps += sum(bool(member.get("discontinuity")) for member in event["members"])
        job.speed = fastest(job.speed, event.get("examples_per_second"), job.epochs)
        if self._history:
            while job.history and job.history[-1].epoch >= event["epoch"]:
                job.history.pop()  # journals of earlier versions have some epochs again after a retry
            timer = self._timers["search" if job.stage == "search" else "finalists"]
            job.history.append(make_epoch(event, timer.seconds))
        if run := self.finals.get(job.id):
            run.add_epoch(event)
        self.throughput.add(self.last, job.seconds, event.get("examples_per_second") or 0.0)
        if job.stage == "search" and not job.spared and event["ratio"] is not None:
            self.rungs.record(job.id, job.epochs, event["ratio"])

    def _pause(self, event: PauseEvent) -> None:
        """A trial waits at a rung, or goes on from it: it is in one of `paused` and `running`."""
        before, now = self.running, self.paused
        if event["event"] == "promoted":
            before, now = now, before
        before.pop(event["id"], None)
        now[event["id"]] = self.jobs[event["id"]]

    def _end(self, event: JobEndEvent) -> None:
        job = self.jobs[event["id"]]
        job.state, job.reason, job.reopens = event["state"], event["reason"], reopens(event)
        if run := self.finals.get(job.id):
            run.end(event, Path(event.get("weights") or ""))
        if not (self.running.pop(job.id, None) or self.paused.pop(job.id, None)):
            return  # a finalist whose weights were lost was trained again
        job.epochs = event["epochs"]
        self.ended[job.stage, job.counted] += 1
        if job.stage == "search":
            self._length.ended(job.epochs)
            if job.state == "completed" and job.epochs >= self.epochs:
                self._compare(job)
        if job.state == "failed":
            self.failures.append((job.id, job.reason))
        elif job.stage == "search" and job.reason.startswith("infeasible"):
            self.infeasible += 1
        elif found := re.fullmatch(r"stopped at rung (\d+)", job.reason):
            self.stopped_at[int(found[1])] += 1

    def _compare(self, job: Job) -> None:
        """Keep the best of the trials with the full budget: an early ratio of another is not comparable."""
        if violation(self.search["space"].get("constraints") or {}, job.parameters, job.speed):
            return  # the reference network, which is trained all the same
        if job.ratio is not None and (self.best is None or self.best.ratio is None or job.ratio < self.best.ratio):
            self.best = job
        for code, value in job.ratios.items():
            if value is not None and value < self.best_of.get(code, (math.inf, ""))[0]:
                self.best_of[code] = (value, job.id)

    def _retry(self, event: RetryEvent) -> None:
        self.deaths += 1
        self.jobs[event["id"]].retries.append(event["reason"])
        self.failures.append((event["id"], f"{event['reason']}; goes on after epoch {event['epochs']}"))

    def _finalists(self, event: FinalistsEvent) -> None:
        self.configurations, self.search_seconds = event["configurations"], event["seconds"]
        known = {one["id"] for one in self.former}
        self.former += [one for one in self.configurations if one["id"] not in known]
        chosen = {one["id"] for one in self.configurations}
        jobs = [job for job in self.jobs.values() if job.stage == "finalists" and job.configuration in chosen]
        self._recount("finalists", jobs)
        self._enter("finalists")

    def _eliminate(self, event: EliminatedEvent) -> None:
        self.eliminated[event["id"]] = event["reason"]
        self.dropped += event["left"]

    def _register(self, event: RegisteredEvent) -> None:
        self.models |= event["models"]
        self.settled |= event["models"]
        self.champions |= event.get("champions", {})
