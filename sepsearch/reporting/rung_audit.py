"""Audit of the rungs of a search: its decisions and study, restored from the journal's events alone."""

import functools
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sepsearch.search.asha import Rungs
from sepsearch.search.events import Event, SearchEvent
from sepsearch.search.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan
from sepsearch.search.trials import Trial
from sepsearch.spaces.space import Space, parse_space
from sepsearch.utils.errors import UserError

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Decision:
    """Decision of a rung on a trial: the rank (`place`) of its value among `known` ones; the best `passing` go on."""

    trial: str
    rung: int
    value: float
    place: int
    known: int
    passing: int
    cutoff: float
    stops: bool


class RecordedRungs(Rungs):
    """Rungs that record their decisions."""

    def __init__(self, grace: int, factor: int, epochs: int):
        super().__init__(grace, factor, epochs)
        self.decisions: list[Decision] = []

    def report(self, trial: str, epoch: int, value: float) -> int | None:
        """As `Rungs.report`."""
        stops = super().report(trial, epoch, value)
        if epoch in self.values and math.isfinite(value):
            known = sorted(self.values[epoch].values())
            passing = len(known) // self.factor or len(known)  # too few to judge by: all go on
            place = 1 + sum(other < value for other in known)
            cutoff = known[passing - 1]
            decision = Decision(trial, epoch, value, place, len(known), passing, cutoff, stops is not None)
            self.decisions.append(decision)
        return stops


class _ReadOnly:
    """A journal that is only read."""

    def append(self, event: Event) -> None:
        raise AssertionError("restoring a search writes no event")


@dataclass(frozen=True)
class RungAudit:
    """Trials by id, the rungs' decisions in order, and the study; a stopped trial is PRUNED there."""

    space: Space
    rungs: RecordedRungs
    trials: dict[str, Trial] = field(default_factory=dict)
    study: "optuna.Study | None" = None

    @property
    def decisions(self) -> list[Decision]:
        """In the order in which they were made."""
        return self.rungs.decisions

    @functools.cached_property
    def stops(self) -> dict[str, Decision]:
        """The last decision that stops a trial, by trial."""
        return {decision.trial: decision for decision in self.rungs.decisions if decision.stops}


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
        space, epochs = parse_space(search["space"], where), int(search["settings"]["epochs"])
        rungs = RecordedRungs(space.search.grace_epochs, space.search.reduction_factor, epochs)
        sampler = Sampler(space, None, "audit", 0, window=(0, sys.maxsize))
        plan = SearchPlan(sampler, rungs, _ReadOnly(), int(search["settings"]["trials"]), epochs, 0)
        plan.restore(events)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        problem = f"settings, space and trials do not fit together ({type(error).__name__}: {error})"
        raise UserError(f"{where}: {problem}: restore the file") from error
    return RungAudit(space, rungs, plan.trials, sampler.study)
