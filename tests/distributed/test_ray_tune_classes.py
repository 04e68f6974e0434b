"""The scheduler and the searcher that any `tune.Tuner` can use: alone, after a restart, and the example of the page."""

import math
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState

from sepsearch.distributed.halving_scheduler import AsyncHalvingScheduler
from sepsearch.distributed.study_search import StudySearch
from sepsearch.utils.errors import UserError

PAGE = Path(__file__).parents[2] / "docs" / "ray-tune.md"


def decide(scheduler: AsyncHalvingScheduler, *values: tuple[str, int, float]) -> str:
    """What becomes of trials with these values (trial, epoch, loss): C(ontinue) or S(top), a letter each."""
    given = [
        scheduler.on_trial_result(None, SimpleNamespace(trial_id=trial), {"training_iteration": epoch, "loss": value})
        for trial, epoch, value in values
    ]
    return "".join(decision[0] for decision in given)


VALUES = [("a", 1, 0.5), ("b", 1, 0.4), ("c", 1, 0.6), ("d", 1, 0.3), ("a", 2, 9.0), ("e", 1, 0.45), ("f", 1, 0.2)]


def test_the_best_of_those_that_came_so_far_go_on_and_the_budget_ends_all():
    scheduler = AsyncHalvingScheduler("loss", "min", max_t=9, reduction_factor=2)
    assert decide(scheduler, *VALUES) == "CCSCCSC"
    assert decide(scheduler, ("f", 9, 0.1)) == "S"


def test_larger_is_better_where_the_mode_says_so():
    scheduler = AsyncHalvingScheduler("loss", "max", max_t=9, reduction_factor=2)
    assert decide(scheduler, ("a", 1, 0.5), ("b", 1, 0.4), ("c", 1, 0.6)) == "CSC"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_stops_its_trial_and_is_not_recorded(value):
    scheduler = AsyncHalvingScheduler("loss", "min", max_t=9, reduction_factor=2)
    assert decide(scheduler, ("a", 1, value), ("b", 1, 0.9)) == "SC"


def test_metric_and_mode_come_from_the_tune_config_unless_they_are_given():
    scheduler = AsyncHalvingScheduler(max_t=9)
    assert scheduler.set_search_properties("loss", "max")
    assert decide(scheduler, ("a", 1, 0.5)) == "C"
    assert not AsyncHalvingScheduler("loss", "min", max_t=9).set_search_properties("loss", "min")


@pytest.mark.parametrize("cut", range(1, len(VALUES)))
def test_after_a_restart_the_rungs_are_those_of_the_log(cut, tmp_path):
    whole = decide(AsyncHalvingScheduler("loss", "min", max_t=9, reduction_factor=2), *VALUES)
    first = AsyncHalvingScheduler("loss", "min", max_t=9, reduction_factor=2, log=tmp_path / "rungs.jsonl")
    fresh = pickle.dumps(first)  # as Tuner.restore has it: made before the first trial
    before = decide(first, *VALUES[:cut])
    with (tmp_path / "rungs.jsonl").open("a") as file:
        file.write('{"trial": "half')  # the process died here
    assert before + decide(pickle.loads(fresh), *VALUES[cut:]) == whole


def test_a_log_that_holds_something_else_is_refused_in_one_line(tmp_path):
    (tmp_path / "rungs.jsonl").write_text("[1]\n")
    scheduler = AsyncHalvingScheduler("loss", "min", max_t=9, log=tmp_path / "rungs.jsonl")
    with pytest.raises(UserError, match=r"rungs.jsonl: line 1: .*restore the file"):
        decide(scheduler, ("a", 1, 0.5))


@pytest.mark.parametrize(
    "options", [{"grace_period": 0}, {"grace_period": 10}, {"reduction_factor": 1}, {"mode": "up"}]
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        AsyncHalvingScheduler(max_t=9, **options)


@pytest.mark.parametrize(("stopped", "state"), [("pruned", TrialState.PRUNED), ("last", TrialState.COMPLETE)])
def test_every_trial_ends_once_in_the_study_as_what_it_was(stopped, state):
    space = {"rate": optuna.distributions.FloatDistribution(0, 1)}
    search = StudySearch(space, metric="loss", mode="min", max_t=3, stopped=stopped)
    for trial in ("whole", "stopped", "broken", "nan"):
        search.suggest(trial)
    for epoch in (1, 2, 3):
        search.on_trial_result("whole", {"loss": 1 / epoch, "training_iteration": epoch})
    search.on_trial_result("stopped", {"loss": 0.9, "training_iteration": 1})
    for _ in range(2):
        search.on_trial_complete("whole", {"loss": 1 / 3, "training_iteration": 3})
        search.on_trial_complete("stopped", {"loss": 0.9, "training_iteration": 1})
        search.on_trial_complete("broken", error=True)
        search.on_trial_complete("nan", {"loss": math.nan, "training_iteration": 1})
    trials = search._ot_study.trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, state, TrialState.FAIL, TrialState.FAIL]
    assert [trial.intermediate_values for trial in trials[:2]] == [{1: 1.0, 2: 0.5, 3: 1 / 3}, {1: 0.9}]
    assert search._ot_study.best_trial.number == 0


def test_the_example_of_the_page_runs_and_stops_trials(ray_workers, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 26
    names: dict = {}
    exec(code, names)
    results, study = names["search"](tmp_path)
    assert results.num_errors == 0
    assert len(results) == len(study.trials) == 12
    epochs = [result.metrics["training_iteration"] for result in results]
    assert set(epochs) <= {1, 3, 9}
    assert 1 in epochs
    assert [trial.state for trial in study.trials].count(TrialState.COMPLETE) == epochs.count(9)
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
