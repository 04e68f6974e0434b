"""A search in virtual time: the plan, sampler and rungs that run, over learning curves in place of workers."""

import heapq
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sepsearch.search.events import Event, Params
from sepsearch.search.protocol import TIME_BUDGET, JobOutcome
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan
from sepsearch.search.search_end import end_rules
from sepsearch.search.stopping.methods import METHODS
from sepsearch.search.stopping.rule import StoppingRule
from sepsearch.search.trials import Trial, best_trials
from sepsearch.spaces.space import Space

UNKNOWN = "unknown from here"
IDENTITY = 1.0  # the ratio of doing nothing, which is what there is before any trial has finished
RESAMPLES = 2000
CHOSEN = 3  # trials that are retrained: the default of `final: configurations`


class Source(Protocol):
    """Where a simulated search has its learning curves from."""

    def pick(self, params: Params) -> Params:
        """The configuration that is trained in place of a proposed one."""

    def train(self, params: Params) -> Iterator[Params]:
        """What a worker would report, epoch by epoch; it ends early where no more is known."""

    def end(self, params: Params) -> float | None:
        """The value of a configuration at the full budget, where that is known without training."""


@dataclass(frozen=True)
class Strategy:
    """A search strategy: sampler, value reported for stopped trials, and rungs; `factor` None stops no trial.

    `stopping` is the early-stopping method, as in a space file.
    """

    sampler: str
    grace: int = 1
    factor: int | None = None
    tell: str = "pruned"
    stopping: str = "asha"

    @property
    def rungs(self) -> str:
        """The scheduler in words: its factor and first rung, and its method unless that is ASHA."""
        if self.factor is None or self.stopping == "none":
            return "no rungs"
        if self.stopping == "curve_model":
            return f"curve_model every {self.grace}"
        method = "" if self.stopping == "asha" else f"{self.stopping} "
        return f"{method}÷{self.factor} from {self.grace}"

    def rule(self, epochs: int) -> StoppingRule:
        """The early-stopping rule, for a full budget of so many epochs."""
        return METHODS["none" if self.factor is None else self.stopping](self.grace, self.factor or 2, epochs)

    def apply(self, space: Space) -> Space:
        """The space with this strategy's settings."""
        changes = {"sampler": self.sampler, "tell": self.tell}
        return space.model_copy(update={"search": space.search.model_copy(update=changes)})


@dataclass
class Outcome:
    """What came of a simulated search.

    Attributes:
        steps: (epochs spent by all trials so far, best value so far) at every improvement; only trials that reached
            the full budget count.
        epochs: spent in all.
        seconds: of virtual time until the last trial ended.
        ended: how many trials "completed", "stopped" (at a rung), "failed", were "unknown" from some epoch on, or were
            "halted" by the budget.
        missed: whether a trial that was stopped at a rung would have ended better than the best; None where a stopped
            trial's end is not known.
        trials: all that began, in order.
        chosen: values at the full budget, where the source knows them, of the trials that the search would retrain:
            the best at the full budget or, where none got there, of those that came furthest. The best first.
        choices: (epochs spent by all trials so far, value at the full budget of the best trial so far, which is chosen
            in the same way) at every change; NaN where the source does not know it.
    """

    steps: list[tuple[int, float]] = field(default_factory=list)
    epochs: int = 0
    seconds: float = 0.0
    ended: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("completed", "stopped", "failed", "unknown", "halted"), 0)
    )
    missed: bool | None = False
    trials: list[Trial] = field(default_factory=list)
    chosen: list[float] = field(default_factory=list)
    choices: list[tuple[int, float]] = field(default_factory=list)
    leader: tuple[bool, int, float] | None = None  # rank of the choice so far, see `trials.Trial.rank`

    @property
    def best(self) -> float:
        """The best value of a trial that reached the full budget; NaN if none did."""
        return self.steps[-1][1] if self.steps else math.nan

    def at(self, epochs: int) -> float:
        """The best value when this many epochs were spent; NaN before any trial had finished."""
        number = bisect_right(self.steps, (epochs, math.inf))
        return self.steps[number - 1][1] if number else math.nan

    def mean_until(self, epochs: int) -> float:
        """The mean of the best value so far over the first `epochs` epochs spent; 1, identity, before there is one."""
        values = (self.at(spent) for spent in range(1, epochs + 1))
        return sum(IDENTITY if math.isnan(value) else value for value in values) / epochs

    def reaches(self, value: float) -> float:
        """How many epochs were spent when the best first was at most `value`; infinite if it never was."""
        return next((float(epochs) for epochs, best in self.steps if best <= value), math.inf)

    def chooses(self, value: float) -> float:
        """How many epochs were spent when the choice first had a value of at most `value` at the full budget."""
        return next((float(epochs) for epochs, end in self.choices if end <= value), math.inf)


class _Memory:
    """A journal that keeps nothing."""

    def append(self, event: Event) -> None:
        """Nothing outlives a simulated search."""


class _Workplace:
    """Workers in virtual time: epochs that have begun, of which the one that ends first comes out first."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.busy: list[tuple[float, int, str, Params | None, Iterator[Params]]] = []
        self.paused: dict[str, Iterator[Params]] = {}  # what follows of paused trials, by id
        self._turn = 0  # of two epochs that end at the same time the one that began first comes first

    def begin(self, job: str, curve: Iterator[Params]) -> None:
        """Train a unit's next epoch."""
        report = next(curve, None)
        seconds = report["seconds"] if report else 0.0
        heapq.heappush(self.busy, (self.clock + seconds, self._turn, job, report, curve))
        self._turn += 1

    def wait(self) -> tuple[str, Params | None, Iterator[Params]]:
        """The next epoch to end: its job, its report or None where no more is known, and what follows."""
        self.clock, _, job, report, curve = heapq.heappop(self.busy)
        return job, report, curve


def simulate(
    source: Source,
    space: Space,
    strategy: Strategy,
    *,
    trials: int,
    epochs: int,
    workers: int = 2,
    seed: int = 0,
    budget: int | None = None,
    network_seed: int = 0,
    sampler: Sampler | None = None,
    rule: StoppingRule | None = None,
) -> Outcome:
    """Run one search in virtual time. `sepsearch.search.scheduler.SearchPlan` decides everything, as in a real one.

    Args:
        source: of learning curves.
        space: what the sampler proposes from.
        strategy: how it searches.
        trials: at most; the source must have as many.
        epochs: the full budget of a trial.
        workers: how many trials run at once. An epoch takes the seconds that were recorded, so that trials overtake
            each other as they would.
        seed: of the sampler.
        budget: epochs that all trials together may spend; those that still run then are halted.
        network_seed: of the plan.
        sampler: for the space with the strategy's settings, where it is more than that and the seed make; it must
            pick from the source.
        rule: early-stopping rule in place of the strategy's.
    """
    space = strategy.apply(space)
    if sampler is None:
        sampler = Sampler(space, None, "simulated", seed, pick=source.pick)
    stopping, rules = rule or strategy.rule(epochs), end_rules(space, sampler, seed)
    plan = SearchPlan(sampler, stopping, _Memory(), trials, epochs, network_seed, end_rules=rules)
    outcome, workplace = Outcome(), _Workplace()

    def start() -> None:
        while len(workplace.busy) < workers and (following := plan.next()) is not None:
            job, task = following
            curve = workplace.paused.pop(job) if job in workplace.paused else source.train(task["params"])
            workplace.begin(job, curve)

    start()
    while workplace.busy and (budget is None or outcome.epochs < budget):
        job, report, curve = workplace.wait()
        outcome.epochs += report is not None
        if report is not None and _goes_on(plan, job, report):
            workplace.begin(job, curve)
            continue
        plan.ended(job, JobOutcome("halted", UNKNOWN) if report is None else JobOutcome())
        if plan.trials[job].paused:
            workplace.paused[job] = curve
        _follow(outcome, plan.trials[job], source)
        start()
    plan.give_up(TIME_BUDGET)
    outcome.trials = list(plan.trials.values())
    _count(outcome, plan, source)
    outcome.seconds = workplace.clock
    _judge_stops(outcome, plan, source)
    return outcome


def _goes_on(plan: SearchPlan, job: str, report: Params) -> bool:
    """Hand in an epoch; whether the trial has another one to train."""
    stopped = plan.result(job, report) is not None
    return not stopped and "failed" not in report and report["epoch"] < plan.epochs


def _follow(outcome: Outcome, trial: Trial, source: Source) -> None:
    """Take in a trial that has ended or paused: whether it is the best so far."""
    if trial.state == "completed" and not trial.ratio >= outcome.best:
        outcome.steps.append((outcome.epochs, trial.ratio))
    if trial.state == "failed":
        return
    rank = (trial.state != "completed", -trial.epochs, trial.ratio)
    if outcome.leader is None or rank < outcome.leader:
        outcome.leader = rank
        end = source.end(trial.params)
        outcome.choices.append((outcome.epochs, math.nan if end is None else end))


def _count(outcome: Outcome, plan: SearchPlan, source: Source) -> None:
    """Take in how all trials ended."""
    trials = list(plan.trials.values())
    for trial in trials:
        kind = {UNKNOWN: "unknown", TIME_BUDGET: "halted"}.get(trial.reason, trial.state)
        outcome.ended[kind] += 1
    ends = [source.end(trial.params) for trial in best_trials(trials, CHOSEN)]
    outcome.chosen = [end for end in ends if end is not None]


def _judge_stops(outcome: Outcome, plan: SearchPlan, source: Source) -> None:
    """Whether a trial that rungs stopped would have won."""
    stopped = [trial for trial in plan.trials.values() if trial.state == "stopped" and trial.rung is not None]
    ends = [source.end(trial.params) for trial in stopped]
    known = [end for end in ends if end is not None]
    if any(not end >= outcome.best for end in known):
        outcome.missed = True
    elif len(known) < len(ends):
        outcome.missed = None


def interval(values: Sequence[float], share: float = 0.95) -> tuple[float, float, float]:
    """Mean, and the percentile bootstrap's interval of the mean (Efron 1979), always of the same resamples."""
    sample = np.asarray(values, dtype=float)
    chosen = np.random.default_rng(0).integers(0, len(sample), (RESAMPLES, len(sample)))
    low, high = np.quantile(sample[chosen].mean(axis=1), [(1 - share) / 2, (1 + share) / 2])
    return float(sample.mean()), float(low), float(high)
