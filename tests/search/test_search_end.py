"""Rules that end a search early: patience and the bound on the regret; trials that are ended by hand."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from sepsearch.search.journal import Journal, read_run
from sepsearch.search.protocol import BY_HAND, RETURNED, SEARCH_BY_HAND, JobOutcome
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan
from sepsearch.search.search_end import PatienceRule, RegretRule, end_rules, regret_bound
from sepsearch.search.stopping.asha import Rungs
from sepsearch.search.trials import Trial, best_trials
from sepsearch.spaces.space import Space, parse_space
from sepsearch.utils.errors import UserError

RATE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
SEARCH = {"event": "search", "name": "x", "run": "r", "space": {}, "settings": {}, "versions": {}, "dataset": {}}
NUMBERS = itertools.count()
SEARCH |= {"baselines": {}, "caveats": {}, "reference": "t0000", "seconds": 0.0}


def ended(ratio: float, state: str = "completed", reason: str = "") -> Trial:
    return Trial(f"t{next(NUMBERS):04d}", {}, epochs=1, ratio=ratio, state=state, reason=reason)


def reasons(rule: PatienceRule, trials: list[Trial]) -> list[bool]:
    """Whether the rule ends the search after each trial."""
    found = []
    for trial in trials:
        rule.take(trial)
        found.append(bool(rule.reason()))
    return found


def test_patience_ends_a_search_after_as_many_trials_without_improvement():
    assert reasons(PatienceRule(3, 0.005), [ended(0.5), ended(0.6), ended(0.5), ended(0.7)]) == [False] * 3 + [True]


def test_patience_goes_on_while_the_window_has_improved_by_the_least_share():
    trials = [ended(0.5), ended(0.499), ended(0.498), ended(0.497)]
    assert reasons(PatienceRule(3, 0.006), trials)[-1] is False
    assert reasons(PatienceRule(3, 0.007), trials)[-1] is True


def test_without_a_least_improvement_any_improvement_goes_on():
    assert reasons(PatienceRule(2, 0.0), [ended(0.5), ended(0.5), ended(0.4999999)])[-1] is False
    assert reasons(PatienceRule(2, 0.0), [ended(0.5), ended(0.5), ended(0.5)])[-1] is True


def test_patience_counts_from_the_first_completed_trial_on():
    early = [ended(0.9, "stopped", "stopped at rung 1")] * 5
    assert not any(reasons(PatienceRule(2, 0.01), [*early, ended(0.5), *early[:1]]))


@pytest.mark.parametrize(
    ("state", "reason"),
    [("failed", "NaN"), ("stopped", BY_HAND), ("stopped", SEARCH_BY_HAND), ("stopped", "time budget")],
)
def test_trials_that_failed_or_were_ended_from_outside_do_not_count(state, reason):
    assert not any(reasons(PatienceRule(1, 0.01), [ended(0.5), ended(0.9, state, reason)]))


def test_a_stopped_trial_with_a_good_early_ratio_is_no_improvement():
    trials = [ended(0.5), ended(0.1, "stopped", "stopped at rung 1")]
    assert reasons(PatienceRule(1, 0.01), trials)[-1] is True


def test_a_trial_that_paused_counts_once_and_its_end_may_be_the_best():
    rule = PatienceRule(2, 0.01)
    paused = ended(0.9, "stopped")
    for trial in (ended(0.5), paused, replace(paused, state="completed", ratio=0.4)):
        rule.take(trial)
    assert rule.reason() == ""
    for trial in (ended(0.9), ended(0.9)):
        rule.take(trial)
    assert "has not improved" in rule.reason() or "have not improved" in rule.reason()
    assert "0.4000" in rule.reason()


def make_space(**stop: object) -> Space:
    return parse_space({"parameters": RATE, "search": {"startup_trials": 3}, "stop": stop}, "space")


def make_plan(folder: Path, space: Space, trials: int = 12, journal: Journal | None = None) -> SearchPlan:
    if journal is None:
        journal = Journal(folder / "journal.jsonl")
        journal.append(SEARCH)
    sampler = Sampler(space, None, "x", seed=0)
    return SearchPlan(sampler, Rungs(2, 2, 2), journal, trials, 2, 0, end_rules=end_rules(space, sampler, 0))


def report(plan: SearchPlan, job: str, epoch: int, ratio: float) -> str | None:
    numbers = {"seconds": 1.0, "examples_per_second": 1.0, "members": []}
    return plan.result(job, {"epoch": epoch, "ratio": ratio, **numbers})


def train(plan: SearchPlan, ratio: float) -> str:
    """Run one trial to its end."""
    job = plan.next()
    assert job is not None
    for epoch in (1, 2):
        report(plan, job[0], epoch, ratio)
    plan.ended(job[0], RETURNED)
    return job[0]


def events(plan: SearchPlan) -> list[dict]:
    return list(read_run(plan.journal.path))


def test_a_search_ends_by_patience_and_its_journal_says_why(tmp_path):
    plan = make_plan(tmp_path, make_space(patience=3))
    for ratio in (0.5, 0.6, 0.6):
        train(plan, ratio)
    assert plan.over == ""
    train(plan, 0.6)
    assert (plan.over, plan.finished(), plan.next()) == ("patience", True, None)
    (stopped,) = [event for event in events(plan) if event["event"] == "search_stopped"]
    assert "the last 3 trials have not improved the best ratio by 0.5 %" in stopped["reason"]


def test_trials_that_run_when_the_rule_holds_go_on_to_their_end(tmp_path):
    plan = make_plan(tmp_path, make_space(patience=1))
    train(plan, 0.5)
    late = plan.next()[0]
    train(plan, 0.6)
    assert plan.over == "patience"
    assert not plan.finished()
    for epoch in (1, 2):
        report(plan, late, epoch, 0.3)
    plan.ended(late, RETURNED)
    assert (plan.finished(), plan.trials[late].state) == (True, "completed")


def test_the_reference_network_is_in_a_search_that_a_rule_has_ended(tmp_path):
    plan = make_plan(tmp_path, make_space(patience=1))
    plan.reference = "t0007"
    train(plan, 0.5)
    train(plan, 0.6)
    assert plan.over == "patience"
    assert train(plan, 0.9) == "t0007"
    assert plan.finished()


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_search_that_is_resumed_anywhere_ends_after_the_same_trial(tmp_path, cut):
    ratios = iter([0.5, 0.6, 0.49999, 0.7, 0.8, 0.9])
    plan = make_plan(tmp_path, make_space(patience=3))
    while not plan.over:
        train(plan, next(ratios))
    whole = [event for event in events(plan) if event["event"] == "search_stopped"]
    count = len(plan.trials)
    plan.journal.close()
    kept = (tmp_path / "journal.jsonl").read_bytes().splitlines(keepends=True)[:cut]
    (tmp_path / "journal.jsonl").write_bytes(b"".join(kept))
    journal = Journal(tmp_path / "journal.jsonl", resume=True)
    again = make_plan(tmp_path, make_space(patience=3), journal=journal)
    again.restore(list(read_run(journal.path)))
    journal.append({"event": "resume", "units": again.unfinished(), "changed": {}})
    again.resume()
    values = [0.5, 0.6, 0.49999, 0.7, 0.8, 0.9]
    while (job := again.next()) is not None:
        for epoch in (1, 2):
            report(again, job[0], epoch, values[int(job[0][1:])])
        again.ended(job[0], RETURNED)
    found = [event for event in events(again) if event["event"] == "search_stopped"]
    assert [event["reason"] for event in found] == [event["reason"] for event in whole]
    assert len(again.trials) == count


def test_an_extended_search_has_its_patience_again(tmp_path):
    plan = make_plan(tmp_path, make_space(patience=2))
    for ratio in (0.5, 0.6, 0.6):
        train(plan, ratio)
    assert plan.over == "patience"
    again = make_plan(tmp_path, make_space(patience=2), journal=plan.journal)
    again.restore([*events(plan), {"event": "continue", "units": {}, "changed": {}}])
    again.resume()
    train(again, 0.5)
    assert again.over == ""
    train(again, 0.6)
    assert again.over == "patience"
    assert len(again.trials) == 5


def test_the_regret_bound_of_a_well_known_space_is_smaller_than_that_of_a_hardly_known_one():
    space = make_space(regret=0.01)
    rates = [1e-4 * 100 ** (place / 39) for place in range(40)]
    seen = [(space.complete({"learning_rate": rate}), 0.5 + abs(place - 20) / 100) for place, rate in enumerate(rates)]
    assert regret_bound(space, seen, 0) < regret_bound(space, seen[::2][:5], 0)
    assert regret_bound(space, seen, 0) == regret_bound(space, seen, 0)


def test_a_search_ends_by_its_regret_at_the_trial_after_the_evaluation():
    space = make_space(regret=10.0)
    values: dict[str, float] = {}
    rule = RegretRule(space, 10.0, values.get, seed=0)
    found = []
    for place in range(22):
        values[f"t{place}"] = 0.5 + place / 100
        params = space.complete({"learning_rate": 1e-4 * 100 ** (place / 21)})
        rule.take(Trial(f"t{place}", params, 2, 0.5 + place / 100, "completed"))
        found.append(bool(rule.reason()))
    assert found.index(True) == 20
    assert found.count(True) == 1


@pytest.mark.parametrize("restored", [0, 19, 20, 21])
def test_a_resumed_search_ends_by_its_regret_after_the_same_trial(restored):
    space = make_space(regret=10.0)
    rule = RegretRule(space, 10.0, lambda trial: 0.5 + int(trial) / 100, seed=0)
    ends = []
    for place in range(22):
        params = space.complete({"learning_rate": 1e-4 * 100 ** (place / 21)})
        rule.take(Trial(str(place), params, 2, 0.5, "completed"))
        if place + 1 >= restored and rule.reason():
            ends.append(place)
    assert ends == [20]


def test_a_regret_that_is_larger_than_asked_for_goes_on():
    space = make_space(regret=1e-9)
    rule = RegretRule(space, 1e-9, lambda trial: 0.5 + int(trial) / 100, seed=0)
    for place in range(21):
        params = space.complete({"learning_rate": 1e-4 * 100 ** (place / 21)})
        rule.take(Trial(str(place), params, 2, 0.5, "completed"))
        assert rule.reason() == ""


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        ({}, "expected patience, regret or both"),
        ({"min_improvement": 0.1}, "expected patience, regret or both"),
        ({"min_improvement": 0.1, "regret": 0.1}, "min_improvement belongs to patience"),
        ({"patience": 0}, "greater than or equal to 1"),
        ({"patience": 3, "min_improvement": 1.0}, "less than 1"),
        ({"regret": 0.0}, "greater than 0"),
        ({"patiense": 3}, "did you mean patience"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(stop, message):
    with pytest.raises(UserError, match=message):
        make_space(**stop)


def test_the_regret_of_a_conditional_space_is_refused_with_the_parameter():
    parameters = {"family": ["report", "unet"], "filters": {"choices": [8, 16], "when": {"family": "report"}}}
    with pytest.raises(UserError, match="stop: regret: filters has a condition"):
        parse_space({"parameters": parameters, "stop": {"regret": 0.01}}, "space")


def test_a_trial_stopped_by_hand_ends_after_its_epoch_and_the_sampler_knows_it_as_stopped(tmp_path):
    plan = make_plan(tmp_path, make_space(patience=3))
    job = plan.next()[0]
    assert plan.stop(job, "ann@desk", "abc") == ""
    assert report(plan, job, 1, 0.5) == BY_HAND
    plan.ended(job, RETURNED)
    assert (plan.trials[job].state, plan.trials[job].reason) == ("stopped", BY_HAND)
    assert [trial.state.name for trial in plan.sampler.study.trials] == ["PRUNED"]


def test_a_trial_that_waits_for_a_worker_ends_at_once_by_hand(tmp_path):
    plan = make_plan(tmp_path, make_space(patience=3))
    job = plan.next()[0]
    plan.ended(job, JobOutcome("deferred"))
    assert plan.stop(job, "", "") == ""
    assert plan.trials[job].reason == BY_HAND


def test_a_trial_that_has_ended_or_not_begun_cannot_be_stopped(tmp_path):
    plan = make_plan(tmp_path, make_space(patience=3))
    job = train(plan, 0.5)
    assert plan.stop(job, "", "") == f"{job} has ended: completed"
    assert plan.stop("t0009", "", "") == "t0009 has not begun"


def test_a_trial_whose_stop_is_in_the_journal_ends_when_the_run_is_resumed(tmp_path):
    plan = make_plan(tmp_path, make_space(patience=3))
    job = plan.next()[0]
    report(plan, job, 1, 0.5)
    plan.stop(job, "", "")
    plan.journal.close()
    journal = Journal(tmp_path / "journal.jsonl", resume=True)
    again = make_plan(tmp_path, make_space(patience=3), journal=journal)
    again.restore(list(read_run(journal.path)))
    again.resume()
    assert (again.trials[job].state, again.trials[job].reason) == ("stopped", BY_HAND)


def test_a_search_stopped_by_hand_begins_nothing_more_when_resumed_and_has_the_reference(tmp_path):
    plan = make_plan(tmp_path, make_space(patience=3))
    plan.reference = "t0005"
    job = plan.next()[0]
    assert plan.stop_search("ann@desk", "abc") == ""
    plan.journal.close()
    journal = Journal(tmp_path / "journal.jsonl", resume=True)
    again = make_plan(tmp_path, make_space(patience=3), journal=journal)
    again.reference = "t0005"
    again.restore(list(read_run(journal.path)))
    again.resume()
    assert again.finished()
    assert {id: trial.reason for id, trial in again.trials.items()} == {job: SEARCH_BY_HAND, "t0005": SEARCH_BY_HAND}
    assert again.stop_search("", "") == "the search is over already"


def test_a_trial_stopped_by_hand_is_no_finalist_even_if_none_was_completed():
    trials = [
        Trial("t0", {"filters": 0}, epochs=8, ratio=0.1, state="stopped", reason=BY_HAND),
        Trial("t1", {"filters": 1}, epochs=4, ratio=0.5, state="stopped", reason="stopped at rung 4"),
    ]
    assert [trial.id for trial in best_trials(trials, 5)] == ["t1"]
