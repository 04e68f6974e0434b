"""check_sampler passes samplers that are right, and names what to correct in those that are not."""

from typing import Any

import pytest
from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from sepsearch.testing import check_sampler


@pytest.mark.parametrize(
    "factory",
    [
        lambda seed, startup: RandomSampler(seed=seed),
        lambda seed, startup: TPESampler(seed=seed, n_startup_trials=startup, group=True),
        lambda seed, startup: NSGAIISampler(seed=seed),
    ],
    ids=["random", "tpe", "nsga"],
)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_optunas_own_samplers_pass(factory):
    check_sampler(factory)


class Wrong(RandomSampler):
    """Random, but for one thing."""

    def __init__(self, seed: int, startup: int):
        super().__init__(seed=seed)


class OutOfRange(Wrong):
    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        return "no such choice"


class NeedsResults(Wrong):
    """Fails where no trial has completed yet, as after a number of failures."""

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        if len(study.trials) > 5:
            min(t.value for t in study.get_trials(states=(TrialState.COMPLETE,)))
        return super().sample_independent(study, trial, name, distribution)


class NeedsAttributes(Wrong):
    """Keeps in the study how many trials it has seen, which a restart does not know."""

    def before_trial(self, study: Any, trial: Any) -> None:
        count = study._storage.get_study_system_attrs(study._study_id).get("seen", 0) + 1
        study._storage.set_study_system_attr(study._study_id, "seen", count)
        self._rng.rng.seed(1000 * count + self._rng.rng.randint(1000))


CALLS: list[int] = []


def keeps_count(seed: int, startup: int) -> RandomSampler:
    CALLS.append(seed)
    return RandomSampler(seed=len(CALLS))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda seed, startup: RandomSampler(), "one seed gives other proposals in a second search"),
        (lambda seed, startup: RandomSampler(seed=3), "other seeds give the same first proposal"),
        (keeps_count, "one seed gives other proposals in a second search"),
        (NeedsAttributes, "proposals after a restart are others"),
        (OutOfRange, "cannot propose a configuration"),
        (NeedsResults, "cannot propose a configuration: ValueError"),
        (lambda seed, startup: 3, "its factory gives int, expected an optuna.samplers.BaseSampler"),
        (lambda seed: RandomSampler(seed=seed), "cannot propose a configuration: TypeError"),
        (3, r"expected a function \(seed, startup_trials\), found int"),
    ],
)
def test_a_wrong_sampler_is_named_with_what_to_correct(factory, message):
    with pytest.raises(AssertionError, match=message):
        check_sampler(factory)
