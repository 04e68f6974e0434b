"""The sampler: an Optuna study that proposes configurations and is told how each one ended."""

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.config import Parameter, Space

if TYPE_CHECKING:
    import optuna


class Sampler:
    """Asks Optuna for configurations and tells it the outcome of each, exactly once.

    The study is kept in an Optuna journal file, which optuna-dashboard opens. The first configuration is always the
    reference, the report's.

    Args:
        space: what to sample.
        path: the study's journal file; must not exist.
        name: the study's name.
        seed: of the sampler.
    """

    def __init__(self, space: Space, path: Path, name: str, seed: int):
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(logging.WARNING)
        self.space = space
        path.parent.mkdir(parents=True, exist_ok=True)
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            sampler=make_sampler(space, seed),
            study_name=name,
            direction="minimize",
        )
        self._begun = False
        self._open: dict[str, optuna.trial.Trial | None] = {}
        # Conditions name unconditional parameters only, so two passes in the file's order are enough.
        self._order = sorted(space.parameters, key=lambda name: bool(space.parameters[name].when))

    def ask(self, trial: str) -> dict[str, Any]:
        """A complete configuration for the trial with this id; the reference's for the first."""
        if self._begun:
            asked = self.study.ask()
            self._open[trial] = asked
            asked.set_user_attr("trial", trial)
            return self.space.complete(self._suggest(asked))
        self._begun = True
        params = self.reference_params()
        if not self.holds_reference():
            # Outside the space the study cannot place it: it runs, and the study is not told.
            self._open[trial] = None
            return params
        self.study.enqueue_trial({name: params[name] for name in self._order}, user_attrs={"trial": trial})
        asked = self.study.ask()
        self._open[trial] = asked
        self._suggest(asked)
        return params

    def reference_params(self) -> dict[str, Any]:
        """The report's configuration as plain values."""
        from sepsearch.network import config_params

        return config_params(self.space.reference())

    def holds_reference(self) -> bool:
        """Whether the space can propose the report's configuration."""
        reference = self.reference_params()
        return all(reference[name] == value for name, value in self.space.fixed.items()) and all(
            _holds(parameter, reference[name])
            for name, parameter in self.space.parameters.items()
            if all(reference[other] == value for other, value in parameter.when.items())
        )

    def _suggest(self, trial: "optuna.trial.Trial") -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name in self._order:
            parameter = self.space.parameters[name]
            if any(values.get(other) != value for other, value in parameter.when.items()):
                continue
            if parameter.choices is not None:
                values[name] = trial.suggest_categorical(name, parameter.choices)
            elif parameter.whole:
                values[name] = trial.suggest_int(
                    name, int(parameter.low or 0), int(parameter.high or 0), step=parameter.step or 1, log=parameter.log
                )
            else:
                low, high = float(parameter.low or 0), float(parameter.high or 0)
                values[name] = trial.suggest_float(name, low, high, log=parameter.log)
        return values

    def report(self, trial: str, epoch: int, value: float) -> None:
        """Record an intermediate value of a running trial."""
        if (asked := self._open.get(trial)) is not None:
            asked.report(value, epoch)

    def tell(self, trial: str, state: str, value: float | None, reason: str = "") -> None:
        """End a trial: "completed" with its value, "stopped" (pruned at its last intermediate value) or "failed"."""
        from optuna.trial import TrialState

        asked = self._open.pop(trial, None)
        if asked is None:
            return
        asked.set_user_attr("reason", reason)
        states = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
        self.study.tell(asked, value if state == "completed" else None, state=states[state])

    def close(self, reason: str) -> None:
        """Tell the study that every trial still open has failed, so that none stays RUNNING."""
        for trial in list(self._open):
            self.tell(trial, "failed", None, reason)


def _holds(parameter: Parameter, value: Any) -> bool:
    if parameter.choices is not None:
        return value in parameter.choices
    low, high = parameter.low or 0, parameter.high or 0
    return low <= value <= high and (not parameter.step or (value - low) % parameter.step == 0)


def make_sampler(space: Space, seed: int) -> "optuna.samplers.BaseSampler":
    """The sampler that a space file names, seeded."""
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    startup = space.search.startup_trials
    conditional = any(parameter.when for parameter in space.parameters.values())
    match space.search.sampler:
        case "random":
            return samplers.RandomSampler(seed=seed)
        case "gp":
            return samplers.GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        case "qmc":
            return samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
        case _:
            # group: parameters that appear together are modelled together, which conditional spaces need.
            return samplers.TPESampler(seed=seed, n_startup_trials=startup, group=conditional)
