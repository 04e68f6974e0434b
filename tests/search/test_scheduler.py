"""The plan of a search: states, tells, rungs and journal, without Ray."""

import math
from pathlib import Path

from sepsearch.search.asha import Rungs
from sepsearch.search.journal import Journal, read_journal
from sepsearch.search.protocol import RETURNED, JobOutcome
from sepsearch.search.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan, Trial, best_trials
from sepsearch.search.space import parse_space


def make_plan(tmp_path: Path, trials: int = 4, epochs: int = 4) -> SearchPlan:
    parameters = {"filters": [8, 16], "head": ["relu", "mask"]}
    space = parse_space({"parameters": parameters, "search": {"tell": "pruned"}}, "space")
    sampler = Sampler(space, tmp_path / "study.log", "x", seed=0)
    journal = Journal(tmp_path / "journal.jsonl")
    return SearchPlan(sampler, Rungs(1, 2, epochs), journal, trials, epochs, seed=0)


def report(plan: SearchPlan, unit: str, epoch: int, ratio: float) -> str | None:
    return plan.result(
        unit, {"epoch": epoch, "ratio": ratio, "seconds": 1.0, "examples_per_second": 1.0, "members": []}
    )


def start(plan: SearchPlan) -> str:
    unit = plan.next()
    assert unit is not None
    return unit[0]


def told(plan: SearchPlan) -> list[str]:
    return [trial.state.name for trial in plan.sampler.study.trials]


def test_a_trial_that_reaches_the_full_budget_is_completed_with_its_last_ratio(tmp_path):
    plan = make_plan(tmp_path)
    unit = start(plan)
    assert [report(plan, unit, epoch, 1 / epoch) for epoch in (1, 2, 3, 4)] == [None] * 4
    plan.ended(unit, RETURNED)
    assert (plan.trials[unit].state, plan.trials[unit].ratio) == ("completed", 0.25)
    assert plan.sampler.study.trials[0].value == 0.25


def test_a_trial_stopped_at_a_rung_is_pruned_and_says_at_which(tmp_path):
    plan = make_plan(tmp_path)
    good, bad = start(plan), start(plan)
    assert report(plan, good, 1, 0.4) is None
    assert report(plan, bad, 1, 0.9) == "stopped at rung 1"
    plan.ended(bad, RETURNED)
    assert (plan.trials[bad].state, plan.trials[bad].reason) == ("stopped", "stopped at rung 1")
    assert told(plan)[1] == "PRUNED"


def test_a_reported_failure_keeps_its_reason(tmp_path):
    plan = make_plan(tmp_path)
    unit = start(plan)
    report(plan, unit, 1, 0.9)
    plan.result(unit, {"failed": "dead: the network of vn puts out nothing but zeros in epoch 2"})
    plan.ended(unit, RETURNED)
    assert plan.trials[unit].state == "failed"
    assert plan.trials[unit].reason.startswith("dead: the network of vn")
    assert told(plan) == ["FAIL"]


def test_a_ratio_that_is_no_number_fails_the_trial(tmp_path):
    plan = make_plan(tmp_path)
    unit = start(plan)
    assert "NaN" in str(report(plan, unit, 1, math.nan))
    plan.ended(unit, RETURNED)
    assert told(plan) == ["FAIL"]


def test_a_worker_that_dies_fails_the_trial_with_what_is_known(tmp_path):
    plan = make_plan(tmp_path)
    unit = start(plan)
    plan.ended(unit, JobOutcome("died", "worker died: out of memory"))
    assert (plan.trials[unit].state, plan.trials[unit].reason) == ("failed", "worker died: out of memory")


def test_the_time_budget_stops_a_trial_and_does_not_fail_it(tmp_path):
    plan = make_plan(tmp_path)
    unit = start(plan)
    report(plan, unit, 1, 0.5)
    plan.ended(unit, JobOutcome("halted", "time budget"))
    assert (plan.trials[unit].state, plan.trials[unit].reason) == ("stopped", "time budget")


def test_a_repeated_last_result_counts_once(tmp_path):
    plan = make_plan(tmp_path)
    unit = start(plan)
    for _ in range(2):
        report(plan, unit, 1, 0.5)
    epochs = [event for event in read_journal(plan.journal.path) if event["event"] == "epoch"]
    assert len(epochs) == 1


def test_as_many_trials_as_were_asked_for_and_no_more(tmp_path):
    plan = make_plan(tmp_path, trials=2)
    assert [plan.next() is not None for _ in range(3)] == [True, True, False]


def test_the_best_trials_are_those_that_reached_the_full_budget():
    trials = [
        Trial("t0", {"filters": 0}, epochs=8, ratio=0.6, state="completed"),
        Trial("t1", {"filters": 1}, epochs=1, ratio=0.2, state="stopped"),
        Trial("t2", {"filters": 2}, epochs=8, ratio=0.5, state="completed"),
        Trial("t3", {"filters": 3}, epochs=8, ratio=0.1, state="failed"),
    ]
    assert [trial.id for trial in best_trials(trials, 5)] == ["t2", "t0"]


def test_if_none_reached_it_the_best_are_taken_from_those_that_came_furthest():
    trials = [
        Trial("t0", {"filters": 0}, epochs=3, ratio=0.6, state="stopped"),
        Trial("t1", {"filters": 1}, epochs=1, ratio=0.2, state="stopped"),
        Trial("t2", {"filters": 2}, epochs=3, ratio=0.5, state="stopped"),
    ]
    assert [trial.id for trial in best_trials(trials, 1)] == ["t2"]


def test_a_search_ends_when_all_configurations_are_trained_however_many_trials_were_asked_for(tmp_path):
    plan = make_plan(tmp_path, trials=8)
    units = []
    while (unit := plan.next()) is not None:
        units.append(unit[0])
        if len(units) == 2:  # for a reason of its own, so it would fail again
            report(plan, unit[0], 1, math.nan)
        plan.ended(unit[0], RETURNED)
    assert units == ["t0000", "t0001", "t0002", "t0003"]
    assert plan.finished()
    assert len({repr(trial.params) for trial in plan.trials.values()}) == 4
    assert [e["id"] for e in read_journal(plan.journal.path) if e["event"] == "trial"] == units


def test_a_search_that_goes_on_does_not_train_again_what_an_earlier_process_did(tmp_path):
    plan = make_plan(tmp_path, trials=8)
    for _ in range(3):
        plan.ended(start(plan), RETURNED)
    plan.journal.close()
    events = list(read_journal(tmp_path / "journal.jsonl"))
    again = make_plan(tmp_path / "again", trials=8)
    again.restore(events)
    again.resume()
    last = start(again)
    assert again.next() is None
    assert not again.finished()
    again.ended(last, RETURNED)
    assert again.finished()
    assert again.trials[last].params not in [plan.trials[id].params for id in plan.trials]


def test_the_best_trials_have_different_configurations():
    trials = [Trial(f"t{n}", {"filters": n // 2}, epochs=8, ratio=n / 10, state="completed") for n in range(8)]
    assert [trial.id for trial in best_trials(trials, 3)] == ["t0", "t2", "t4"]
    assert [trial.id for trial in best_trials(trials, 9)] == ["t0", "t2", "t4", "t6"]
