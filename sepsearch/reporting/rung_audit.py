"""A search looked at afterwards: its plan, rungs and study as they were, from the journal's events alone."""

import functools
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sepsearch.search.asha import Rungs
from sepsearch.search.events import Event
from sepsearch.search.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan, Trial
from sepsearch.search.space import Space, parse_space
from sepsearch.utils.errors import UserError

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Verdict:
    """What a rung said of a trial: the `place` of its value among `known` ones, of which the best `passing` go on."""

    trial: str
    rung: int
    value: float
    place: int
    known: int
    passing: int
    cutoff: float
    stops: bool


class WatchedRungs(Rungs):
    """Rungs that remember their verdicts."""

    def __init__(self, grace: int, factor: int, epochs: int):
        super().__init__(grace, factor, epochs)
        self.verdicts: list[Verdict] = []

    def report(self, trial: str, epoch: int, value: float) -> int | None:
        """As `Rungs.report`."""
        stops = super().report(trial, epoch, value)
        if epoch in self.values and math.isfinite(value):
            known = sorted(self.values[epoch].values())
            passing = len(known) // self.factor or len(known)  # too few to judge by: all go on
            place = 1 + sum(other < value for other in known)
            cutoff = known[passing - 1]
            verdict = Verdict(trial, epoch, value, place, len(known), passing, cutoff, stops is not None)
            self.verdicts.append(verdict)
        return stops


class _Nothing:
    """A journal that is only read."""

    def append(self, kind: str, **fields: Any) -> None:
        raise AssertionError("what is looked at afterwards does not change")


@dataclass(frozen=True)
class Hindsight:
    """What was found: trials by id, the rungs' verdicts in order, and the study.

    A stopped trial is PRUNED there, and its value the last that was measured.
    """

    space: Space
    rungs: WatchedRungs
    trials: dict[str, Trial] = field(default_factory=dict)
    study: "optuna.Study | None" = None

    @property
    def verdicts(self) -> list[Verdict]:
        """In the order in which they were passed."""
        return self.rungs.verdicts

    @functools.cached_property
    def stops(self) -> dict[str, Verdict]:
        """The last verdict that stops a trial, by trial."""
        return {verdict.trial: verdict for verdict in self.rungs.verdicts if verdict.stops}


def look_back(search: Event, events: Iterable[Event]) -> Hindsight:
    """Restore a search from all events of its journal; nothing is trained, asked for or written.

    Args:
        search: the event "search" with all later changes.
        events: of the run.

    Raises:
        UserError: the journal's space cannot be searched by this version, or does not fit its trials.
    """
    where = f"the journal of {search.get('name')}"
    try:
        space, epochs = parse_space(search["space"], where), int(search["settings"]["epochs"])
        rungs = WatchedRungs(space.search.grace_epochs, space.search.reduction_factor, epochs)
        sampler = Sampler(space, None, "hindsight", 0, window=(0, sys.maxsize))
        plan = SearchPlan(sampler, rungs, _Nothing(), int(search["settings"]["trials"]), epochs, 0)
        plan.restore(events)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        problem = f"settings, space and trials do not fit together ({type(error).__name__}: {error})"
        raise UserError(f"{where}: {problem}: restore the file") from error
    return Hindsight(space, rungs, plan.trials, sampler.study)
