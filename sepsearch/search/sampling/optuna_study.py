"""An Optuna study with ask, report and tell by the trials' names, which records the outcome of each trial.

A trial that was stopped early is PRUNED, with its intermediate values, so that `study.best_trial` and optuna-dashboard
show what ran to its end. What samplers see of it is a choice by name.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

if TYPE_CHECKING:
    import optuna
    from optuna.trial import TrialState

Stopped = Literal["pruned", "last", "extrapolated"]
DIRECTIONS: dict[str, Literal["minimize", "maximize"]] = {"min": "minimize", "max": "maximize"}


@dataclass(slots=True)
class Asked:
    """A proposed configuration and its outcome.

    `outcome` is (state, value) once it has ended; the value of a stopped one is what samplers see. `constraints`:
    Optuna's values, above 0 where one is violated.
    """

    params: dict[str, Any]
    curve: dict[int, float] = field(default_factory=dict)
    outcome: "tuple[TrialState, float | None] | None" = None
    reason: str = ""
    live: "optuna.trial.Trial | None" = None
    constraints: dict[str, float] = field(default_factory=dict)
    paused: "tuple[TrialState, float | None] | None" = None  # as samplers see it while it is paused

    def attributes(self) -> dict[str, Any]:
        """User attributes of a trial that has ended."""
        from optuna.trial import TrialState

        from sepsearch.search.sampling.study_storage import SAMPLER_VALUE

        assert self.outcome is not None
        state, value = self.outcome
        seen = {SAMPLER_VALUE: value} if state == TrialState.PRUNED and value is not None else {}
        return {"reason": self.reason, **seen}


class OptunaStudy:
    """Asks Optuna for configurations and records the outcome of each trial exactly once.

    Args:
        space: the distributions of all parameters, or a function that takes an `optuna.trial.Trial` and returns the
            parameters it has suggested.
        sampler: Optuna's, as `optuna.create_study` takes it.
        storage: Optuna's; None keeps the study in memory. An existing study of that name goes on.
        name: of the study.
        mode: "min" or "max".
        stopped: what samplers see of a trial that was stopped early: "pruned" (ranked behind all that ended, by how
            far it came), "last" (completed with its last value) or "extrapolated" (completed with the value of
            `extrapolate`). In the study it is PRUNED with its intermediate values; the value that samplers see is its
            attribute `study_storage.SAMPLER_VALUE`.
        memory: how many of the completed trials extrapolation considers, the latest.

    Raises:
        ValueError: no such mode or choice.
    """

    def __init__(
        self,
        space: "Mapping[str, optuna.distributions.BaseDistribution] | Callable[[optuna.trial.Trial], dict[str, Any]]",
        *,
        sampler: "optuna.samplers.BaseSampler | None" = None,
        storage: "optuna.storages.BaseStorage | None" = None,
        name: str = "study",
        mode: Literal["min", "max"] = "min",
        stopped: Stopped = "pruned",
        memory: int = 500,
    ):
        import optuna

        from sepsearch.search.sampling.study_storage import SamplerView

        if stopped not in get_args(Stopped) or mode not in DIRECTIONS:
            raise ValueError(f"stopped {stopped!r}, mode {mode!r}: expected {get_args(Stopped)}, {tuple(DIRECTIONS)}")
        storage = storage or optuna.storages.InMemoryStorage()
        self.study = optuna.create_study(
            storage=storage, study_name=name, direction=DIRECTIONS[mode], load_if_exists=True
        )
        view = SamplerView(storage)
        self._paused, seen_storage = view.paused, cast(Any, view)
        self._proposing = optuna.Study(name, seen_storage, sampler=sampler)
        self._distributions, self._stopped = space, stopped
        self._asked: dict[str, Asked] = {}
        self._completed: deque[dict[int, float]] = deque(maxlen=memory)

    def ask(self, trial: str) -> dict[str, Any] | None:
        """A configuration for the trial with this name."""
        if callable(self._distributions):
            live = self._proposing.ask()
            params = self._distributions(live)
        else:
            live = self._proposing.ask(dict(self._distributions))
            params = live.params
        live.set_user_attr("trial", trial)
        self._asked[trial] = Asked(params, live=live)
        return params

    def constrain(self, trial: str, values: Mapping[str, float]) -> None:
        """Set the values of a trial's constraints, above 0 for a violated one; call before `tell`."""
        self._asked[trial].constraints = dict(values)

    def report(self, trial: str, epoch: int, value: float) -> None:
        """Record an intermediate value of a running trial."""
        asked = self._asked[trial]
        asked.curve[epoch] = value
        if asked.live is not None:
            asked.live.report(value, epoch)

    def tell(self, trial: str, state: str, value: float | None, reason: str = "") -> None:
        """End a trial, once: "completed" with its value, "stopped" at its last intermediate value, or "failed"."""
        from optuna.trial import TrialState

        asked = self._asked[trial]
        if asked.outcome is not None:
            return
        asked.outcome, asked.reason = self._outcome(asked, state, value), reason
        if state == "completed":
            self._completed.append(asked.curve)
        if asked.live is not None:
            ended, final = asked.outcome
            asked.paused = None
            self.mark_paused(asked)
            for key, attribute in asked.attributes().items():
                asked.live.set_user_attr(key, attribute)
            for key, found in asked.constraints.items():
                asked.live.set_constraint(key, found)
            # Optuna itself gives a pruned trial its last value.
            self._proposing.tell(asked.live, None if ended == TrialState.PRUNED else final, state=ended)
            self._forget(asked)

    def value_seen(self, trial: str) -> float | None:
        """The value that samplers see of a trial that has ended or is paused; None for a trial without one."""
        seen = self._asked[trial].outcome or self._asked[trial].paused
        return seen[1] if seen else None

    def pause(self, trial: str, paused: bool) -> None:
        """A trial pauses, or goes on: while it is paused samplers see it as one that was stopped."""
        asked = self._asked[trial]
        asked.paused = self._outcome(asked, "stopped", None) if paused else None
        self.mark_paused(asked)

    def mark_paused(self, asked: Asked) -> None:
        """Have samplers see whether a trial that has not ended is paused."""
        if asked.live is not None:
            self._paused.pop(asked.live.number, None)
            if asked.paused is not None:
                self._paused[asked.live.number] = asked.paused[1]

    def _forget(self, asked: Asked) -> None:
        """Free the memory of a trial that has ended: the study has all of it."""
        asked.live, asked.params, asked.curve = None, {}, {}

    def _outcome(self, asked: Asked, state: str, value: float | None) -> "tuple[TrialState, float | None]":
        from optuna.trial import TrialState

        if state == "completed":
            return TrialState.COMPLETE, value
        if state == "failed":
            return TrialState.FAIL, None
        if self._stopped == "pruned" or not asked.curve:
            return TrialState.PRUNED, None
        if self._stopped == "last":
            return TrialState.PRUNED, asked.curve[max(asked.curve)]
        return TrialState.PRUNED, extrapolate(asked.curve, self._completed)


def extrapolate(curve: Mapping[int, float], completed: Iterable[Mapping[int, float]]) -> float:
    """Estimate of the value that a stopped trial would have reached, from the completed trials.

    Its last value times the median, over the completed trials, of how their value changed from that epoch to their
    end; its last value itself as long as none has completed. Both are epoch → value, larger than 0.
    """
    epoch = max(curve)
    changes = [other[max(other)] / other[epoch] for other in completed if other.get(epoch)]
    return curve[epoch] * (median(changes) if changes else 1.0)
