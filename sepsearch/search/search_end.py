"""Rules that end a search before its last trial: patience, and a bound on the regret by a Gaussian process."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from sepsearch.search.protocol import BY_HAND, INTERRUPTED, SEARCH_BY_HAND, TIME_BUDGET
from sepsearch.search.trials import Trial
from sepsearch.spaces.configurations import holds, sampled_names
from sepsearch.spaces.space import Space
from sepsearch.utils.formatting import number

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from sepsearch.search.sampling.sampler import Sampler

EVALUATE_EVERY = 10  # trials that have ended; an evaluation takes seconds
LEAST_TRIALS = 20  # with a value, before the first evaluation; Optuna's own default
MOST_TRIALS = 200  # the best ones, that a Gaussian process is fitted to: its time grows with their cube


class EndRule(Protocol):
    """When a search ends early, from the trials in the order in which they ended."""

    name: str

    def take(self, trial: Trial) -> None:
        """Take in a trial that has ended, or pauses and is given as stopped; one that was promoted comes again.

        Those that are no evidence (`counts`) are left out by the rule.
        """

    def reason(self) -> str:
        """Why the search ends after the trials so far; "" while it goes on."""

    def restart(self) -> None:
        """The run is extended: the rule judges what comes from here on, beside all that it has taken in."""


def counts(trial: Trial) -> bool:
    """Whether a rule counts a trial: it was completed, or stopped for its ratio.

    Failed trials, and those that were ended by hand or by the time budget, say nothing about other configurations.
    """
    outside = (BY_HAND, SEARCH_BY_HAND, TIME_BUDGET, INTERRUPTED)
    return trial.state == "completed" or (trial.state == "stopped" and trial.reason not in outside)


def end_rules(space: Space, sampler: "Sampler", seed: int) -> list[EndRule]:
    """The rules of a space file's section `stop`; none without it."""
    rules: list[EndRule] = []
    if space.stop and space.stop.patience:
        rules.append(PatienceRule(space.stop.patience, space.stop.min_improvement))
    if space.stop and space.stop.regret:
        rules.append(RegretRule(space, space.stop.regret, sampler.value_seen, seed))
    return rules


class PatienceRule:
    """Ends a search whose best completed ratio has hardly improved over the last trials.

    After trial n it compares the best ratio of all completed trials with what it was after trial n − `patience`. The
    first trial of the count is the first that has completed. One that pauses at a rung counts there, once.

    Args:
        patience: number of trials (`counts`).
        min_improvement: least relative improvement over all of them together, (before − now) / before.
    """

    name = "patience"

    def __init__(self, patience: int, min_improvement: float):
        self._patience, self._least = patience, min_improvement
        self._best = math.inf
        self._taken: set[str] = set()
        self._bests: deque[float] = deque(maxlen=patience + 1)  # best completed ratio after each counted trial

    def take(self, trial: Trial) -> None:
        """See `EndRule`."""
        if not counts(trial):
            return
        if trial.state == "completed":
            self._best = min(self._best, trial.ratio)
        known = trial.id in self._taken
        self._taken.add(trial.id)
        if not math.isfinite(self._best):
            return
        if known and self._bests:
            self._bests[-1] = self._best
        else:
            self._bests.append(self._best)

    def reason(self) -> str:
        """See `EndRule`."""
        if len(self._bests) <= self._patience:
            return ""
        before, now = self._bests[0], self._bests[-1]
        if now < before and before - now >= self._least * before:
            return ""
        change = f"from {number(before, 4)} to {number(now, 4)}" if now < before else f"{number(now, 4)} before and now"
        return f"the last {self._patience} trials have not improved the best ratio by {100 * self._least:g} %: {change}"

    def restart(self) -> None:
        """See `EndRule`: as many trials again, beside the best ratio of those before."""
        latest = list(self._bests)[-1:]
        self._bests.clear()
        self._bests.extend(latest)


class RegretRule:
    """Ends a search when a bound on its regret, the ratio that the best configuration of all is better by, is small.

    The bound is that of `optuna.terminator.RegretBoundEvaluator` (Makarova et al. 2022, "Automatic Termination for
    Hyperparameter Optimization", AutoML 2022): confidence bounds of a Gaussian process over the configurations and
    the values that the sampler sees of them, where a stopped trial has the value reported for it.

    It is evaluated in a thread, from every EVALUATE_EVERYth trial on that counts and has a value, over the MOST_TRIALS
    best of all before; the search looks at it when the next trial has ended, and waits for it then. So the decision
    depends on the order of the trials alone.

    Args:
        space: without conditional parameters (`spaces.stop.check_stop`).
        regret: bound below which the search ends, a difference of ratios.
        value: what the sampler sees of a trial by its id; None for no value.
        seed: of the search.
    """

    name = "regret"

    def __init__(self, space: Space, regret: float, value: Callable[[str], float | None], seed: int):
        self._space, self._most, self._value, self._seed = space, regret, value, seed
        self._seen: dict[str, tuple[dict[str, Any], float]] = {}  # by trial
        self._due = 0  # number of trials that the next decision is made from; 0 for none
        self._evaluation: Future[float] | None = None
        self._pool: ThreadPoolExecutor | None = None

    def take(self, trial: Trial) -> None:
        """See `EndRule`."""
        value = self._value(trial.id) if counts(trial) else None
        if value is None or not math.isfinite(value) or not holds(self._space, trial.params):
            return
        new = trial.id not in self._seen
        self._seen[trial.id] = trial.params, value
        if new and len(self._seen) >= LEAST_TRIALS and len(self._seen) % EVALUATE_EVERY == 0:
            self._due, self._evaluation = len(self._seen), None

    def reason(self) -> str:
        """See `EndRule`; also begins an evaluation that is due."""
        if not self._due:
            return ""
        if self._evaluation is None:
            self._pool = self._pool or ThreadPoolExecutor(1, "regret")
            seen = list(self._seen.values())[: self._due]
            self._evaluation = self._pool.submit(regret_bound, self._space, seen, self._seed)
        if len(self._seen) == self._due:
            return ""
        bound, trials = self._evaluation.result(), self._due
        self._due, self._evaluation = 0, None
        if bound > self._most:
            return ""
        return (
            f"no configuration is better than the best one by more than {number(bound, 4)}, as estimated from"
            f" {trials} trials, and {self._most:g} was asked for"
        )

    def restart(self) -> None:
        """See `EndRule`: an evaluation that was due is left out, and the next one comes in its turn."""
        self._due, self._evaluation = 0, None


def regret_bound(space: Space, seen: Sequence[tuple[dict[str, Any], float]], seed: int) -> float:
    """Upper bound of the regret, in ratio, from configurations and values (smaller is better).

    Args:
        space: without conditional parameters.
        seen: (configuration, value) each; of more than MOST_TRIALS the best.
        seed: of the points of the space at which the bound is looked for.
    """
    import warnings

    from optuna.exceptions import ExperimentalWarning
    from optuna.study import StudyDirection
    from optuna.terminator import RegretBoundEvaluator

    from sepsearch.search.sampling.optuna_space import proposal_seed

    best = sorted(range(len(seen)), key=lambda place: seen[place][1])[:MOST_TRIALS]
    trials = [_frozen(space, *seen[place]) for place in sorted(best)]
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    evaluator = RegretBoundEvaluator(min_n_trials=LEAST_TRIALS, seed=proposal_seed(seed, len(seen)))
    return float(evaluator.evaluate(trials, StudyDirection.MINIMIZE))


def _frozen(space: Space, params: dict[str, Any], value: float) -> "FrozenTrial":
    """A completed trial of Optuna's."""
    from optuna.trial import create_trial

    from sepsearch.search.sampling.optuna_space import distribution

    names = sampled_names(space, params)
    return create_trial(
        value=value,
        params={name: params[name] for name in names},
        distributions={name: distribution(space.parameters[name]) for name in names},
    )
