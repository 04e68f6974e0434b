"""`sepsearch stop`: what it asks of a running search, what it refuses, and what the running process does with it."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from documented_keys import documented_keys
from event_fixtures import interrupted_story, journal, search_event, story, until, write_run
from fake_s3 import fake_s3

from sepsearch.pipeline import stop_command
from sepsearch.pipeline.hand_stops import HandStops
from sepsearch.runs.stop_requests import FOLDER, RequestWatch, StopRequest, write_request
from sepsearch.search.events import Event
from sepsearch.search.journal import Journal, read_run
from sepsearch.search.protocol import INTERRUPTED, SEARCH_BY_HAND, StopSignal
from sepsearch.search.remote_journal import RemoteJournal
from sepsearch.search.run_lock import RunLock
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan
from sepsearch.search.stopping.asha import Rungs
from sepsearch.spaces.space import parse_space
from sepsearch.stop import main
from sepsearch.utils.errors import UserError
from sepsearch.utils.storage import StorageFolder, open_storage


def make_plan(journal: Journal) -> SearchPlan:
    space = parse_space({"parameters": {"filters": [4, 8, 16, 24, 32]}}, "space")
    return SearchPlan(Sampler(space, None, "x", 0), Rungs(1, 2, 4), journal, 4, 4, 0)


class Running:
    """A run at work in a thread: a plan with two trials that have begun.

    `storage` is the run's, its own folder without one.
    """

    def __init__(self, folder: Path, storage: StorageFolder | None = None):
        self.folder, self.said = folder, list[str]()
        self.remote = RemoteJournal(storage / "journal") if storage else None
        if self.remote:
            self.remote.claim()
        self.journal, self.stop = Journal(folder / "journal.jsonl", remote=self.remote), StopSignal()
        kind, fields = search_event()
        address = {"options": {"storage": storage.root}} if storage else {}
        self.journal.append({"event": kind, **fields, "settings": {"trials": 4, "epochs": 4, **address}})
        self.plan = make_plan(self.journal)
        for _ in range(2):
            assert self.plan.next()
        watch = RequestWatch(storage or open_storage(folder), self.said.append, seconds=0.02)
        self.stops = HandStops(watch, self.stop, 0, self.said.append)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def _tick(self) -> None:
        while not self._over.wait(0.02):
            self.stops.apply(self.plan)

    def __enter__(self) -> "Running":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self.stops.close()
        if self.remote:
            self.remote.release()
        self.journal.close()

    def events(self, kind: str) -> list[Event]:
        return [event for event in read_run(self.journal.path) if event["event"] == kind]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_command, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(stop_command, "REMOTE_LOOK_SECONDS", 0.02)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "duets") as run:
        yield run


def stop(tmp_path: Path, *words: str) -> None:
    main(["duets", "--runs", str(tmp_path), *words])


def test_trials_are_asked_to_end_and_the_command_says_so(tmp_path, running, capsys):
    stop(tmp_path, "t0000", "t0001", "--wait", "600")
    assert capsys.readouterr().out.splitlines() == [
        f"{job} is stopped: it ends after its present epoch, 0 are done" for job in ("t0000", "t0001")
    ]
    assert [event["id"] for event in running.events("stop")] == ["t0000", "t0001"]
    assert running.stop.reason == ""
    assert list((tmp_path / "duets" / FOLDER).glob("*")) == []


def test_without_names_the_search_ends_and_its_finalists_come_next(tmp_path, running, capsys):
    stop(tmp_path, "--wait", "600")
    assert "the finalists are trained now" in capsys.readouterr().out
    assert running.stop.reason == SEARCH_BY_HAND
    assert [event["rule"] for event in running.events("search_stopped")] == ["by hand"]
    running.stop.end_search()
    assert running.stop.reason == ""


def test_the_whole_run_ends_as_by_an_interrupt(tmp_path, running, capsys):
    stop(tmp_path, "--all", "--wait", "600")
    assert "--resume duets" in capsys.readouterr().out
    assert running.stop.reason == INTERRUPTED


def test_json_has_the_documented_keys(tmp_path, running, capsys):
    stop(tmp_path, "t0001", "--json", "--wait", "600")
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert (found["name"], found["what"], found["jobs"], found["taken"]) == ("duets", "jobs", ["t0001"], True)
    assert found.keys() <= documented_keys("stop")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["t0009"], r"no such trial \(did you mean t0001, t0000\?\), expected one that runs: t0000, t0001"),
        (["x"], "no such trial, expected one that runs: t0000, t0001"),
        (["t0000", "--all"], "--all ends the whole run"),
    ],
)
def test_a_trial_that_is_not_there_is_refused_with_those_that_are(tmp_path, running, words, message):
    with pytest.raises(UserError, match=message):
        stop(tmp_path, *words)
    assert not (tmp_path / "duets" / FOLDER).exists()


def test_a_trial_that_has_ended_is_refused_with_its_end(tmp_path):
    write_run(tmp_path / "duets", until(journal(story()), "epoch", "t0001"))
    lock = RunLock(tmp_path / "duets" / "journal.jsonl")
    with pytest.raises(UserError, match=r"t0000 has ended already: completed; expected one that runs: t0001"):
        stop(tmp_path, "t0000")
    lock.release()


def test_a_search_that_is_over_is_refused_with_what_runs(tmp_path):
    write_run(tmp_path / "duets", until(journal(story()), "final_epoch"))
    lock = RunLock(tmp_path / "duets" / "journal.jsonl")
    with pytest.raises(UserError, match=r"the search is over already, and finalists is what runs: name what to stop"):
        stop(tmp_path)
    lock.release()


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (journal(story()), "duets has finished: there is nothing to stop"),
        (until(journal(interrupted_story()), "end"), "duets is not running: it ended as interrupted"),
        (until(journal(story()), "epoch", "t0001"), "no process is at work on it"),
    ],
)
def test_a_run_that_is_not_at_work_is_refused(tmp_path, events, message):
    write_run(tmp_path / "duets", events)
    with pytest.raises(UserError, match=message):
        stop(tmp_path, "t0001")


def test_a_run_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    write_run(tmp_path / "trios", journal(story()))
    with pytest.raises(UserError, match=r"no such run in .* expected one of: trios"):
        stop(tmp_path)


def test_a_run_that_gets_ready_has_nothing_to_stop(tmp_path):
    lock = RunLock(tmp_path / "duets" / "journal.jsonl")
    with pytest.raises(UserError, match="duets gets ready: nothing runs yet"):
        stop(tmp_path)
    lock.release()


def test_a_run_that_has_trained_all_is_not_stopped_while_it_scores(tmp_path):
    write_run(tmp_path / "duets", until(journal(story()), "final_end", "c0-s1"))
    lock = RunLock(tmp_path / "duets" / "journal.jsonl")
    with pytest.raises(UserError, match="it scores its models"):
        stop(tmp_path, "--all")
    lock.release()


def test_a_run_that_does_not_answer_in_time_keeps_no_request(tmp_path):
    write_run(tmp_path / "duets", until(journal(story()), "epoch", "t0001"))
    lock = RunLock(tmp_path / "duets" / "journal.jsonl")
    with pytest.raises(UserError, match=r"has not answered within 0\.01 s, and the request is withdrawn"):
        stop(tmp_path, "t0001", "--wait", "0.01")
    lock.release()
    assert list((tmp_path / "duets" / FOLDER).glob("*")) == []


def test_without_waiting_the_request_is_left_for_the_run(tmp_path, capsys):
    write_run(tmp_path / "duets", until(journal(story()), "epoch", "t0001"))
    lock = RunLock(tmp_path / "duets" / "journal.jsonl")
    stop(tmp_path, "t0001", "--wait", "0")
    lock.release()
    assert capsys.readouterr().out.startswith("asked; the run looks")
    assert len(list((tmp_path / "duets" / FOLDER).glob("stop-*.json"))) == 1


class Asked:
    """A watch that was given one request."""

    def __init__(self, request: StopRequest):
        self.request, self.handled = request, list[str]()

    def taken(self) -> list[tuple[str, StopRequest]]:
        return [("a" * 16, self.request)]

    def done(self, id: str) -> None:
        self.handled.append(id)


def apply(request: StopRequest, plan: object, process: int = 0) -> tuple[list[str], StopSignal]:
    said, signal, watch = list[str](), StopSignal(), Asked(request)
    HandStops(watch, signal, process, said.append).apply(plan)
    assert watch.handled == ["a" * 16]
    return said, signal


def test_a_request_to_an_earlier_process_of_the_run_stops_nothing(tmp_path):
    said, signal = apply(StopRequest(what="run", process=0, by="ann@desk"), None, process=1)
    assert said == ["note: a request by ann@desk to an earlier process of this run was ignored"]
    assert signal.reason == ""


def test_a_trial_that_has_ended_meanwhile_is_a_note_and_stops_nothing(tmp_path):
    log = Journal(tmp_path / "journal.jsonl")
    said, _ = apply(StopRequest(what="jobs", jobs=("t0007",), process=0, by="ann@desk"), make_plan(log))
    log.close()
    assert said == ["note: ann@desk asks to stop t0007: t0007 has not begun"]


class Retraining:
    """A plan of a later stage."""

    def stop(self, job: str, by: str, request: str) -> str:
        return ""


def test_the_end_of_a_search_that_is_over_is_a_note_and_stops_no_finalist():
    said, signal = apply(StopRequest(what="search", process=0, by="ann@desk"), Retraining())
    assert said == ["note: ann@desk asks to end the search: the search is over already"]
    assert signal.reason == ""


def test_a_run_that_is_elsewhere_is_asked_there(tmp_path, running, capsys):
    main(["duets", "--runs", "nowhere", "--storage", str(tmp_path), "t0000", "--wait", "600"])
    assert "t0000 is stopped" in capsys.readouterr().out
    assert [event["id"] for event in running.events("stop")] == ["t0000"]


@pytest.mark.parametrize("here", [True, False])
def test_a_run_in_an_object_store_is_asked_from_its_own_machine_and_from_any_other(tmp_path, monkeypatch, capsys, here):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with fake_s3() as server:
        address = server.address.removeprefix("http://")
        address = f"s3://bucket/runs?scheme=http&region=eu&endpoint_override={address}"
        with Running(tmp_path / "duets", open_storage(address) / "duets") as run:
            where = ["--runs", str(tmp_path)] if here else ["--runs", str(tmp_path / "else"), "--storage", address]
            main(["duets", *where, "t0001", "--wait", "600"])
            assert [event["id"] for event in run.events("stop")] == ["t0001"]
        assert not [key for key in server.objects if FOLDER in key]
    assert "t0001 is stopped" in capsys.readouterr().out


def test_a_request_from_a_file_of_its_own_is_the_same(tmp_path, running):
    write_request(open_storage(tmp_path / "duets"), StopRequest(what="jobs", jobs=("t0001",), process=0))
    gone = threading.Event()
    while list((tmp_path / "duets" / FOLDER).glob("stop-*")):
        gone.wait(0.02)
    assert [(event["id"], event["by"]) for event in running.events("stop")] == [("t0001", "somebody")]
