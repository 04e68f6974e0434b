"""The sampler: an Optuna study that proposes configurations and is told how each one ended."""

import logging
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from sepsearch.config import Parameter, Space

if TYPE_CHECKING:
    import optuna
    from optuna.trial import TrialState


@dataclass(slots=True)
class _Asked:
    """A configuration that was asked for, and what has come of it. `told` is (state, value) once it has ended."""

    params: dict[str, Any]
    curve: dict[int, float] = field(default_factory=dict)
    told: "tuple[TrialState, float | None] | None" = None
    reason: str = ""
    live: "optuna.trial.Trial | None" = None


class Sampler:
    """Asks Optuna for configurations and tells it the outcome of each, exactly once.

    The study is kept in an Optuna journal file, which optuna-dashboard opens; it is rebuilt from the search's own
    journal whenever a search is resumed. The first configuration is always the reference, the report's.
    What is asked for depends on the seed, on how many were asked for before, and on what was told of them: not on how
    often the process was started anew.

    Args:
        space: what to sample, and by `search.tell` what is told of a trial that was stopped early: "pruned" (Optuna
            ranks it behind all that ended, by how far it came), "last" (its last value, as if it had ended with it) or
            "extrapolated" (`extrapolate`).
        path: the study's journal file, replaced if there is one; None keeps the study in memory.
        name: the study's name.
        seed: of the sampler.
        pick: what is trained in place of a proposed configuration, as where only recorded ones can be had; the study
            learns about that one.
        window: how many of the best and of the latest trials that have ended are considered when the next one is
            proposed; `study_log.WINDOW` if None. The time that takes grows up to there and no further.
    """

    def __init__(
        self,
        space: Space,
        path: Path | None,
        name: str,
        seed: int,
        pick: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        window: tuple[int, int] | None = None,
    ):
        import optuna

        from sepsearch import study_log

        # What it warns of is its own affair: a package that would make its Gaussian process faster, say.
        optuna.logging.set_verbosity(logging.ERROR)
        self.space, self.seed = space, seed
        if path is not None:
            _remove_remains(path)
        window = window or study_log.WINDOW
        storage = study_log.StudyLog(path, *window)
        self.study = optuna.create_study(storage=storage, study_name=name, direction="minimize")
        self._asked: dict[str, _Asked] = {}
        self._completed: deque[dict[int, float]] = deque(maxlen=sum(window))
        self._pick = pick or (lambda params: params)
        # Conditions name unconditional parameters only, so two passes in the file's order are enough.
        self._order = sorted(space.parameters, key=lambda name: bool(space.parameters[name].when))

    def ask(self, trial: str) -> dict[str, Any]:
        """A complete configuration for the trial with this id; the reference's for the first."""
        if not self._asked:
            params = self._pick(self.reference_params())
            self._asked[trial] = _Asked(params, live=self._enter(trial, params))
            return params
        # A sampler of its own for every trial: its random numbers do not depend on what this process did before.
        self.study.sampler = make_sampler(self.space, self.seed, len(self._asked))
        live: optuna.trial.Trial | None = self.study.ask()
        assert live is not None
        live.set_user_attr("trial", trial)
        proposed = self.space.complete(self._suggest(live))
        params = self._pick(proposed)
        if params != proposed:
            self._discard(live)
            live = self._enter(trial, params)
        self._asked[trial] = _Asked(params, live=live)
        return params

    def _discard(self, proposal: "optuna.trial.Trial") -> None:
        """End a proposal that nobody will train as failed: no sampler looks at those."""
        from optuna.trial import TrialState

        self.study.tell(proposal, state=TrialState.FAIL)

    def _enter(self, trial: str, params: dict[str, Any]) -> "optuna.trial.Trial | None":
        """A running trial of the study with given parameters; None outside the space.

        There the study cannot place it: such a trial runs, and the study is not told.
        """
        if not self.holds(params):
            return None
        # Asked by the random sampler: the values are given, and others would go to lengths before they take them.
        self.study.sampler = make_sampler(self.space, self.seed, 0, "random")
        self.study.enqueue_trial({name: params[name] for name in self._sampled(params)}, user_attrs={"trial": trial})
        live = self.study.ask()
        self._suggest(live)
        return live

    def restore(self, trial: str, params: dict[str, Any]) -> None:
        """Take in a trial that an earlier process asked for; then `report` and `tell` what is known of it.

        After the last one call `restored`.
        """
        self._asked[trial] = _Asked(params)

    def restored(self) -> None:
        """Enter all that was restored in the study, in the order in which it was asked for."""
        from optuna.trial import TrialState, create_trial

        for trial, asked in self._asked.items():
            if asked.told is None:
                asked.live = self._enter(trial, asked.params)
                for epoch, value in asked.curve.items():
                    self.report(trial, epoch, value)
            elif self.holds(asked.params):
                state, final = asked.told
                names = self._sampled(asked.params)
                self.study.add_trial(
                    create_trial(
                        state=state,
                        # Optuna itself gives a pruned trial its last value.
                        value=asked.curve[max(asked.curve)] if state == TrialState.PRUNED and asked.curve else final,
                        params={name: asked.params[name] for name in names},
                        distributions={name: _distribution(self.space.parameters[name]) for name in names},
                        intermediate_values=asked.curve,
                        user_attrs={"trial": trial, "reason": asked.reason},
                    )
                )
                self._forget(asked)
        if self.space.search.sampler == "qmc":
            self._advance_sequence()

    def _advance_sequence(self) -> None:
        """Skip what earlier processes took of a quasi-random sequence: Optuna counts that in its study."""
        # The first configuration is drawn from no sequence, nor is the second where the study does not hold the first.
        numbers = range(1 if self.holds_reference() else 2, len(self._asked))
        trial = self.study.trials[-1] if numbers else None
        for number in numbers:
            sampler = make_sampler(self.space, self.seed, number)
            assert trial is not None
            sampler.sample_relative(self.study, trial, sampler.infer_relative_search_space(self.study, trial))

    def reference_params(self) -> dict[str, Any]:
        """The report's configuration as plain values."""
        from sepsearch.network import config_params

        return config_params(self.space.reference())

    def holds_reference(self) -> bool:
        """Whether the space can propose the report's configuration."""
        return self.holds(self.reference_params())

    def holds(self, params: dict[str, Any]) -> bool:
        """Whether the space can propose this configuration."""
        names = self._sampled(params)
        return self.space.complete({name: params[name] for name in names if name in params}) == params and all(
            _holds(self.space.parameters[name], params[name]) for name in names
        )

    def _sampled(self, params: dict[str, Any]) -> list[str]:
        """The parameters that are sampled for this configuration: those whose conditions hold."""
        return [
            name
            for name in self._order
            if all(params.get(other) == value for other, value in self.space.parameters[name].when.items())
        ]

    def _suggest(self, trial: "optuna.trial.Trial") -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name in self._order:
            parameter = self.space.parameters[name]
            if any(values.get(other) != value for other, value in parameter.when.items()):
                continue
            if parameter.choices is not None:
                values[name] = trial.suggest_categorical(name, parameter.choices)
            elif parameter.whole:
                first, last = int(parameter.low or 0), int(parameter.high or 0)
                values[name] = trial.suggest_int(name, first, last, step=parameter.step or 1, log=parameter.log)
            else:
                low, high = float(parameter.low or 0), float(parameter.high or 0)
                values[name] = trial.suggest_float(name, low, high, log=parameter.log)
        return values

    def report(self, trial: str, epoch: int, value: float) -> None:
        """Record an intermediate value of a running trial."""
        asked = self._asked[trial]
        asked.curve[epoch] = value
        if asked.live is not None:
            asked.live.report(value, epoch)

    def tell(self, trial: str, state: str, value: float | None, reason: str = "") -> None:
        """End a trial, once: "completed" with its value, "stopped" at its last intermediate value, or "failed"."""
        asked = self._asked[trial]
        if asked.told is not None:
            return
        asked.told, asked.reason = self._outcome(asked, state, value), reason
        if state == "completed":
            self._completed.append(asked.curve)
        if asked.live is not None:
            asked.live.set_user_attr("reason", reason)
            self.study.tell(asked.live, asked.told[1], state=asked.told[0])
            self._forget(asked)

    def _forget(self, asked: _Asked) -> None:
        """The study knows all of a trial that has ended."""
        asked.live, asked.params, asked.curve = None, {}, {}

    def _outcome(self, asked: _Asked, state: str, value: float | None) -> "tuple[TrialState, float | None]":
        from optuna.trial import TrialState

        if state == "completed":
            return TrialState.COMPLETE, value
        if state == "failed":
            return TrialState.FAIL, None
        if self.space.search.tell == "pruned" or not asked.curve:
            return TrialState.PRUNED, None
        if self.space.search.tell == "last":
            return TrialState.COMPLETE, asked.curve[max(asked.curve)]
        return TrialState.COMPLETE, extrapolate(asked.curve, self._completed)

    def close(self, reason: str) -> None:
        """Tell the study that every trial still open has failed, so that none stays RUNNING."""
        for trial, asked in self._asked.items():
            if asked.told is None:
                self.tell(trial, "failed", None, reason)


def extrapolate(curve: Mapping[int, float], completed: Iterable[Mapping[int, float]]) -> float:
    """The value that a stopped trial would have ended with, as near as the trials that ended tell.

    Its last value times the median, over the completed trials, of how their value changed from that epoch to their
    end; its last value itself as long as none has completed. Both are epoch → value, larger than 0.
    """
    epoch = max(curve)
    changes = [other[max(other)] / other[epoch] for other in completed if other.get(epoch)]
    return curve[epoch] * (median(changes) if changes else 1.0)


def _remove_remains(path: Path) -> None:
    """Remove what an earlier process left of a study, a lock of a killed one included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in (path, *path.parent.glob(f"{path.name}.lock*")):
        left.unlink(missing_ok=True)


def _distribution(parameter: Parameter) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.choices is not None:
        return CategoricalDistribution(parameter.choices)
    if parameter.whole:
        low, high = int(parameter.low or 0), int(parameter.high or 0)
        return IntDistribution(low, high, step=parameter.step or 1, log=parameter.log)
    return FloatDistribution(float(parameter.low or 0), float(parameter.high or 0), log=parameter.log)


def _holds(parameter: Parameter, value: Any) -> bool:
    if parameter.choices is not None:
        return value in parameter.choices
    low, high = parameter.low or 0, parameter.high or 0
    return low <= value <= high and (not parameter.step or (value - low) % parameter.step == 0)


def make_sampler(space: Space, seed: int, number: int, name: str | None = None) -> "optuna.samplers.BaseSampler":
    """The sampler that a space file names (or `name`), seeded for the `number`-th trial of a search."""
    import numpy as np
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    startup = space.search.startup_trials
    own_seed = int(np.random.SeedSequence([abs(seed), int(seed < 0), number]).generate_state(1)[0])
    match name or space.search.sampler:
        case "random":
            return samplers.RandomSampler(seed=own_seed)
        case "gp":
            return samplers.GPSampler(seed=own_seed, n_startup_trials=startup, warn_independent_sampling=False)
        case "qmc":
            # One sequence for the whole search: the study counts how far it is.
            return samplers.QMCSampler(seed=abs(seed), scramble=True, warn_independent_sampling=False)
        case _:
            # group: parameters that appear together are modelled together, which conditional spaces need.
            conditional = any(parameter.when for parameter in space.parameters.values())
            return samplers.TPESampler(seed=own_seed, n_startup_trials=startup, group=conditional)
