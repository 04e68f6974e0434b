"""The search: a plan of trials that a sampler proposes, rungs judge and the journal remembers."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from sepsearch.journal import Journal
from sepsearch.plan import Params
from sepsearch.rungs import Rungs
from sepsearch.sampling import Sampler

EPOCH_FIELDS = ("epoch", "ratio", "seconds", "examples_per_second", "members")


@dataclass
class Trial:
    """A trial as the search knows it. `ratio` is the last epoch's; `state` is empty while it runs."""

    id: str
    params: Params
    epochs: int = 0
    ratio: float = math.nan
    state: str = ""
    reason: str = ""
    verdict: tuple[str, str] = field(default=("", ""), repr=False)  # (state, reason) decided before it has ended


class SearchPlan:
    """Trials of a search; see `plan.Plan`.

    A trial ends as "completed" (it reached the full budget), "stopped" (at a rung, by the time budget, …) or "failed"
    (NaN, a dead network, an exception, a dead worker). Each end is told to the sampler exactly once.

    Args:
        sampler: proposes configurations; the first is the reference.
        rungs: judge epochs.
        journal: gets every event before it has an effect elsewhere.
        trials: how many to run.
        epochs: the full budget of a trial.
        seed: of all networks of the search.
    """

    def __init__(self, sampler: Sampler, rungs: Rungs, journal: Journal, trials: int, epochs: int, seed: int):
        self.sampler, self.rungs, self.journal = sampler, rungs, journal
        self.wanted, self.epochs, self.seed = trials, epochs, seed
        self.trials: dict[str, Trial] = {}

    def next(self) -> tuple[str, Params] | None:
        """The next trial, until there are enough."""
        if len(self.trials) >= self.wanted:
            return None
        unit = f"t{len(self.trials):04d}"
        params = self.sampler.ask(unit)
        self.trials[unit] = Trial(unit, params)
        self.journal.append("trial", id=unit, params=params)
        return unit, {"params": params, "seed": self.seed}

    def result(self, unit: str, result: Params) -> str | None:
        """Take in an epoch; the rung at which the trial stops, if it does."""
        trial = self.trials[unit]
        if "failed" in result:
            trial.verdict = ("failed", result["failed"])
            return None
        if result.get("epoch", 0) <= trial.epochs:
            return None  # Ray Tune repeats a function's last result when it returns
        self.journal.append("epoch", id=unit, **{key: result[key] for key in EPOCH_FIELDS})
        trial.epochs, trial.ratio = result["epoch"], result["ratio"]
        if not math.isfinite(trial.ratio):
            trial.verdict = ("failed", f"NaN: the ratio is {trial.ratio} in epoch {trial.epochs}")
            return trial.verdict[1]
        self.sampler.report(unit, trial.epochs, trial.ratio)
        if trial.epochs >= self.epochs:
            trial.verdict = ("completed", "")
            return None
        rung = self.rungs.report(unit, trial.epochs, trial.ratio)
        if rung is None:
            return None
        trial.verdict = ("stopped", f"stopped at rung {rung}")
        return trial.verdict[1]

    def ended(self, unit: str, problem: str | None, checkpoint: Path | None) -> None:
        """Settle a trial's state and tell everyone."""
        trial = self.trials[unit]
        trial.state, trial.reason = trial.verdict
        if not trial.state:
            ended_from_outside = problem in ("time budget", "interrupted")
            trial.state = "stopped" if ended_from_outside else "failed"
            trial.reason = problem or "the worker returned early"
        self.journal.append("trial_end", id=unit, state=trial.state, reason=trial.reason, epochs=trial.epochs)
        value = trial.ratio if trial.state == "completed" else None
        self.sampler.tell(unit, trial.state, value, trial.reason)


def best_trials(trials: list[Trial], count: int) -> list[Trial]:
    """The best `count` trials: of those that reached the full budget, or, if none did, of those that came furthest.

    A stopped trial's early ratio is never compared with a finished one's.
    """
    finished = [trial for trial in trials if trial.state == "completed"]
    if not finished:
        furthest = max((trial.epochs for trial in trials if trial.state == "stopped"), default=0)
        finished = [trial for trial in trials if trial.state == "stopped" and trial.epochs == furthest > 0]
    return sorted(finished, key=lambda trial: trial.ratio)[:count]
