"""Search loop's decisions: trials that a sampler proposes and rungs stop, with every step in the journal."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from sepsearch.search.events import Event, SearchStoppedEvent
from sepsearch.search.protocol import (
    BY_HAND,
    ENVIRONMENT,
    INTERRUPTED,
    SEARCH_BY_HAND,
    TIME_BUDGET,
    Appends,
    JobOutcome,
    Params,
    epoch_event,
    remove_checkpoints,
    retry_event,
    stop_event,
)
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.search_end import EndRule
from sepsearch.search.search_state import SearchState
from sepsearch.search.stopping.rule import StoppingRule
from sepsearch.search.trials import FIRST_TRIAL, Trial, trial_id
from sepsearch.utils.storage import StorageFolder


class SearchPlan(SearchState):
    """Trials of a search, a `protocol.Plan`.

    A trial ends as "completed" (full budget), "stopped" (at a rung, too slow, by the time budget, …) or "failed"
    (NaN, a dead network, an exception, a worker that died too often). Each end is reported to the sampler
    exactly once. With a `PausingRule` a trial that reaches a rung may pause: it keeps its checkpoint, and its worker
    takes another job; where it is not promoted before the search is over, it ends as "stopped" at that rung.
    The plan's state follows from the journal's events (`SearchState`): `restore` rebuilds it.

    Args:
        sampler: proposes configurations.
        rungs: decide after an epoch whether a trial goes on.
        journal: gets every event before it has an effect elsewhere.
        trials: how many to run.
        epochs: the full budget of a trial.
        seed: of all networks of the search.
        retries: how often a trial is tried again, from its last checkpoint, after its worker died.
        exempt_fraction: fraction of the trials that would be stopped which run on to their end.
        checkpoints: storage of the trials' checkpoints, which are removed when a trial ends.
        improved: called with a trial that is the best so far, when it ends and its checkpoint is still there.
        reference: id of the reference network's trial, as the sampler knows it (see `reference_trial`). It is in every
            search: earlier where there is room for no other trial, or as stopped where the time was over before.
        end_rules: end the search before its last trial; those that run then go on to their end.
    """

    def __init__(
        self,
        sampler: Sampler,
        rungs: StoppingRule,
        journal: Appends,
        trials: int,
        epochs: int,
        seed: int,
        *,
        retries: int = 0,
        exempt_fraction: float = 0.0,
        checkpoints: StorageFolder | None = None,
        improved: Callable[[Trial], None] = lambda trial: None,
        reference: str = FIRST_TRIAL,
        end_rules: Sequence[EndRule] = (),
    ):
        super().__init__(sampler, rungs, epochs, retries, reference, end_rules)
        self.journal, self.wanted, self.seed = journal, trials, seed
        self._exempt_fraction, self._checkpoints, self._improved = exempt_fraction, checkpoints, improved

    def next(self) -> tuple[str, Params] | None:
        """A trial to go on with, or a new one until there are enough, or no other configuration is left."""
        if self._attempts.waiting:
            job = self._attempts.waiting.pop(0)
        elif promotion := self._pauses.promotion(len(self._open), self._finishes()):
            job = promotion["id"]
            self._record(promotion)
        elif self._wants_more():
            begun = self._begin_trial(self._new_id())
            if begun is None and self._missing():
                begun = self._begin_trial(self.reference)
            if begun is None:
                self.wanted = len(self.trials)
                return None if self._missing() else self.next()
            job = begun
        else:
            self._end_paused()
            return None
        return job, {"params": self.trials[job].params, "seed": self.seed}

    def _begin_trial(self, job: str) -> str | None:
        """Begin a new trial; returns its id, or None where the space holds no other configuration."""
        params = self.sampler.ask(job)
        if params is None:
            return None
        self._record(self.sampler.feasibility.event(job, params))
        return job

    def _missing(self) -> bool:
        """Whether the reference network's trial has not begun."""
        return self.reference not in self.trials

    def _wants_more(self) -> bool:
        return (len(self.trials) < self.wanted and not self.over) or self._missing()

    def _new_id(self) -> str:
        """The id of the next trial: the reference's where there is room for no other."""
        if self._missing() and (self.over or len(self.trials) + 1 >= self.wanted):
            return self.reference
        number = len(self.trials)
        while (job := trial_id(number)) in self.trials:  # the reference has begun before its turn
            number += 1
        return job

    def finished(self) -> bool:
        """Whether all trials have ended."""
        return not self._wants_more() and not self._open

    def result(self, job: str, result: Params) -> str | None:
        """Take in an epoch; why the trial stops, if it does."""
        trial = self.trials[job]
        if "failed" in result:
            trial.failure = result["failed"]
            return None
        # Ray Tune repeats a function's last result when it returns, a worker the one that its checkpoint holds.
        if result.get("epoch", 0) > trial.epochs:
            self._record(epoch_event("epoch", job, result))
            self._spare(trial)
        at_rung = "" if trial.rung is None else f"{self._pauses.word} at rung {trial.rung}"
        if early := trial.failure or self._too_slow(trial) or at_rung:
            return early
        # Its worker need not go on to return, which would be one more round trip before the next trial.
        if trial.epochs >= self.epochs:
            return "full budget"
        return BY_HAND if trial.by_hand else None

    def _spare(self, trial: Trial) -> None:
        """Let a fraction of the trials that would be stopped run on: a deterministic draw from hash(seed, trial)."""
        draw = hashlib.sha256(f"{self.seed}/{trial.id}".encode()).digest()
        if (
            trial.rung is not None
            and not self._too_slow(trial)
            and int.from_bytes(draw[:4], "big") < self._exempt_fraction * 2**32
        ):
            self._record({"event": "spared", "id": trial.id, "rung": trial.rung})

    def ended(self, job: str, outcome: JobOutcome) -> None:
        """Record a trial's end, or hand it out again when its worker died."""
        trial = self.trials[job]
        state, reason = self._verdict(trial)
        final = state != "stopped" or trial.by_hand or self._too_slow(trial)
        if not final and (pause := self._pauses.pause(trial)):
            self._record(pause)
            self._check_end_rules()
            self._end_paused()
            return
        if not state and outcome.how == "deferred":
            self._attempts.waiting.append(job)
            return
        if not state and outcome.how == "died" and (attempt := self._attempts.again(job, outcome)):
            self._record(retry_event(job, outcome, trial.epochs, attempt))
            self._attempts.waiting.append(job)
            return
        died = not state and outcome.how == "died"
        if not state:
            state = "stopped" if outcome.how == "halted" else "failed"
            reason = outcome.reason if outcome.how == "halted" else self._attempts.failure(job, outcome)
        self._end(trial, state, reason, ENVIRONMENT if died else "")
        if outcome.how != "halted":
            self._check_end_rules()
        self._end_paused()

    def _end(self, trial: Trial, state: str, reason: str, cause: str = "") -> None:
        """Record the end of a trial, and remove its checkpoint."""
        # Before its end is recorded: a crash between the two is repaired by the resumed trial's end.
        if state in ("completed", "stopped") and replace(trial, state=state).rank < self._best:
            self._improved(trial)
        job, epochs = trial.id, trial.epochs
        self._record(
            {"event": "trial_end", "id": job, "state": state, "reason": reason, "epochs": epochs, "cause": cause}
        )
        if not trial.open:
            remove_checkpoints(self._checkpoints, [job])

    def _check_end_rules(self) -> None:
        """End the search where a rule says so."""
        if self.over or len(self.trials) >= self.wanted:
            return
        for rule in self._end_rules:
            if reason := rule.reason():
                self._record({"event": "search_stopped", "rule": rule.name, "reason": reason})
                return

    def stop(self, job: str, by: str, request: str) -> str:
        """See `protocol.StoppablePlan`; a trial that waits for a worker ends now."""
        trial = self.trials.get(job)
        if trial is None or trial.state:
            return f"{job} has ended: {trial.state}" if trial else f"{job} has not begun"
        self._record(stop_event(job, by, request))
        if trial.paused:
            self._end(trial, "stopped", BY_HAND)
            self._end_paused()
        elif self._attempts.withdraw(job):
            self.ended(job, JobOutcome())
        return ""

    def stop_search(self, by: str, request: str) -> str:
        """End the search by hand; the caller ends the trials that run, with SEARCH_BY_HAND. "", or why not."""
        if self.over == "by hand" or self.finished():
            return "the search is over already"
        event: SearchStoppedEvent = {"event": "search_stopped", "rule": "by hand", "reason": SEARCH_BY_HAND}
        self._record({**event, "by": by, "request": request})
        return ""

    def _end_paused(self) -> None:
        """End the paused trials once none of them can be promoted any more."""
        for trial in [] if self._wants_more() else self._pauses.left_over(len(self._open), self._finishes()):
            self._end(trial, "stopped", f"stopped at rung {trial.rung}")

    def _finishes(self) -> bool:
        """Whether no other trial will begin, and none has completed: the best rank is that of one that was stopped."""
        return self._best[0] and not self._wants_more()

    def _verdict(self, trial: Trial) -> tuple[str, str]:
        """State and reason of a trial that has ended by what it reported; two empty strings if it has not."""
        if trial.failure:
            return "failed", trial.failure
        if reason := self._too_slow(trial):
            return "stopped", reason
        if reason := trial.rung_reason:
            return "stopped", reason
        if trial.epochs >= self.epochs:
            return "completed", f"spared at rung {trial.spared}" if trial.spared is not None else ""
        return ("stopped", BY_HAND) if trial.by_hand else ("", "")

    def _too_slow(self, trial: Trial) -> str:
        """Why a trial ends as infeasible; "" for one that does not, as the reference, which is there for comparison."""
        return f"infeasible: {trial.infeasible}" if trial.infeasible and trial.id != self.reference else ""

    def _record(self, event: Event) -> None:
        self.journal.append(event)
        self._apply(event)

    def restore(self, events: Iterable[Event]) -> None:
        """Take in all events of earlier processes; trials whose end was not written end here.

        Call before anything else; then `unfinished` are handed out first.
        """
        self._restoring = True
        for event in events:
            self._apply(event)
        self._restoring = False
        self.sampler.restored()
        over = [job for job, trial in self.trials.items() if trial.state and not trial.open]
        remove_checkpoints(self._checkpoints, over)

    def unfinished(self) -> dict[str, int]:
        """Trials that have begun and neither ended nor paused, with the last epoch that is known of each."""
        return {id: t.epochs for id, t in self.trials.items() if (not t.state or t.open) and not t.paused}

    def resume(self) -> None:
        """Hand out the unfinished trials again, after the event "resume" was written; those that are over end here."""
        self._apply({"event": "resume", "units": self.unfinished(), "changed": {}})
        for job in self.unfinished():
            trial = self.trials[job]
            self._spare(trial)
            if self._verdict(trial)[0]:
                self.ended(job, JobOutcome())
            else:
                self._attempts.waiting.append(job)
        for trial in self._pauses.all():
            if trial.by_hand:
                self._end(trial, "stopped", BY_HAND)
        if self.over == "by hand":
            self.give_up(SEARCH_BY_HAND)
        self._check_end_rules()

    def give_up(self, reason: str) -> None:
        """End all unfinished trials: no worker will train them."""
        self._attempts.waiting.clear()
        if reason in (TIME_BUDGET, SEARCH_BY_HAND) and self.trials and self._missing():
            self._begin_trial(self.reference)  # it is a finalist all the same
        for trial in [] if reason == INTERRUPTED else self._pauses.all():
            self._end(trial, "stopped", f"stopped at rung {trial.rung}")
        for job in [job for job, trial in self.trials.items() if not trial.state and not trial.paused]:
            self.ended(job, JobOutcome("halted", reason))
