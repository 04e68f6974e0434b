"""The scheduler and the searcher that any `tune.Tuner` can use: alone, after a restart, and the example of the page."""

import math
import pickle
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState

from sepsearch.distributed.halving_scheduler import AsyncHalvingScheduler, RungFile
from sepsearch.distributed.study_search import StudySearch
from sepsearch.search.sampling.optuna_study import OptunaStudy
from sepsearch.search.sampling.study_storage import SAMPLER_VALUE
from sepsearch.utils.errors import UserError

SPACE = {"rate": optuna.distributions.FloatDistribution(0, 1)}
ROOT = Path(__file__).parents[2]
PAGE, EXAMPLES = ROOT / "docs" / "ray-tune.md", ROOT / "examples"


def decide(scheduler: AsyncHalvingScheduler, *values: tuple[str, int, float]) -> str:
    """What becomes of trials with these values (trial, epoch, loss): C(ontinue) or S(top), a letter each."""
    given = [
        scheduler.on_trial_result(None, SimpleNamespace(trial_id=trial), {"training_iteration": epoch, "loss": value})
        for trial, epoch, value in values
    ]
    return "".join(decision[0] for decision in given)


def halving(path: Path | None = None, mode: str = "min") -> AsyncHalvingScheduler:
    return AsyncHalvingScheduler(RungFile(path, max_t=9, reduction_factor=2), "loss", mode)


VALUES = [("a", 1, 0.5), ("b", 1, 0.4), ("c", 1, 0.6), ("d", 1, 0.3), ("a", 2, 9.0), ("e", 1, 0.45), ("f", 1, 0.2)]


def test_the_best_of_those_that_came_so_far_go_on_and_the_budget_ends_all():
    scheduler = halving()
    assert decide(scheduler, *VALUES) == "CCSCCSC"
    assert decide(scheduler, ("f", 9, 0.1)) == "S"


def test_larger_is_better_where_the_mode_says_so():
    scheduler = halving(mode="max")
    assert decide(scheduler, ("a", 1, 0.5), ("b", 1, 0.4), ("c", 1, 0.6)) == "CSC"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_stops_its_trial_and_is_not_recorded(value):
    scheduler = halving()
    assert decide(scheduler, ("a", 1, value), ("b", 1, 0.9)) == "SC"


def test_metric_and_mode_come_from_the_tune_config_unless_they_are_given():
    scheduler = AsyncHalvingScheduler(RungFile(None, max_t=9))
    assert scheduler.set_search_properties("loss", "max")
    assert decide(scheduler, ("a", 1, 0.5)) == "C"
    assert not halving().set_search_properties("loss", "min")


@pytest.mark.parametrize("cut", range(1, len(VALUES)))
def test_after_a_restart_the_rungs_are_those_of_the_log(cut, tmp_path):
    whole = decide(halving(), *VALUES)
    first = halving(tmp_path / "rungs.jsonl")
    fresh = pickle.dumps(first)  # as Tuner.restore has it: made before the first trial
    before = decide(first, *VALUES[:cut])
    with (tmp_path / "rungs.jsonl").open("a") as file:
        file.write('{"trial": "half')  # the process died here
    assert before + decide(pickle.loads(fresh), *VALUES[cut:]) == whole


def test_a_log_that_holds_something_else_is_refused_in_one_line(tmp_path):
    (tmp_path / "rungs.jsonl").write_text("[1]\n")
    scheduler = halving(tmp_path / "rungs.jsonl")
    with pytest.raises(UserError, match=r"rungs.jsonl: line 1: .*restore the file"):
        decide(scheduler, ("a", 1, 0.5))


@pytest.mark.parametrize("options", [{"grace_period": 0}, {"grace_period": 10}, {"reduction_factor": 1}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        RungFile(None, max_t=9, **options)


def test_other_modes_and_choices_are_refused():
    with pytest.raises(ValueError, match="expected min or max"):
        halving(mode="up")
    with pytest.raises(ValueError, match=r"stopped 'best', .*expected"):
        OptunaStudy(SPACE, stopped="best")


def test_a_result_without_a_time_decides_nothing():
    assert halving().on_trial_result(None, SimpleNamespace(trial_id="a"), {"node": "n"}) == "CONTINUE"


def test_trials_wait_in_the_order_in_which_they_came_and_those_that_run_are_passed_over():
    scheduler = halving()
    trials = [SimpleNamespace(status="PENDING") for _ in range(3)]
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    assert scheduler.choose_trial_to_run(None) is scheduler.choose_trial_to_run(None) is trials[0]
    trials[0].status = trials[1].status = "RUNNING"
    assert scheduler.choose_trial_to_run(None) is trials[2]
    trials[2].status = "TERMINATED"
    assert scheduler.choose_trial_to_run(None) is None


@pytest.mark.parametrize(("stopped", "seen"), [("pruned", None), ("last", 0.9), ("extrapolated", 0.3)])
@pytest.mark.parametrize("storage", ["memory", "sqlite"])
def test_every_trial_ends_once_in_the_study_as_what_it_was(stopped, seen, storage, tmp_path):
    kept = None if storage == "memory" else optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db")
    study = OptunaStudy(SPACE, storage=kept, stopped=stopped)
    search = StudySearch(study, metric="loss", max_t=3)
    for trial in ("whole", "stopped", "broken", "nan"):
        assert set(search.suggest(trial)) == {"rate"}
    for epoch in (1, 2, 3, 3):  # Ray Tune repeats the last result of a function that returns
        search.on_trial_result("whole", {"loss": 1 / epoch, "training_iteration": epoch})
    search.on_trial_result("whole", {"node": "n"})
    for _ in range(2):
        search.on_trial_complete("whole", {"loss": 1 / 3, "training_iteration": 3})
        # Ray Tune reports no result by which a scheduler stops a trial.
        search.on_trial_complete("stopped", {"loss": 0.9, "training_iteration": 1})
        search.on_trial_complete("broken", error=True)
        search.on_trial_complete("nan", {"loss": math.nan, "training_iteration": 1})
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.FAIL]
    trials = study.study.trials
    assert [trial.state for trial in trials] == states
    assert [trial.intermediate_values for trial in trials] == [{1: 1.0, 2: 0.5, 3: 1 / 3}, {1: 0.9}, {}, {}]
    assert [trial.user_attrs["trial"] for trial in trials] == ["whole", "stopped", "broken", "nan"]
    assert study.study.best_trial.number == 0
    assert (
        trials[1].user_attrs.get(SAMPLER_VALUE) == pytest.approx(seen)
        if seen
        else SAMPLER_VALUE not in trials[1].user_attrs
    )
    to_sampler = study._proposing.trials[1]
    assert (to_sampler.state, to_sampler.value) == (
        (TrialState.COMPLETE, pytest.approx(seen)) if seen else (TrialState.PRUNED, 0.9)
    )


def test_a_space_may_be_a_function_of_the_trial():
    study = OptunaStudy(lambda trial: {"rate": trial.suggest_float("rate", 0, 1), "fixed": 7}, mode="max")
    params = StudySearch(study, "loss", max_t=3).suggest("a")
    assert params["fixed"] == 7
    assert 0 <= params["rate"] <= 1


def test_a_study_and_its_running_trials_outlast_a_restart(tmp_path):
    before = StudySearch(OptunaStudy(SPACE, stopped="last"), metric="loss", max_t=3)
    before.suggest("ended"), before.suggest("running")
    before.on_trial_complete("ended", {"loss": 0.5, "training_iteration": 3})
    before.save(str(tmp_path / "search"))
    after = StudySearch(OptunaStudy(SPACE), "loss", max_t=3)
    after.restore(str(tmp_path / "search"))
    after.on_trial_complete("ended", {"loss": 0.1, "training_iteration": 3})
    after.on_trial_complete("running", {"loss": 0.4, "training_iteration": 1})
    assert [(t.state, t.value) for t in after.study.study.trials] == [
        (TrialState.COMPLETE, 0.5),
        (TrialState.PRUNED, 0.4),
    ]
    assert after.study._proposing.trials[1].state == TrialState.COMPLETE


def test_the_example_of_the_page_runs_and_stops_trials(ray_workers, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 26
    example = EXAMPLES / "search_with_ray_tune.py"
    assert code in example.read_text()
    results, study = runpy.run_path(str(example))["search"](tmp_path)
    assert results.num_errors == 0
    assert len(results) == len(study.trials) == 12
    epochs = [result.metrics["training_iteration"] for result in results]
    assert set(epochs) <= {1, 3, 9}
    assert 1 in epochs
    assert [trial.state for trial in study.trials].count(TrialState.COMPLETE) == epochs.count(9)
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
