"""The plan of a search: states, tells, rungs and journal, without Ray."""

import math
from pathlib import Path

from sepsearch.search.journal import Journal, read_journal
from sepsearch.search.protocol import RETURNED, JobOutcome
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan
from sepsearch.search.stopping.asha import Rungs
from sepsearch.search.trials import Trial, best_trials, reference_trial
from sepsearch.spaces.space import parse_space


def make_plan(
    tmp_path: Path, trials: int = 4, epochs: int = 4, reference: str = "t0000", improved=lambda trial: None
) -> SearchPlan:
    parameters = {"filters": [8, 16], "head": ["relu", "mask"]}
    space = parse_space({"parameters": parameters, "search": {"tell": "pruned"}}, "space")
    sampler = Sampler(space, tmp_path / "study.log", "x", seed=0, reference=reference)
    journal = Journal(tmp_path / "journal.jsonl")
    rungs = Rungs(1, 2, epochs)
    return SearchPlan(sampler, rungs, journal, trials, epochs, seed=0, reference=reference, improved=improved)


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
    assert [report(plan, unit, epoch, 1 / epoch) for epoch in (1, 2, 3, 4)] == [None] * 3 + ["full budget"]
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


def begun(plan: SearchPlan) -> list[str]:
    """Ids of all trials that a plan begins, each ended before the next."""
    ids = []
    while (job := plan.next()) is not None:
        ids.append(job[0])
        plan.ended(job[0], RETURNED)
    return ids


def references(plan: SearchPlan) -> list[str]:
    """Ids of the trials with the reference configuration."""
    return [id for id, trial in plan.trials.items() if trial.params == plan.sampler.reference_params()]


def test_the_reference_is_the_first_trial_that_gets_no_worker_at_once_or_the_last():
    assert [reference_trial(trials, 2) for trials in (1, 2, 3, 9)] == ["t0000", "t0001", "t0002", "t0002"]


def test_one_trial_trains_the_reference_in_its_turn(tmp_path):
    plan = make_plan(tmp_path, reference="t0002")
    assert begun(plan) == ["t0000", "t0001", "t0002", "t0003"]
    assert references(plan) == ["t0002"]


def test_a_space_that_is_used_up_before_still_trains_the_reference(tmp_path):
    plan = make_plan(tmp_path, trials=9, reference="t0007")
    assert begun(plan) == ["t0000", "t0001", "t0002", "t0007"]
    assert references(plan) == ["t0007"]
    assert plan.finished()


def test_a_resumed_search_with_fewer_trials_trains_the_reference_as_its_last(tmp_path):
    plan = make_plan(tmp_path, reference="t0003")
    plan.ended(start(plan), RETURNED)
    plan.journal.close()
    again = make_plan(tmp_path / "again", trials=2, reference="t0003")
    again.restore(list(read_journal(tmp_path / "journal.jsonl")))
    again.resume()
    assert begun(again) == ["t0003"]
    assert again.finished()


def test_trials_after_a_reference_before_its_turn_have_ids_of_their_own(tmp_path):
    plan = make_plan(tmp_path, trials=1, reference="t0001")
    assert begun(plan) == ["t0001"]
    plan.wanted = 3
    assert begun(plan) == ["t0002", "t0003"]


def test_a_reference_that_had_no_time_is_in_the_search_as_stopped(tmp_path):
    plan = make_plan(tmp_path, reference="t0002")
    start(plan)
    plan.give_up("time budget")
    assert references(plan) == ["t0002"]
    assert (plan.trials["t0002"].state, plan.trials["t0002"].reason) == ("stopped", "time budget")


def test_an_interrupted_search_begins_the_reference_when_it_goes_on(tmp_path):
    plan = make_plan(tmp_path, reference="t0001")
    start(plan)
    plan.give_up("interrupted")
    assert references(plan) == []
    plan.journal.close()
    again = make_plan(tmp_path / "again", reference="t0001")
    again.restore(list(read_journal(tmp_path / "journal.jsonl")))
    again.resume()
    assert begun(again) == ["t0000", "t0001", "t0002", "t0003"]
    assert references(again) == ["t0001"]


def test_every_trial_that_is_the_best_so_far_is_handed_on_before_its_end_is_recorded(tmp_path):
    handed = []
    plan = make_plan(tmp_path, epochs=1, improved=lambda trial: handed.append((trial.id, trial.state)))
    for ratio in (0.5, 0.7, 0.4, 0.45):
        unit = start(plan)
        report(plan, unit, 1, ratio)
        plan.ended(unit, RETURNED)
    assert handed == [("t0000", ""), ("t0002", "")]


def test_a_stopped_trial_is_the_best_only_until_one_has_had_the_full_budget(tmp_path):
    handed = []
    plan = make_plan(tmp_path, improved=lambda trial: handed.append(trial.id))
    good, bad = start(plan), start(plan)
    report(plan, good, 1, 0.4)
    report(plan, bad, 1, 0.9)
    plan.ended(bad, RETURNED)
    for epoch in (2, 3, 4):
        report(plan, good, epoch, 0.95)
    plan.ended(good, RETURNED)
    assert handed == [bad, good]
