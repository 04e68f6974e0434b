"""A sampler of one's own: `search: {sampler: local}` in a space file.

Half of the proposals are the best trial so far with some of its parameters drawn anew, all others are random.
As an installed plug-in: examples/plugin.
"""

from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

KEPT = 0.7  # chance that a parameter keeps the value of the best trial


class LocalSampler(BaseSampler):
    """Draws around the best completed trial; remembers nothing itself, so that a resumed search goes on the same."""

    def __init__(self, seed: int, startup_trials: int):
        self._random = np.random.default_rng(seed)
        self._others = RandomSampler(seed=seed)
        self._startup = startup_trials
        self._best: FrozenTrial | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """No parameters are drawn together."""
        return {}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict:
        """Called once a trial, before its parameters: whether it is near the best, and which trial that is."""
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        near = len(done) >= self._startup and self._random.random() < 0.5
        self._best = min(done, key=lambda one: (one.value, one.number)) if near else None
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """One parameter; those whose conditions do not hold are not asked for."""
        if self._best and param_name in self._best.params and self._random.random() < KEPT:
            return self._best.params[param_name]
        return self._others.sample_independent(study, trial, param_name, param_distribution)
