"""A search space as Optuna has it: its samplers, its distributions, and a trial's values."""

import warnings
from typing import TYPE_CHECKING, Any

from sepsearch.search.sampling.sampler_plugins import own_sampler
from sepsearch.spaces.configurations import ordered_names
from sepsearch.spaces.parameter import Parameter
from sepsearch.spaces.space import Space

if TYPE_CHECKING:
    import optuna


def suggest(space: Space, trial: "optuna.trial.Trial") -> dict[str, Any]:
    """The sampled values of a trial: those of parameters whose conditions hold."""
    values: dict[str, Any] = {}
    for name in ordered_names(space):
        parameter = space.parameters[name]
        if any(values.get(other) != value for other, value in parameter.when.items()):
            continue
        if parameter.choices is not None:
            values[name] = trial.suggest_categorical(name, parameter.choices)
        elif steps := parameter.steps:
            values[name] = trial.suggest_int(name, steps[0], steps[-1], step=steps.step, log=parameter.log)
        else:
            low, high = float(parameter.low or 0), float(parameter.high or 0)
            values[name] = trial.suggest_float(name, low, high, log=parameter.log)
    return values


def distribution(parameter: Parameter) -> "optuna.distributions.BaseDistribution":
    """The values that a parameter can take."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.choices is not None:
        return CategoricalDistribution(parameter.choices)
    if steps := parameter.steps:
        return IntDistribution(steps[0], steps[-1], step=steps.step, log=parameter.log)
    return FloatDistribution(float(parameter.low or 0), float(parameter.high or 0), log=parameter.log)


def proposal_seed(seed: int, number: int, attempt: int = 0) -> int:
    """A seed for one proposal of one trial; the first is what it was when there was only one."""
    import numpy as np

    words = [abs(seed), int(seed < 0), number, *([attempt] if attempt else [])]
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def make_sampler(
    space: Space, seed: int, number: int, name: str | None = None, attempt: int = 0, *, startup: int | None = None
) -> "optuna.samplers.BaseSampler":
    """The sampler that a space file names (or `name`), seeded for a proposal for the `number`-th trial of a search.

    `startup`: how many trials are drawn at random first; as the space file says if None.
    """
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    startup = startup or space.search.startup_trials
    own_seed = proposal_seed(seed, number, attempt)
    match name or space.search.sampler:
        case "random":
            return samplers.RandomSampler(seed=own_seed)
        case "gp":
            return samplers.GPSampler(seed=own_seed, n_startup_trials=startup, warn_independent_sampling=False)
        case "qmc":
            return _sobol_sampler(space, seed)
        case "tpe":
            # group: parameters that appear together are modelled together, which conditional spaces need.
            conditional = any(parameter.when for parameter in space.parameters.values())
            return samplers.TPESampler(seed=own_seed, n_startup_trials=startup, group=conditional)
        case own:
            return own_sampler(own, own_seed, startup)


def _sobol_sampler(space: Space, seed: int) -> "optuna.samplers.BaseSampler":
    """Optuna's Sobol sequence over all parameters, one for the whole search: the study counts how far it is.

    Optuna itself takes the dimensions from the trials that run or have ended, and counts every set of them alone: in a
    space with conditions it would depend on what runs in which sequence a search goes on.
    """
    from optuna import samplers

    dimensions = {name: distribution(space.parameters[name]) for name in ordered_names(space)}

    class SobolSampler(samplers.QMCSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return dimensions

    return SobolSampler(seed=abs(seed), scramble=True, warn_independent_sampling=False)
