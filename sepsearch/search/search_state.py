"""State of a search: its trials, and what sampler, rungs and end rules know of them, changed by events alone."""

import math
from collections.abc import Sequence
from dataclasses import replace

from sepsearch.search.events import EpochEvent, Event, JobEndEvent
from sepsearch.search.protocol import INTERRUPTED, Attempts, reopens
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.search_end import EndRule
from sepsearch.search.stopping.pauses import Pauses
from sepsearch.search.stopping.rule import StoppingRule
from sepsearch.search.trials import Trial
from sepsearch.spaces.constraints import JUDGED_EPOCHS, fastest


class SearchState:
    """What a journal's events add up to while a search runs, or is rebuilt from them; `scheduler.SearchPlan` decides.

    Args:
        sampler: is given every value and outcome of a trial.
        rungs: are given the values of an epoch.
        epochs: the full budget of a trial.
        retries: how often a trial is tried again after its worker died.
        reference: id of the reference network's trial.
        end_rules: are given trials that ended or paused.

    Attributes:
        trials: by id, in the order in which they began.
        over: the rule that has ended the search early, or "by hand"; "" while none has.
    """

    def __init__(
        self,
        sampler: Sampler,
        rungs: StoppingRule,
        epochs: int,
        retries: int,
        reference: str,
        end_rules: Sequence[EndRule],
    ):
        self.sampler, self.rungs, self.epochs = sampler, rungs, epochs
        self.reference, self._end_rules, self.over = reference, end_rules, ""
        self.trials: dict[str, Trial] = {}
        self._open: set[str] = set()  # those without a state
        self._attempts, self._pauses = Attempts(retries), Pauses(rungs)
        self._best = (True, 0, math.inf)  # rank of the best trial that has ended
        self._limits = sampler.space.constraints
        self._restoring = False

    def _judge_search(self, trial: Trial) -> None:
        for rule in self._end_rules:
            rule.take(trial)

    def _apply(self, event: Event) -> None:
        """Change the state by one event; nothing else does."""
        match event["event"]:
            case "trial":
                trial = Trial(event["id"], event["params"], parameters=event.get("parameters"))
                trial.infeasible = self._limits.violation(trial.parameters, None)
                self.trials[trial.id] = trial
                self._open.add(trial.id)
                if self._restoring:
                    self.sampler.restore(trial.id, trial.params, event.get("infeasible", ()))
            case "epoch":
                self._apply_epoch(self.trials[event["id"]], event)
            case "spared":
                trial = self.trials[event["id"]]
                trial.spared, trial.rung = event["rung"], None
            case "paused" | "promoted":
                self._pauses.apply(trial := self.trials[event["id"]], event)
                self.sampler.pause(event["id"], trial.paused)
                if trial.paused:
                    self._judge_search(replace(trial, state="stopped"))
            case "retry" if event["id"] in self.trials:
                self._attempts.count(event)
            case "stop" if event["id"] in self.trials:
                self.trials[event["id"]].by_hand = True
            case "search_stopped":
                self.over = event["rule"]
            case "trial_end":
                self._apply_end(self.trials[event["id"]], event)
            case "resume" | "continue":
                if event["event"] == "continue":  # more trials were asked for since a rule ended the search
                    self.over = ""
                    for rule in self._end_rules:
                        rule.restart()
                jobs = event["units"]
                again = [t for t in self.trials.values() if t.open and (t.reason == INTERRUPTED or t.id in jobs)]
                self._attempts.resume(trial.id for trial in again if trial.reason != INTERRUPTED)
                for trial in again:
                    trial.state = trial.reason = ""
                    trial.open = False
                    self._open.add(trial.id)

    def _apply_end(self, trial: Trial, event: JobEndEvent) -> None:
        trial.state, trial.reason, trial.open = event["state"], event["reason"], reopens(event)
        self._pauses.ended(trial)
        if trial.state in ("completed", "stopped"):
            self._best = min(self._best, trial.rank)
        self._open.discard(trial.id)
        # One that goes on in a resumed run is reported then. In a process that still searches, one that failed because
        # of its environment is reported as failed, which samplers ignore: as running it would repel similar proposals.
        if not trial.open or (trial.reason != INTERRUPTED and not self._restoring):
            value = trial.ratio if trial.state == "completed" else None
            self.sampler.constrain(trial.id, self._limits.values(trial.parameters, trial.speed, bool(trial.infeasible)))
            self.sampler.tell(trial.id, trial.state, value, trial.reason)
            self._judge_search(trial)

    def _apply_epoch(self, trial: Trial, event: EpochEvent) -> None:
        trial.epochs = event["epoch"]
        trial.ratio = math.nan if event["ratio"] is None else event["ratio"]
        if not math.isfinite(trial.ratio):
            trial.failure = f"NaN: the ratio is {trial.ratio} in epoch {trial.epochs}"
            return
        trial.speed = fastest(trial.speed, event.get("examples_per_second"), trial.epochs)
        if trial.epochs >= min(JUDGED_EPOCHS, self.epochs):
            trial.infeasible = self._limits.violation(trial.parameters, trial.speed)
        self.sampler.report(trial.id, trial.epochs, trial.ratio)
        # A spared trial is not recorded at later rungs: without sparing it would not have reached them.
        if trial.spared is None:
            trial.rung = self.rungs.report(trial.id, trial.epochs, trial.ratio)
