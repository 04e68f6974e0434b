"""The sampler: the reference in its turn, conditions kept, every trial told once."""

import math
from pathlib import Path

import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import load_study
from optuna.trial import TrialState

from sepsearch.models.families import config_params, make_config
from sepsearch.search.sampling.optuna_study import extrapolate
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.spaces.space import Space, load_space, parse_space

SPACES = Path(__file__).parents[2] / "search_spaces"


def small_space(sampler: str = "tpe", tell: str = "pruned", **parameters: object) -> Space:
    content = {"filters": [8, 16], "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, **parameters}
    search = {"sampler": sampler, "startup_trials": 3, "tell": tell}
    return parse_space({"parameters": content, "search": search}, "space")


def run(sampler: Sampler, trials: int) -> list[dict]:
    asked = []
    for number in range(trials):
        params = sampler.ask(f"t{number}")
        sampler.report(f"t{number}", 1, params["learning_rate"])
        sampler.tell(f"t{number}", "completed", params["learning_rate"])
        asked.append(params)
    return asked


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_reports_configuration_comes_first_with_every_shipped_space(path, tmp_path):
    sampler = Sampler(load_space(path), tmp_path / "study.log", "x", seed=0)
    assert sampler.ask("t0") == config_params(make_config({}))


@pytest.mark.parametrize("name", ["tpe", "random", "gp", "qmc"])
def test_the_same_seed_asks_for_the_same_configurations(name, tmp_path):
    first = run(Sampler(small_space(name), tmp_path / "a.log", "x", seed=1), 6)
    second = run(Sampler(small_space(name), tmp_path / "b.log", "x", seed=1), 6)
    assert first == second
    assert len({params["learning_rate"] for params in first}) > 3


def test_every_sampled_configuration_builds_a_network_and_keeps_the_conditions(tmp_path):
    sampler = Sampler(load_space(SPACES / "detector.yaml"), tmp_path / "study.log", "x", seed=3)
    asked = run(sampler, 30)
    assert all(make_config(params) for params in asked)
    unets = [params for params in asked if params["family"] == "unet"]
    assert unets
    assert not any("filters" in params for params in unets)
    whole = [trial for trial in sampler.study.trials if trial.params.get("offsets", "clip") == "clip"]
    assert {trial.params["family"] for trial in whole} == {"report", "unet"}
    assert not any("frames" in trial.params for trial in whole)
    half = [trial.params["frames"] for trial in sampler.study.trials if trial.params.get("offsets") == "random"]
    assert set(half) == {64, 128}


def test_the_reports_configuration_is_inside_the_space_around_it(tmp_path):
    assert Sampler(load_space(SPACES / "detector.yaml"), tmp_path / "study.log", "x", seed=0).holds_reference()


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


def trained(sampler: Sampler) -> list:
    """The study's trials without proposals that were not trained."""
    return [trial for trial in sampler.study.trials if "trial" in trial.user_attrs]


def half_way(name: str, tell: str, path: Path | None, reference: str | None = None) -> tuple[Sampler, list[dict]]:
    """A search of nine trials: the fifth is stopped, the sixth fails, the last two still run."""
    sampler = Sampler(small_space(name, tell), path, "x", seed=4, reference=reference)
    asked = []
    for number in range(9):
        params = sampler.ask(f"t{number}")
        asked.append(params)
        for epoch in (1, 2) if number != 5 else ():
            sampler.report(f"t{number}", epoch, 1 / epoch + params["learning_rate"])
        if number < 7:
            state = {4: "stopped", 5: "failed"}.get(number, "completed")
            sampler.tell(f"t{number}", state, 0.5 + params["learning_rate"] if state == "completed" else None, "why")
    return sampler, asked


@pytest.mark.parametrize("reference", [None, "t2", "t9"])
@pytest.mark.parametrize("tell", ["pruned", "last", "extrapolated"])
@pytest.mark.parametrize("name", ["tpe", "random", "gp", "qmc"])
def test_a_restored_sampler_goes_on_as_if_it_had_never_ended(name, tell, reference, tmp_path):
    first, asked = half_way(name, tell, tmp_path / "study.log", reference)
    again = Sampler(first.space, tmp_path / "again.log", "x", seed=4, reference=reference)
    for number, params in enumerate(asked):
        again.restore(f"t{number}", params)
    for number, params in enumerate(asked):
        for epoch in (1, 2) if number != 5 else ():
            again.report(f"t{number}", epoch, 1 / epoch + params["learning_rate"])
        if number < 7:
            state = {4: "stopped", 5: "failed"}.get(number, "completed")
            again.tell(f"t{number}", state, 0.5 + params["learning_rate"] if state == "completed" else None, "why")
    again.restored()
    seen = [
        [(t.state, t.value, t.params, t.intermediate_values, t.user_attrs) for t in trained(s)] for s in (first, again)
    ]
    assert seen[0] == seen[1]
    following = [again.ask(f"t{n}") for n in (9, 10, 11)]
    assert following == [first.ask(f"t{n}") for n in (9, 10, 11)]
    assert all(params not in asked for params in following)


def test_the_first_points_of_a_quasi_random_search_with_conditions_fill_its_range_evenly():
    parameters = {
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "channels": {"low": 2, "high": 12, "when": {"family": "unet"}},
    }
    space = parse_space({"family": ["report", "unet"], "parameters": parameters, "search": {"sampler": "qmc"}}, "space")
    sampler = Sampler(space, None, "x", 0, reference="none")
    asked = [sampler.ask(f"t{number}") for number in range(8)]
    places = [math.log(params["learning_rate"] / 1e-4) / math.log(100) for params in asked]
    assert sorted(int(8 * place) for place in places) == list(range(8))
    assert [params["family"] for params in asked].count("unet") == 4


@pytest.mark.parametrize("name", ["tpe", "random", "gp", "qmc"])
def test_a_restored_sampler_of_a_conditional_space_goes_on_beside_trials_that_run(name):
    parameters = {
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "filters": {"choices": [4, 8, 12, 16], "when": {"family": "report"}},
        "channels": {"low": 2, "high": 12, "when": {"family": "unet"}},
    }
    search = {"sampler": name, "startup_trials": 2}
    space = parse_space({"family": ["report", "unet"], "parameters": parameters, "search": search}, "space")
    first, again = (Sampler(space, None, "x", 0, reference="none") for _ in range(2))
    asked = [(f"t{number}", first.ask(f"t{number}")) for number in range(4)]
    for trial, params in asked:
        first.tell(trial, "completed", params["learning_rate"])
    asked += [(f"t{number}", first.ask(f"t{number}")) for number in range(4, 10)]  # all of them run
    for trial, params in asked:
        again.restore(trial, params)
    for trial, params in asked[:4]:
        again.tell(trial, "completed", params["learning_rate"])
    again.restored()
    assert [again.ask(f"t{number}") for number in (10, 11, 12)] == [first.ask(f"t{number}") for number in (10, 11, 12)]


def test_a_restored_open_trial_can_be_told(tmp_path):
    first, asked = half_way("tpe", "pruned", None)
    again = Sampler(first.space, None, "x", seed=4)
    for number, params in enumerate(asked):
        again.restore(f"t{number}", params)
    again.restored()
    again.report("t8", 3, 0.1)
    again.tell("t8", "completed", 0.1)
    assert (again.study.trials[8].state, again.study.trials[8].value) == (TrialState.COMPLETE, 0.1)
    again.close("over")
    assert TrialState.RUNNING not in [trial.state for trial in again.study.trials]


@pytest.mark.parametrize(
    ("tell", "state", "value"),
    [
        ("pruned", TrialState.PRUNED, 0.8),
        ("last", TrialState.COMPLETE, 0.8),
        ("extrapolated", TrialState.COMPLETE, 0.2),
    ],
)
@pytest.mark.parametrize("restored", [False, True])
def test_how_samplers_see_a_stopped_trial_is_a_choice_and_the_study_says_what_happened(
    tell, state, value, restored, tmp_path
):
    path = tmp_path / "study.log"
    sampler = Sampler(small_space(tell=tell), path, "x", seed=0)
    for trial in ("t0", "t1"):
        rate = 1e-3 if trial == "t0" else 2e-3
        sampler.restore(trial, {**sampler.reference_params(), "learning_rate": rate}) if restored else sampler.ask(
            trial
        )
    for epoch, ratio in ((1, 1.0), (2, 0.5), (3, 0.25)):
        sampler.report("t0", epoch, ratio)
    sampler.tell("t0", "completed", 0.25)
    sampler.report("t1", 1, 0.8)
    sampler.tell("t1", "stopped", None)
    if restored:
        sampler.restored()
    seen = sampler._proposing.trials[1]
    assert seen.state == state
    assert seen.value == pytest.approx(value)  # Optuna gives a pruned trial its last intermediate value
    for study in (sampler.study, load_study(study_name="x", storage=JournalStorage(JournalFileBackend(str(path))))):
        assert (study.trials[1].state, study.trials[1].value) == (TrialState.PRUNED, 0.8)
        assert study.trials[1].intermediate_values == {1: 0.8}
        assert study.best_trial.user_attrs["trial"] == "t0"


def test_a_trial_is_extrapolated_by_how_the_completed_ones_changed():
    completed = [{1: 1.0, 2: 0.5}, {1: 1.0, 2: 0.7}, {1: 1.0, 2: 0.6}]
    assert extrapolate({1: 2.0}, completed) == pytest.approx(1.2)
    assert extrapolate({1: 2.0}, []) == 2.0
    assert extrapolate({3: 2.0}, completed) == 2.0


def test_a_lock_that_a_killed_process_left_does_not_hold_up_the_next(tmp_path):
    Sampler(small_space(), tmp_path / "study.log", "x", seed=0).ask("t0")
    (tmp_path / "study.log.lock").symlink_to(tmp_path / "study.log")
    again = Sampler(small_space(), tmp_path / "study.log", "x", seed=0)
    assert again.ask("t0") == again.reference_params()
    assert len(again.study.trials) == 1


@pytest.mark.parametrize("name", ["tpe", "random", "gp", "qmc"])
def test_where_another_configuration_is_picked_the_study_learns_about_that_one_alone(name):
    rates = [10 ** (-4 + number / 5) for number in range(11)]
    left = list(rates)

    def pick(params: dict) -> dict:
        nearest = min(left, key=lambda rate: abs(rate - params["learning_rate"]))
        left.remove(nearest)
        return {**params, "learning_rate": nearest}

    sampler = Sampler(small_space(name), None, "x", seed=0, pick=pick)
    asked = run(sampler, 8)
    assert len({params["learning_rate"] for params in asked}) == 8
    known = [trial for trial in sampler.study.trials if trial.state == TrialState.COMPLETE]
    assert [trial.params["learning_rate"] for trial in known] == [params["learning_rate"] for params in asked]
    assert {trial.state for trial in sampler.study.trials} <= {TrialState.COMPLETE, TrialState.FAIL}


NAMES = ["tpe", "random", "gp", "qmc"]
WIDTH = {"choices": [32, 64, 128], "when": {"detector_layers": 2}}
FINITE = {"filters": {"low": 8, "high": 16, "step": 4}, "detector_layers": [1, 2], "detector_width": WIDTH}
CONFIGURATIONS = 3 * (1 + 3)


def finite(name: str, seed: int = 0, path: Path | None = None) -> Sampler:
    space = parse_space({"parameters": FINITE, "search": {"sampler": name, "startup_trials": 3}}, "space")
    return Sampler(space, path, "x", seed)


def outcome(number: int, params: dict) -> tuple[str, float | None]:
    """A made-up end of a trial; every fifth fails."""
    return (
        ("failed", None) if number % 5 == 4 else ("completed", params["filters"] / 20 + params["detector_width"] / 1e3)
    )


def search_through(sampler: Sampler, first: int, trials: int, at_once: int = 2) -> list[dict | None]:
    """Ask and tell so many trials, of which the last of `at_once` are still open."""
    asked = []
    for number in range(first, first + trials):
        params = sampler.ask(f"t{number}")
        asked.append(params)
        if params is not None and number < first + trials - at_once:
            sampler.tell(f"t{number}", *outcome(number, params), "why")
    return asked


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NAMES)
def test_every_configuration_of_a_small_space_is_asked_for_once_and_then_none_is_left(name, seed):
    sampler = finite(name, seed)
    asked = search_through(sampler, 0, CONFIGURATIONS)
    assert len({repr(sorted(params.items())) for params in asked}) == CONFIGURATIONS
    assert sampler.ask("more") is None
    sampler.close("over")
    assert TrialState.RUNNING not in [trial.state for trial in sampler.study.trials]
    assert [trial.user_attrs["trial"] for trial in trained(sampler)] == [f"t{n}" for n in range(CONFIGURATIONS)]
    untrained = [trial for trial in sampler.study.trials if "trial" not in trial.user_attrs]
    assert all(trial.state == TrialState.FAIL and "proposed again" in trial.user_attrs["reason"] for trial in untrained)


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_sampler_asks_for_the_same_of_what_is_left(name):
    first = finite(name, 2)
    asked = search_through(first, 0, 8)
    again = finite(name, 2)
    for number, params in enumerate(asked):
        again.restore(f"t{number}", params)
    for number, params in enumerate(asked[:6]):
        again.tell(f"t{number}", *outcome(number, params), "why")
    again.restored()
    assert search_through(again, 8, 6, 0) == search_through(first, 8, 6, 0)


def test_a_sampler_that_comes_back_to_the_same_numbers_is_asked_for_others():
    # It pays to be at the low end, which a Gaussian process proposes to the last digit, again and again.
    space = parse_space(
        {
            "parameters": {"learning_rate": {"low": 1e-4, "high": 1e-2}},
            "search": {"sampler": "gp", "startup_trials": 3},
        },
        "space",
    )
    asked = run(Sampler(space, None, "x", seed=4), 9)
    assert len({params["learning_rate"] for params in asked}) == 9


@pytest.mark.parametrize("parameters", [{"filters": [8, 16, 24]}, {"learning_rate": {"low": 1e-4, "high": 1e-2}}])
def test_a_source_that_has_one_curve_alone_trains_it_as_often_as_it_is_asked(parameters):
    space = parse_space({"parameters": parameters}, "space")
    one = {**Sampler(space, None, "x", 0).reference_params(), "filters": 12}
    sampler = Sampler(space, None, "x", 0, pick=lambda params: one)
    assert search_through(sampler, 0, 6) == [one] * 6


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_is_asked_for_by_its_trial_alone(name):
    space = parse_space({"parameters": FINITE, "search": {"sampler": name, "startup_trials": 3}}, "space")
    sampler = Sampler(space, None, "x", 2, reference="t3")
    asked = search_through(sampler, 0, CONFIGURATIONS)
    assert [number for number, params in enumerate(asked) if params == sampler.reference_params()] == [3]
    assert sampler.ask("more") is None
