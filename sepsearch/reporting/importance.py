"""What mattered: how much of the trials' differences each parameter explains, and how much chance would."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import optuna

Thing = TypeVar("Thing")
LEAST = 4  # trials; with fewer there is nothing to compare
MOST = 1000  # with more it takes minutes, and says no more
SHUFFLES = 19  # the largest of so many is surpassed by chance once in 20


@dataclass(frozen=True)
class Importance:
    """A parameter's share of all importance, and the largest that it reached, in the same unit, by mere chance.

    That one may be above 1: what chance gives can be more than all that there is.
    """

    name: str
    share: float
    chance: float


def judged_trials(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """The trials with a finite value: of one that was stopped (PRUNED) it is the last that was measured."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return [trial for trial in trials if trial.value is not None and math.isfinite(trial.value)]


def spaced(things: Sequence[Thing], most: int) -> list[Thing]:
    """At most so many of the things, evenly spaced, in their order."""
    if len(things) <= most:
        return list(things)
    return [things[number * len(things) // most] for number in range(most)]


def importances(study: "optuna.Study") -> list[Importance]:
    """Parameters by importance, the largest first; none where there are too few trials, or all are worth the same.

    PED-ANOVA (Watanabe et al. 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
    Subspaces", arXiv 2304.10255) compares how the best tenth of the trials is spread over a parameter with all of them.
    What chance gives is found by handing the trials each other's values, `SHUFFLES` times. Of more than `MOST` trials
    as many are taken, evenly spaced.
    """
    trials = spaced(judged_trials(study), MOST)
    values = [trial.value for trial in trials if trial.value is not None]
    if len(trials) < LEAST or len(set(values)) < 2:
        return []
    found = _raw(trials, values)
    total = sum(found.values()) or 1.0
    generator = np.random.default_rng(0)
    shuffled = [_raw(trials, generator.permutation(values).tolist()) for _ in range(SHUFFLES)]
    whole = [
        Importance(name, value / total, max(other.get(name, 0.0) for other in shuffled) / total)
        for name, value in found.items()
    ]
    return sorted(whole, key=lambda one: -one.share)


def _raw(trials: "Sequence[optuna.trial.FrozenTrial]", values: Sequence[float]) -> dict[str, float]:
    """Importance by parameter (a Pearson divergence, no share), for trials with these values."""
    import optuna
    from optuna.importance import get_param_importances
    from optuna.trial import create_trial

    part = optuna.create_study(direction="minimize")
    part.add_trials(
        create_trial(value=value, params=trial.params, distributions=trial.distributions)
        for trial, value in zip(trials, values, strict=True)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(part, normalize=False)
    return {name: float(value) if math.isfinite(value) else 0.0 for name, value in found.items()}
