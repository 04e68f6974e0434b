"""Trials that pause at rungs: handed out again, ended at last, and what sampler, state and checkpoints have of them."""

from pathlib import Path

import pytest
from event_fixtures import PARAMS, epoch_event, journal, members, search_event, state_of
from optuna.trial import TrialState

from sepsearch.search.journal import Journal, read_journal
from sepsearch.search.protocol import RETURNED, JobOutcome
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan
from sepsearch.search.stopping.methods import METHODS
from sepsearch.spaces.space import journal_space, parse_space
from sepsearch.tracking.mapping import Projection
from sepsearch.utils.errors import UserError
from sepsearch.utils.storage import open_storage


def make_plan(
    folder: Path, trials: int = 4, stopping: str = "asha_promotion", tell: str = "last", rungs: tuple[int, int] = (1, 2)
) -> SearchPlan:
    """A search of four epochs with rungs 1 and 2 (the first one, and the factor), checkpoints in `folder`."""
    parameters = {"filters": [8, 16, 24, 32], "learning_rate": {"low": 1e-4, "high": 1e-2}}
    space = parse_space({"parameters": parameters, "search": {"tell": tell, "sampler": "random"}}, "space")
    folder.mkdir(exist_ok=True)
    sampler = Sampler(space, None, "x", seed=0)
    journal = Journal(folder / "journal.jsonl")
    rule = METHODS[stopping](*rungs, 4)
    return SearchPlan(sampler, rule, journal, trials, 4, seed=0, checkpoints=open_storage(folder))


def report(plan: SearchPlan, job: str, epoch: int, ratio: float) -> str | None:
    """An epoch of a trial; where it must not go on its worker is free."""
    numbers = {"epoch": epoch, "ratio": ratio, "seconds": 1.0, "examples_per_second": 1.0, "members": []}
    reason = plan.result(job, numbers)
    if reason:
        plan.ended(job, RETURNED)
    return reason


def start(plan: SearchPlan) -> str:
    job = plan.next()
    assert job is not None
    return job[0]


def test_a_paused_trial_keeps_its_checkpoint_and_is_handed_out_again_when_it_is_promoted(tmp_path):
    plan = make_plan(tmp_path)
    first = start(plan)
    (tmp_path / f"{first}.checkpoint").touch()
    assert report(plan, first, 1, 0.5) == "paused at rung 1"
    assert (tmp_path / f"{first}.checkpoint").exists()
    assert plan.trials[first].state == ""
    second = start(plan)
    assert second != first
    report(plan, second, 1, 0.6)
    assert start(plan) == first
    events = [event["event"] for event in read_journal(plan.journal.path)]
    assert events == ["trial", "epoch", "paused", "trial", "epoch", "paused", "promoted"]


def test_a_search_of_too_few_trials_for_a_promotion_trains_its_best_one_to_the_end(tmp_path):
    plan = make_plan(tmp_path, trials=1)
    job = start(plan)
    for rung in (1, 2):
        assert report(plan, job, rung, 0.5) == f"paused at rung {rung}"
        assert not plan.finished()
        assert start(plan) == job
    assert [report(plan, job, epoch, 0.4) for epoch in (3, 4)] == [None, "full budget"]
    assert plan.finished()
    assert plan.trials[job].state == "completed"


def test_pasha_ends_with_the_paused_trials_as_stopped_at_their_rungs(tmp_path):
    plan = make_plan(tmp_path, trials=3, stopping="pasha")
    for ratio in (0.5, 0.6, 0.7):
        job = start(plan)
        (tmp_path / f"{job}.checkpoint").touch()
        report(plan, job, 1, ratio)
        if ratio == 0.6:
            promoted = start(plan)
            assert not plan.finished()
            report(plan, promoted, 2, 0.4)
    assert plan.next() is None
    assert plan.finished()
    found = {trial.id: (trial.state, trial.reason) for trial in plan.trials.values()}
    assert found == {
        "t0000": ("stopped", "stopped at rung 2"),
        "t0001": ("stopped", "stopped at rung 1"),
        "t0002": ("stopped", "stopped at rung 1"),
    }
    assert not list(tmp_path.glob("*.checkpoint"))


def test_with_promotion_the_others_end_as_stopped_once_one_has_completed(tmp_path):
    plan = make_plan(tmp_path, trials=2)
    for ratio in (0.5, 0.6):
        report(plan, start(plan), 1, ratio)
    job = start(plan)
    report(plan, job, 2, 0.5)
    assert start(plan) == job
    for epoch in (3, 4):
        report(plan, job, epoch, 0.4)
    assert plan.next() is None
    assert plan.finished()
    assert [trial.reason for trial in plan.trials.values()] == ["", "stopped at rung 1"]


def test_a_running_trial_may_still_promote_those_that_wait(tmp_path):
    plan = make_plan(tmp_path, trials=2)
    first, second = start(plan), start(plan)
    report(plan, first, 1, 0.5)
    assert plan.next() is None
    assert not plan.finished()
    report(plan, second, 1, 0.6)
    assert start(plan) == first


def test_the_time_budget_ends_paused_trials_and_an_interruption_leaves_them(tmp_path):
    over, interrupted = make_plan(tmp_path / "over"), make_plan(tmp_path / "interrupted")
    for plan, reason in ((over, "time budget"), (interrupted, "interrupted")):
        job = start(plan)
        report(plan, job, 1, 0.5)
        plan.give_up(reason)
    assert (over.trials["t0000"].state, over.trials["t0000"].reason) == ("stopped", "stopped at rung 1")
    assert interrupted.trials["t0000"].state == ""


def test_a_resumed_search_keeps_paused_trials_waiting_and_promotes_them(tmp_path):
    plan = make_plan(tmp_path)
    first, second = start(plan), start(plan)
    report(plan, first, 1, 0.5)
    plan.ended(second, JobOutcome("halted", "interrupted"))
    plan.journal.close()
    again = make_plan(tmp_path / "again")
    again.restore(list(read_journal(tmp_path / "journal.jsonl")))
    assert again.unfinished() == {second: 0}
    again.resume()
    assert start(again) == second
    report(again, second, 1, 0.6)
    assert start(again) == first


@pytest.mark.parametrize("stopping", ["asha", "pasha", "none"])
def test_a_search_that_is_resumed_with_another_method_ends_what_was_paused(stopping, tmp_path):
    plan = make_plan(tmp_path, trials=2)
    for ratio in (0.5, 0.6):
        report(plan, start(plan), 1, ratio)
    plan.journal.close()
    again = make_plan(tmp_path / "again", trials=3, stopping=stopping, rungs=(2, 2))
    again.restore(list(read_journal(tmp_path / "journal.jsonl")))
    again.resume()
    job = start(again)
    for epoch in (1, 2, 3, 4):
        if report(again, job, epoch, 0.4):
            break
    while (following := again.next()) is not None:
        report(again, following[0], again.trials[following[0]].epochs + 1, 0.4)
    assert again.finished()
    assert {trial.state for trial in again.trials.values()} <= {"completed", "stopped"}
    assert again.trials["t0000"].reason == again.trials["t0001"].reason == "stopped at rung 1"


@pytest.mark.parametrize(
    ("tell", "state", "value"), [("last", TrialState.COMPLETE, 0.5), ("pruned", TrialState.PRUNED, 0.5)]
)
def test_samplers_see_a_paused_trial_as_stopped_and_a_promoted_one_as_running(tell, state, value, tmp_path):
    plan = make_plan(tmp_path, tell=tell)
    first = start(plan)
    report(plan, first, 1, 0.5)
    seen = plan.sampler._proposing.get_trials(deepcopy=False)[0]
    assert (seen.state, seen.value) == (state, value)
    assert plan.sampler.study.trials[0].state == TrialState.RUNNING
    report(plan, start(plan), 1, 0.6)
    assert start(plan) == first
    assert plan.sampler._proposing.get_trials(deepcopy=False)[0].state == TrialState.RUNNING


def paused_events() -> list[tuple[str, dict]]:
    kind, begin = search_event()
    begin = {**begin, "space": {"search": {"stopping": "asha_promotion", "grace_epochs": 1, "reduction_factor": 2}}}
    return [
        (kind, {**begin, "settings": {"trials": 3, "epochs": 4}}),
        ("trial", {"id": "t0000", "params": PARAMS}),
        epoch_event("epoch", "t0000", 1, members(1)),
        ("paused", {"id": "t0000", "rung": 1}),
        ("trial", {"id": "t0001", "params": PARAMS}),
        epoch_event("epoch", "t0001", 1, members(1)),
    ]


def test_the_state_of_a_run_counts_paused_trials_as_waiting_and_not_as_unfinished_jobs():
    state = state_of(journal(paused_events()))
    assert list(state.paused) == ["t0000"]
    assert list(state.running) == ["t0001"]
    assert state.states("search") == {"waiting": 2, "running": 1, "completed": 0, "stopped": 0, "failed": 0}
    assert state.unfinished() == {"t0001": 1}
    assert len(state.rungs.values[1]) == 2


def test_mlflow_shows_a_paused_trial_as_paused_and_a_promoted_one_as_running():
    projection = Projection()
    for event in journal([*paused_events(), ("promoted", {"id": "t0000", "rung": 1})]):
        projection.apply(event)
        if event["event"] == "paused":
            assert projection.work["t0000"].tags["state"] == "paused"
    assert projection.work["t0000"].tags["state"] == "running"


def test_an_interruption_closes_the_mlflow_runs_of_paused_trials():
    projection = Projection()
    for event in journal([*paused_events(), ("end", {"state": "interrupted"})]):
        projection.apply(event)
    assert {projection.work[id].tags["state"] for id in ("t0000", "t0001")} == {"interrupted"}


def test_a_promoted_trial_runs_again_and_a_paused_one_can_end():
    promoted = state_of(journal([*paused_events(), ("promoted", {"id": "t0000", "rung": 1})]))
    assert sorted(promoted.running) == ["t0000", "t0001"]
    end = {"id": "t0000", "state": "stopped", "reason": "stopped at rung 1", "epochs": 1}
    ended = state_of(journal([*paused_events(), ("trial_end", end)]))
    assert ended.paused == {}
    assert ended.states("search")["stopped"] == 1
    assert ended.stopped_at[1] == 1


def test_the_state_of_a_run_knows_the_largest_open_rung_of_pasha():
    plan_values = {"t0000": (0.5, 0.3), "t0001": (0.4, 0.35)}
    kind, begin = search_event()
    begin = {**begin, "space": {"search": {"stopping": "pasha", "grace_epochs": 1, "reduction_factor": 2}}}
    events = [(kind, {**begin, "settings": {"trials": 2, "epochs": 8}})]
    for id, values in plan_values.items():
        events.append(("trial", {"id": id, "params": PARAMS}))
        events += [epoch_event("epoch", id, epoch, members(epoch, ratio=v)) for epoch, v in enumerate(values, 1)]
    state = state_of(journal([*events, ("resume", {"units": {}, "changed": {}})]))
    # They changed places between epochs 1 and 2, so that rung 4 is open, and rung 2 has a cut-off.
    assert (state.cutoff(2), state.cutoff(4)) == (0.3, None)


def test_a_journal_of_a_version_without_early_stopping_methods_is_of_asha():
    kind, begin = search_event()
    state = state_of(journal([(kind, {**begin, "space": {"search": {"grace_epochs": 1, "reduction_factor": 2}}})]))
    assert type(state.rungs) is METHODS["asha"]
    old = {"parameters": {"filters": [8, 16]}, "search": {"grace_epochs": 1}}
    assert journal_space(old, "the journal").search.stopping == "asha"
    assert journal_space({**old, "search": {"stopping": "pasha"}}, "the journal").search.stopping == "pasha"


def test_a_space_that_spares_trials_and_names_no_method_has_one_that_can():
    parameters = {"filters": [8, 16]}
    methods = [parse_space({"parameters": parameters, "search": search}, "space").search.stopping for search in
               ({}, {"spared_share": 0.1}, {"spared_share": 0.1, "stopping": "curve_model"})]  # fmt: skip
    assert methods == ["asha_promotion", "asha", "curve_model"]


def test_a_space_refuses_what_no_stopping_method_can_do():
    parameters = {"filters": [8, 16]}
    with pytest.raises(UserError, match=r"spared_share is 0.1, but stopping: pasha"):
        parse_space({"parameters": parameters, "search": {"spared_share": 0.1, "stopping": "pasha"}}, "space")
    with pytest.raises(UserError, match="at most 500 epochs, found 501"):
        parse_space({"parameters": parameters, "search": {"epochs": 501, "stopping": "curve_model"}}, "space")
    with pytest.raises(UserError, match="stopping"):
        parse_space({"parameters": parameters, "search": {"stopping": "hyperband"}}, "space")
