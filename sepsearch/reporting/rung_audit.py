"""Audit of the rungs of a search: its decisions and study, restored from the journal's events alone."""

import functools
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sepsearch.search.events import Event, SearchEvent
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan
from sepsearch.search.stopping.methods import make_rule
from sepsearch.search.stopping.rule import PausingRule, StoppingRule
from sepsearch.search.trials import Trial
from sepsearch.spaces.space import Space, journal_space
from sepsearch.utils.errors import UserError

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Decision:
    """Decision at a rung on a trial: the rank (`place`) of its value among `known` ones; the best `passing` go on.

    `cutoff` is the value that was good enough; None where no value is. `note`: what else the decision followed from.
    """

    trial: str
    rung: int
    value: float
    place: int
    known: int
    passing: int
    cutoff: float | None
    stops: bool
    note: str = ""


class RecordedRule:
    """A rule that records its decisions."""

    def __init__(self, rule: StoppingRule):
        self.rule, self.factor, self.values = rule, rule.factor, rule.values
        self.decisions: list[Decision] = []

    def record(self, trial: str, epoch: int, value: float) -> None:
        """As `StoppingRule.record`."""
        self.rule.record(trial, epoch, value)

    def report(self, trial: str, epoch: int, value: float) -> int | None:
        """As `StoppingRule.report`."""
        stops = self.rule.report(trial, epoch, value)
        if epoch in self.values and math.isfinite(value):
            self.decisions.append(self.judge(trial, epoch, stops is not None))
        return stops

    def cutoff(self, rung: int) -> float | None:
        """As `StoppingRule.cutoff`."""
        return self.rule.cutoff(rung)

    def note(self, trial: str, rung: int) -> str:
        """As `StoppingRule.note`."""
        return self.rule.note(trial, rung)

    def judge(self, trial: str, rung: int, stops: bool) -> Decision:
        """The decision on a trial at a rung by the values that are there now."""
        known = sorted(self.values[rung].values())
        value, cutoff, note = self.values[rung][trial], self.cutoff(rung), self.note(trial, rung)
        place = 1 + sum(other < value for other in known)
        passing = 0 if cutoff is None else len(known) // self.factor
        if cutoff is None and not note and not isinstance(self.rule, PausingRule):
            passing, cutoff = len(known), known[-1]  # too few to judge by: all go on
        return Decision(trial, rung, value, place, len(known), passing, cutoff, stops, note)


class RecordedPausingRule(RecordedRule):
    """The same of a `PausingRule`."""

    def paused(self, trial: str, rung: int) -> None:
        """As `PausingRule.paused`."""
        self._pausing.paused(trial, rung)

    def promotable(self) -> tuple[str, int] | None:
        """As `PausingRule.promotable`."""
        return self._pausing.promotable()

    def finishing(self) -> tuple[str, int] | None:
        """As `PausingRule.finishing`."""
        return self._pausing.finishing()

    def promoted(self, trial: str, rung: int) -> None:
        """As `PausingRule.promoted`."""
        self._pausing.promoted(trial, rung)

    @property
    def _pausing(self) -> PausingRule:
        assert isinstance(self.rule, PausingRule)
        return self.rule


class _ReadOnly:
    """A journal that is only read."""

    def append(self, event: Event) -> None:
        raise AssertionError("restoring a search writes no event")


@dataclass(frozen=True)
class RungAudit:
    """Trials by id, the rungs' decisions in order, and the study; a stopped trial is PRUNED there."""

    space: Space
    rungs: RecordedRule
    trials: dict[str, Trial] = field(default_factory=dict)
    study: "optuna.Study | None" = None

    @property
    def decisions(self) -> list[Decision]:
        """In the order in which they were made."""
        return self.rungs.decisions

    @functools.cached_property
    def stops(self) -> dict[str, Decision]:
        """The last decision that stops a trial, by trial; of trials that paused there by all that arrived."""
        last = {decision.trial: decision for decision in self.rungs.decisions if decision.stops}
        if not isinstance(self.rungs, RecordedPausingRule):
            return last
        return {trial: self.rungs.judge(trial, one.rung, True) for trial, one in last.items()}


def audit_rungs(search: SearchEvent, events: Iterable[Event]) -> RungAudit:
    """Restore a search from all events of its journal; nothing is trained, proposed or written.

    Args:
        search: the event "search" with all later changes.
        events: of the run.

    Raises:
        UserError: the journal's space cannot be searched by this version, or does not fit its trials.
    """
    where = f"the journal of {search.get('name')}"
    try:
        space, epochs = journal_space(search["space"], where), int(search["settings"]["epochs"])
        rule = make_rule(space.search, epochs)
        rungs = (RecordedPausingRule if isinstance(rule, PausingRule) else RecordedRule)(rule)
        sampler = Sampler(space, None, "audit", 0, window=(0, sys.maxsize))
        plan = SearchPlan(sampler, rungs, _ReadOnly(), int(search["settings"]["trials"]), epochs, 0)
        plan.restore(events)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        problem = f"settings, space and trials do not fit together ({type(error).__name__}: {error})"
        raise UserError(f"{where}: {problem}: restore the file") from error
    return RungAudit(space, rungs, plan.trials, sampler.study)
