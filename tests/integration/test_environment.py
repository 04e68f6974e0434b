"""What fails because of its environment (a worker, a node, the storage) is open again in a resumed run."""

import io
from pathlib import Path

import pytest
from event_fixtures import epoch_event, journal, members, search_event, state_of
from planned_search import EPOCHS, FINALISTS, search_plan
from rich.console import Console

from sepsearch.monitoring.console import Screen
from sepsearch.runs.results import build_results
from sepsearch.runs.state import RunState
from sepsearch.search.events import Event
from sepsearch.search.journal import Journal, read_journal
from sepsearch.search.protocol import RETURNED, STORAGE, JobOutcome, reopens
from sepsearch.search.retraining import FinalPlan
from sepsearch.search.scheduler import SearchPlan
from sepsearch.utils.errors import StorageFault

DIED = JobOutcome("died", "worker died: out of memory")
FULL = JobOutcome("died", "node one: x.checkpoint: No space left on device", STORAGE)
NUMBERS = {"ratio": 0.5, "seconds": 1.0, "examples_per_second": 1.0, "members": members(1)}


def resumed(folder: Path, **choices) -> SearchPlan:
    """The same search in another process."""
    path = folder / "journal.jsonl"
    plan = search_plan(folder, Journal(path, resume=True), **choices)
    plan.restore(list(read_journal(path)))
    plan.journal.append({"event": "resume", "units": plan.unfinished(), "changed": {}})
    plan.resume()
    return plan


def begun(folder: Path, **choices) -> SearchPlan:
    plan = search_plan(folder, Journal(folder / "journal.jsonl"), **choices)
    plan.next()
    return plan


def test_a_trial_whose_worker_died_too_often_goes_on_in_a_resumed_run_with_all_its_attempts(tmp_path):
    plan = begun(tmp_path, retries=1)
    plan.result("t0000", {"epoch": 1, **NUMBERS})
    for _ in range(2):
        plan.ended("t0000", DIED)
    assert (plan.trials["t0000"].state, plan.sampler.study.trials[0].state.name) == ("failed", "FAIL")
    plan.journal.close()
    again = resumed(tmp_path, retries=1)
    assert again.next()[0] == "t0000"
    assert again.trials["t0000"].epochs == 1
    assert again.sampler.study.trials[0].state.name == "RUNNING"
    again.ended("t0000", DIED)
    assert again.trials["t0000"].state == ""
    for epoch in range(2, EPOCHS + 1):
        again.result(again.next()[0] if epoch == 2 else "t0000", {"epoch": epoch, **NUMBERS})
    again.ended("t0000", RETURNED)
    assert (again.trials["t0000"].state, again.sampler.study.trials[0].state.name) == ("completed", "COMPLETE")


@pytest.mark.parametrize("ending", [RETURNED, JobOutcome("raised", "exception: planted")])
def test_a_configurations_own_failure_stays_failed(ending, tmp_path):
    plan = begun(tmp_path)
    plan.result("t0000", {"failed": "NaN: planted"})
    plan.ended("t0000", ending)
    plan.journal.close()
    assert resumed(tmp_path).next()[0] == "t0001"


def test_a_unit_that_is_put_off_is_handed_out_again_and_nothing_is_counted(tmp_path):
    plan = begun(tmp_path, retries=0)
    for _ in range(5):
        plan.ended("t0000", JobOutcome("deferred", "node one: full", STORAGE))
        assert plan.next()[0] == "t0000"
    assert [event["event"] for event in read_journal(plan.journal.path)] == ["trial"]


def test_a_storage_that_no_worker_can_write_to_ends_the_search_and_fails_no_trial(tmp_path):
    plan = begun(tmp_path, retries=1)
    plan.ended("t0000", FULL)
    with pytest.raises(StorageFault, match=r"t0000: node one: .*No space left on device \(2 times\)"):
        plan.ended("t0000", FULL)
    plan.give_up("interrupted")
    plan.journal.close()
    again = resumed(tmp_path, retries=1)
    assert again.next()[0] == "t0000"
    again.ended("t0000", FULL)  # counted anew
    assert again.trials["t0000"].state == ""
    assert again.sampler.study.trials[0].state.name == "RUNNING"


def end(kind: str, state: str, reason: str, **fields) -> Event:
    return {"event": kind, "id": "x", "state": state, "reason": reason, "epochs": 1, **fields}


@pytest.mark.parametrize(
    ("event", "open_again"),
    [
        (end("trial_end", "stopped", "interrupted"), True),
        (end("trial_end", "failed", "worker died: out of memory (3 times)", cause="environment"), True),
        (end("trial_end", "failed", "worker died: planted", cause=""), False),
        (end("trial_end", "failed", "worker died: out of memory (3 times)"), True),
        (end("final_end", "failed", "node two: /runs/x: not seen here as the driver sees it (3 times)"), True),
        (end("trial_end", "failed", "exception: ValueError"), False),
        (end("trial_end", "stopped", "stopped at rung 1", cause=""), False),
        (end("final_end", "completed", "", cause=""), False),
    ],
)
def test_which_ends_are_taken_back_in_journals_with_and_without_a_cause(event, open_again):
    assert reopens(event) == open_again


def story(*more: tuple[str, dict]) -> list[Event]:
    """A search whose first trial failed with its worker, and what comes then."""
    failed = {"id": "t0000", "state": "failed", "reason": "worker died (3 times)", "cause": "environment", "epochs": 1}
    return journal(
        [
            search_event(),
            ("trial", {"id": "t0000", "params": {}}),
            epoch_event("epoch", "t0000", 1),
            ("trial_end", failed),
            ("trial", {"id": "t0001", "params": {}}),
            *more,
        ]
    )


RESUME = ("resume", {"units": {"t0000": 1, "t0001": 0}, "changed": {}})


def test_a_history_counts_it_as_unfinished_until_the_search_is_over():
    assert state_of(story()).unfinished() == {"t0000": 1, "t0001": 0}
    assert state_of(story(RESUME, epoch_event("epoch", "t0000", 2))).unfinished() == {"t0000": 2, "t0001": 0}
    over = ("trial_end", {"id": "t0001", "state": "completed", "reason": "", "cause": "", "epochs": 2})
    assert state_of(story(over, ("finalists", {"configurations": [], "seconds": 1.0}))).unfinished() == {}


def test_results_and_tally_take_its_end_back_when_it_goes_on():
    run = state_of(story(RESUME))
    assert build_results(run)["trials"][0]["state"] == "running"
    assert set(run.running) == {"t0000", "t0001"}
    assert run.states("search")["failed"] == 0


def test_a_finalist_that_failed_with_its_worker_is_trained_on_and_scores_without_any_model_are_none(tmp_path):
    path = tmp_path / "journal.jsonl"
    plan = FinalPlan(FINALISTS[:1], [1], Journal(path), tmp_path / "finalists", EPOCHS)
    plan.next()
    plan.ended("c0-s1", DIED)
    plan.journal.append({"event": "scores", "final": {}, "reference_final": {}, "seconds": 1.0})
    plan.journal.close()
    events = list(read_journal(path))
    run = state_of(events)
    assert run.scored is None
    assert run.unfinished() == {"c0-s1": 0}
    again = FinalPlan(FINALISTS[:1], [1], Journal(path, resume=True), tmp_path / "finalists", EPOCHS)
    again.restore(events)
    again.resume()
    assert again.next()[0] == "c0-s1"


def counted(run: RunState, stage: str, last: Event) -> str:
    """The last line that the screen prints after a stage's last event."""
    console = Console(file=io.StringIO(), width=200)
    screen = Screen(console, run)
    screen.begin(stage)
    run.handle(last)
    screen.handle(last)
    return console.file.getvalue().splitlines()[-1]


def test_the_screen_counts_a_finalist_that_is_trained_again_once():
    ended = {"event": "final_end", "state": "completed", "reason": "", "epochs": 1, "weights": "finalists/x"}
    finals = [{"event": "final", "id": id, "configuration": id[:2], "seed": 1} for id in ("c0-s1", "c1-s1")]
    run = state_of([*finals, *({**ended, "id": one["id"]} for one in finals)])
    assert "2 of 2 done" in counted(run, "finalists", {**ended, "id": "c0-s1", "time": 2000.0})


def test_the_screen_counts_it_among_those_to_come():
    end = {"event": "trial_end", "id": "t0001", "state": "completed", "reason": "", "epochs": 2, "time": 2000.0}
    assert "1 of 3 done" in counted(state_of(story(RESUME)), "search", end)
