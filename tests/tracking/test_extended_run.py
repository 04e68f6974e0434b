"""A run that was extended in MLflow: the same runs go on, and another choice of a model has a run of its own."""

import shutil

import pytest
from chosen_story import chosen_story
from event_fixtures import PARAMS, epoch_event, journal, members, runs
from mlflow_store import replay

from sepsearch.search.event_checks import event_problem
from sepsearch.tracking import mapping
from sepsearch.tracking.mapping import Projection

BETTER = {**PARAMS, "filters": 8}


def extended_story():
    """The story of `chosen_story`, then an extension by one trial, whose configuration is the violin's choice."""
    final = {}
    for kind, fields in chosen_story():
        if kind == "scores":
            final = fields
        yield kind, fields
    yield "continue", {"format": 3, "units": {}, "changed": {"settings": {"trials": 4, "epochs": 2}}}
    yield "trial", {"id": "t0003", "params": BETTER}
    for epoch in (1, 2):
        yield epoch_event("epoch", "t0003", epoch)
    yield "trial_end", {"id": "t0003", "state": "completed", "reason": "", "epochs": 2}
    former = {"id": "c0", "trial": "t0000", "params": PARAMS, "reference": True}
    new = {"id": "c1", "trial": "t0003", "params": BETTER, "reference": False}
    yield "finalists", {"configurations": [new, former], "seconds": 3.0}
    yield "final", {"id": "c1-s0", "configuration": "c1", "seed": 0, "params": BETTER}
    yield epoch_event("final_epoch", "c1-s0", 1, members(1, 0))
    yield "final_end", {"id": "c1-s0", "state": "completed", "reason": "", "epochs": 1, "weights": "models/c1-s0"}
    violin = {**final["final"]["vn"], "configuration": "c1", "seed": 0, "params": BETTER}
    yield "scores", {**final, "final": {**final["final"], "vn": violin}}
    yield "registered", {"models": {"vn": "models:/sepsearch-vn/2"}}
    yield "end", {"state": "finished"}


@pytest.fixture
def uri(empty_store, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.setattr(mapping, "draw_curves", lambda *_: iter(()))
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_every_event_of_an_extended_run_is_one_that_a_journal_may_hold():
    known: set[str] = set()
    events = [{"versions": {}, **event} for event in journal(extended_story())]
    assert [problem for event in events if (problem := event_problem(event, known))] == []


def test_the_state_counts_the_finalists_that_are_chosen_anew():
    projection = Projection()
    for event in journal(extended_story()):
        projection.apply(event)
    state = projection.state
    assert [one["id"] for one in state.configurations] == ["c1", "c0"]
    assert [one["id"] for one in state.former] == ["c0", "c1"]
    assert state.states("search") == {"waiting": 0, "running": 0, "completed": 2, "stopped": 1, "failed": 1}
    assert state.states("finalists")["completed"] == 3
    assert state.end == "finished"
    assert state.models == {"vn": "models:/sepsearch-vn/2"}


def test_while_a_run_is_extended_it_has_no_finalists_and_no_scores():
    projection = Projection()
    for event in journal(extended_story()):
        projection.apply(event)
        if event["event"] == "continue":
            break
    state = projection.state
    assert (state.configurations, state.scores, state.end, state.stage) == (None, None, "", "search")
    assert (state.eliminated, state.models, state.settled) == ({}, {}, {"vn": "models:/sepsearch-vn/1"})
    assert not state.finished
    assert state.wanted("search") == 4


def test_another_choice_has_a_run_of_its_own_and_the_former_one_becomes_a_candidate(uri):
    replay(uri, journal(extended_story()))
    found = runs(uri)
    before, now = found["violin · c0-s1"], found["violin · c1-s0"]
    assert (before.data.tags["stage"], before.data.tags["chosen"]) == ("candidate", "no")
    assert (now.data.tags["stage"], now.data.tags["chosen"]) == ("finalist", "yes")
    assert now.data.params["filters"] == "8"
    assert now.data.tags["model"] == "models:/sepsearch-vn/2"
    assert found["c0-s1"].data.tags["chosen.vn"] == "false"
    assert found["c1-s0"].data.tags["chosen.vn"] == "true"
    assert found["cello · c0-s0"].data.tags["chosen"] == "yes"
    assert found["duets"].data.tags["extended"] == "to 4 trials"
    assert found["duets"].info.status == "FINISHED"


def test_a_replay_of_an_extended_run_adds_no_run(uri):
    replay(uri, journal(extended_story()))
    before = {name: run.info.run_id for name, run in runs(uri).items()}
    replay(uri, journal(extended_story()))
    assert {name: run.info.run_id for name, run in runs(uri).items()} == before


def test_a_run_in_its_first_scores_is_that_of_the_instrument():
    projection = Projection()
    for event in journal(chosen_story()):
        projection.apply(event)
    assert {"vn", "vc"} <= projection.work.keys()
    assert not any(key.startswith("vn/") for key in projection.work)
