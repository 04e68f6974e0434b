"""The sampler: the reference first, conditions kept, every trial told once."""

from pathlib import Path

import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import load_study
from optuna.trial import TrialState

from sepsearch.config import Space, load_space, parse_space
from sepsearch.network import REPORT_FINAL, config_params, make_config
from sepsearch.sampling import Sampler

SPACES = Path(__file__).parent.parent / "search_spaces"


def small_space(sampler: str = "tpe", **parameters: object) -> Space:
    content = {"filters": [8, 16], "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, **parameters}
    return parse_space({"parameters": content, "search": {"sampler": sampler, "startup_trials": 3}}, "space")


def run(sampler: Sampler, trials: int) -> list[dict]:
    asked = []
    for number in range(trials):
        params = sampler.ask(f"t{number}")
        sampler.report(f"t{number}", 1, params["learning_rate"])
        sampler.tell(f"t{number}", "completed", params["learning_rate"])
        asked.append(params)
    return asked


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_reports_configuration_is_in_every_shipped_space_and_comes_first(path, tmp_path):
    sampler = Sampler(load_space(path), tmp_path / "study.log", "x", seed=0)
    assert sampler.holds_reference()
    assert sampler.ask("t0") == config_params(REPORT_FINAL)


@pytest.mark.parametrize("name", ["tpe", "random", "gp", "qmc"])
def test_the_same_seed_asks_for_the_same_configurations(name, tmp_path):
    first = run(Sampler(small_space(name), tmp_path / "a.log", "x", seed=1), 6)
    second = run(Sampler(small_space(name), tmp_path / "b.log", "x", seed=1), 6)
    assert first == second
    assert len({params["learning_rate"] for params in first}) > 3


def test_every_sampled_configuration_builds_a_network_and_keeps_the_conditions(tmp_path):
    sampler = Sampler(load_space(SPACES / "detector.yaml"), tmp_path / "study.log", "x", seed=3)
    asked = run(sampler, 20)
    assert all(make_config(params) for params in asked)
    assert {params["detector_width"] for params in asked if params["detector_layers"] == 1} == {128}
    stored = [t for t in sampler.study.trials if t.params["detector_layers"] == 1]
    assert stored
    assert all("detector_width" not in trial.params for trial in stored)


def test_outcomes_reach_the_study_as_complete_pruned_and_failed_and_none_is_left_running(tmp_path):
    sampler = Sampler(small_space(), tmp_path / "study.log", "x", seed=0)
    for number, (state, value) in enumerate([("completed", 0.5), ("stopped", None), ("failed", None)]):
        sampler.ask(f"t{number}")
        sampler.report(f"t{number}", 1, 0.7)
        sampler.tell(f"t{number}", state, value, "a reason")
    sampler.ask("t3")
    sampler.close("interrupted")
    study = load_study(study_name="x", storage=JournalStorage(JournalFileBackend(str(tmp_path / "study.log"))))
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.FAIL]
    assert study.trials[1].intermediate_values == {1: 0.7}
    assert [trial.user_attrs["trial"] for trial in study.trials] == ["t0", "t1", "t2", "t3"]


def test_telling_a_trial_twice_changes_nothing(tmp_path):
    sampler = Sampler(small_space(), tmp_path / "study.log", "x", seed=0)
    sampler.ask("t0")
    sampler.tell("t0", "completed", 0.5)
    sampler.tell("t0", "failed", None)
    assert [trial.value for trial in sampler.study.trials] == [0.5]


def test_a_space_without_the_reports_configuration_still_runs_it_first_and_does_not_tell_the_study(tmp_path):
    space = small_space(filters=[8, 12])
    sampler = Sampler(space, tmp_path / "study.log", "x", seed=0)
    assert not sampler.holds_reference()
    assert sampler.ask("t0")["filters"] == 16
    sampler.tell("t0", "completed", 0.4)
    assert sampler.ask("t1")["filters"] in (8, 12)
    assert len(sampler.study.trials) == 1
