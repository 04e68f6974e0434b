"""`--json` of commands that read a run or print a path: JSON alone on standard output, with the keys of the docs."""

import json
from pathlib import Path
from typing import Any

import pytest
from documented_keys import documented_keys
from event_fixtures import interrupted_story, journal, story, until, write_run

from sepsearch.search.events import Event
from sepsearch.search.run_lock import RunLock
from sepsearch.utils.errors import UserError


def watched(tmp_path: Path, events: list[Event], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `watch --json` prints of a run."""
    from sepsearch.watch import main

    write_run(tmp_path / "duets", events)
    main(["duets", "--runs", str(tmp_path), "--json"])
    output = capsys.readouterr()
    assert output.err == ""
    found: dict[str, Any] = json.loads(output.out)
    assert found.keys() <= documented_keys("watch")
    return found


def test_watch_of_a_running_search_gives_its_state(tmp_path, capsys):
    found = watched(tmp_path, until(journal(story()), "epoch", "t0001"), capsys)
    assert (found["name"], found["state"], found["stage"]) == ("duets", "running", "search")
    assert found["jobs"] == {"search": {"waiting": 1, "running": 1, "completed": 1, "stopped": 0, "failed": 0}}
    assert (found["best"]["id"], found["best"]["ratio"]) == ("t0000", 0.25)
    assert [job["id"] for job in found["running"]] == ["t0001"]
    assert "--resume duets" in found["resume"]
    assert found["best"].keys() <= documented_keys("watch")
    assert found["rungs"]
    assert all(rung.keys() <= documented_keys("watch") for rung in found["rungs"])


def test_watch_of_a_finished_search_gives_its_final_models(tmp_path, capsys):
    found = watched(tmp_path, journal(story()), capsys)
    assert found["state"] == "finished"
    assert found["remaining_seconds"] is None
    assert found["seconds_in_stage"] < 100  # until the end, not until today
    assert found["models"] == {"vn": "models:/sepsearch-vn/1"}
    violin = found["instruments"]["vn"]
    assert violin["final"]["test_ratio"] == pytest.approx(0.35)
    assert violin["finalist"] == {"id": "c0", "ratio_mean": 0.5, "ratio_sd": 0.0, "seeds": [0, 1]}
    assert (violin["caveat"], found["instruments"]["vc"]["caveat"]) == (None, "one title only")
    assert violin.keys() | violin["finalist"].keys() <= documented_keys("watch")
    assert found["failures"] == [{"id": "t0002", "reason": "NaN: the training loss of vn is nan in epoch 2"}]


def test_watch_of_a_resumed_search_counts_dead_workers(tmp_path, capsys):
    found = watched(tmp_path, journal(interrupted_story()), capsys)
    assert (found["resumes"], found["dead_workers"]) == (2, 1)


def test_watch_of_an_empty_journal_says_that_the_run_has_not_begun(tmp_path, capsys):
    assert watched(tmp_path, [], capsys)["state"] == "not begun"


def test_watch_of_a_run_that_gets_ready_says_so(tmp_path, capsys):
    from sepsearch.watch import main

    lock = RunLock(tmp_path / "duets" / "journal.jsonl")
    try:
        main(["duets", "--runs", str(tmp_path), "--json"])
    finally:
        lock.release()
    output = capsys.readouterr()
    assert json.loads(output.out) == {"name": "duets", "state": "getting ready"}
    assert output.err.startswith("duets gets ready")


def test_a_ratio_that_is_no_number_is_null(tmp_path, capsys):
    events = until(journal(story()), "epoch", "t0001")
    events[-1] = {**events[-1], "ratio": None}
    assert watched(tmp_path, events, capsys)["running"][0]["ratio"] is None


def test_an_error_leaves_standard_output_empty(tmp_path, capsys):
    from sepsearch.watch import main

    with pytest.raises(UserError, match="no such run"):
        main(["duets", "--runs", str(tmp_path), "--json"])
    assert capsys.readouterr().out == ""


def test_report_gives_the_path(tmp_path, capsys):
    from sepsearch.report import main

    write_run(tmp_path / "duets", journal(story())[:-3])
    main(["duets", "--runs", str(tmp_path), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found == {"report": str(tmp_path / "duets" / "report.html")}
    assert found.keys() <= documented_keys("report")


def test_fetch_gives_folder_and_note(tmp_path, monkeypatch, capsys):
    from sepsearch.fetch import main

    monkeypatch.setattr("sepsearch.runs.folder.fetch_run", lambda *_: "journal.jsonl: was damaged")
    main(["duets", "--storage", "s3://bucket/runs", "--runs", str(tmp_path), "--json"])
    output = capsys.readouterr()
    assert json.loads(output.out) == {"folder": str(tmp_path / "duets"), "note": "journal.jsonl: was damaged"}
    assert output.err == ""
    assert documented_keys("fetch") >= {"folder", "note"}


def test_demo_gives_the_folder_and_shows_progress_on_standard_error(tmp_path, monkeypatch, capsys):
    from sepsearch.demo import main

    def render(progress):
        progress(1, 2)
        return tmp_path

    monkeypatch.setattr("sepsearch.data.demo.rendering.demo_folder", render)
    main(["--json"])
    output = capsys.readouterr()
    assert (json.loads(output.out), output.err) == ({"folder": str(tmp_path)}, "1/2 pieces\n")
    assert "folder" in documented_keys("demo")


def test_a_quiet_demo_prints_the_folder_alone(tmp_path, monkeypatch, capsys):
    from sepsearch.demo import main

    def render(progress):
        progress(1, 2)
        return tmp_path

    monkeypatch.setattr("sepsearch.data.demo.rendering.demo_folder", render)
    main(["--quiet"])
    output = capsys.readouterr()
    assert (output.out, output.err) == (f"{tmp_path}\n", "")
