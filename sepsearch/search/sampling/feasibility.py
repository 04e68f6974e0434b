"""Proposals that violate a constraint: never trained, and entered in the sampler's study as infeasible.

The sampler of a search learns from them where not to look (Optuna's constraints: TPE counts infeasible trials among the
bad ones, the Gaussian process models every constraint). A trial's event in the journal has those that came before it,
so that a resumed search learns the same.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sepsearch.models.size import known_parameters
from sepsearch.search.events import TrialEvent
from sepsearch.search.sampling.optuna_space import distribution
from sepsearch.spaces.configurations import sampled_names
from sepsearch.spaces.space import Space

if TYPE_CHECKING:
    import optuna

    from sepsearch.search.scheduler import SearchPlan

MOST_PROPOSALS = 100  # of one trial, before the space is taken to hold no other feasible configuration
# How many of these the sampler makes itself, and learns from; the others are random. A Gaussian process takes seconds
# for each, and of a quasi-random sequence a trial takes one point.
OWN_PROPOSALS = {"gp": 4, "qmc": 1}
DEFAULT_OWN = 20  # of other samplers


class Feasibility:
    """Which configurations of a space are small enough, and which proposals were not.

    Args:
        space: with its constraints.
    """

    def __init__(self, space: Space):
        self._space = space
        self._limits = space.constraints
        self.rejected: dict[str, list[dict[str, Any]]] = {}  # trial → sampled values of proposals that came before it

    def own_proposals(self) -> int:
        """How many infeasible proposals the search's own sampler makes for one trial; 0 without a limit of size."""
        if self._limits.parameters is None:
            return 0
        return OWN_PROPOSALS.get(self._space.search.sampler, DEFAULT_OWN)

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Whether a complete configuration's network is small enough."""
        if self._limits.parameters is None:
            return True
        return not self._limits.violation(known_parameters(params), None)

    def reject(self, study: "optuna.Study", proposal: "optuna.trial.Trial", params: Mapping[str, Any], of: str) -> None:
        """End a proposal for the trial `of` as infeasible; `params` is its complete configuration."""
        from optuna.trial import TrialState

        found = self._limits.values(known_parameters(params), None, True)
        proposal.set_user_attr("reason", f"infeasible: {self._reason(params)}")
        for name, value in found.items():
            proposal.set_constraint(name, value)
        study.tell(proposal, state=TrialState.PRUNED)
        self.rejected.setdefault(of, []).append(dict(proposal.params))

    def _reason(self, params: Mapping[str, Any]) -> str:
        return self._limits.violation(known_parameters(params), None)

    def event(self, trial: str, params: dict[str, Any]) -> TrialEvent:
        """The event of a trial that begins: with its number of parameters, and what was rejected before it."""
        event: TrialEvent = {"event": "trial", "id": trial, "params": params}
        if (parameters := known_parameters(params)) is not None:
            event["parameters"] = parameters
        if rejected := self.rejected.get(trial):
            event["infeasible"] = rejected
        return event

    def restore(self, trial: str, proposals: Iterable[Mapping[str, Any]]) -> None:
        """Take in the sampled values of the proposals that were rejected before a trial, from its event."""
        if kept := [dict(values) for values in proposals]:
            self.rejected[trial] = kept

    def enter(self, study: "optuna.Study", trial: str) -> None:
        """Enter the proposals that were rejected before a trial in a rebuilt study."""
        from optuna.trial import TrialState, create_trial

        for values in self.rejected.get(trial, ()):
            params = self._space.complete(values)
            names = [name for name in sampled_names(self._space, params) if name in values]
            if any(not self._space.parameters[name].holds(values[name]) for name in names):
                continue  # of a space that was changed since
            study.add_trial(
                create_trial(
                    state=TrialState.PRUNED,
                    params={name: values[name] for name in names},
                    distributions={name: distribution(self._space.parameters[name]) for name in names},
                    user_attrs={"reason": f"infeasible: {self._reason(params)}"},
                    constraints=self._limits.values(known_parameters(params), None, True),
                )
            )


def shortage(plan: "SearchPlan", trials: int, stopped: str) -> str:
    """What constraints did to a search that is over, for people: fewer trials than wanted, or no finalist; "".

    Args:
        plan: of the search.
        trials: how many were wanted.
        stopped: why it was stopped before its end; "" if it was not.
    """
    most, ended = plan.sampler.space.constraints.parameters, list(plan.trials.values())
    if ended and all(trial.infeasible for trial in ended) and any(trial.state for trial in ended):
        return "no trial has kept to the constraints: the reference network alone is trained again, for comparison"
    if most is None or stopped or len(ended) >= trials:
        return ""
    where = "is left in the space" if plan.sampler.listed else f"was found in {MOST_PROPOSALS} proposals"
    count = f"{len(ended)} trial{'' if len(ended) == 1 else 's'} instead of {trials}"
    return f"no other configuration with at most {most:,.0f} parameters {where}: {count}"


def startup_trials(space: Space, trials: Callable[[], Iterable["optuna.trial.FrozenTrial"]], rejected: bool) -> int:
    """How many trials a sampler draws at random first: infeasible proposals, which Optuna counts, are none of them.

    Args:
        space: with the number of trials.
        trials: gives those of the study that the sampler sees.
        rejected: whether there are infeasible proposals.
    """
    from sepsearch.search.sampling.study_storage import infeasible

    beside = 0
    if rejected:
        beside = sum(one.state.is_finished() and "trial" not in one.user_attrs and infeasible(one) for one in trials())
    return space.search.startup_trials + beside
