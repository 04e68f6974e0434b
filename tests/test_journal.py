"""The journal: appended, read back, and what a crash leaves."""

import os
import resource

import pytest

from sepsearch.errors import UserError
from sepsearch.journal import Journal, read_journal, read_run

SEARCH = {
    **{key: {} for key in ("space", "settings", "versions", "dataset", "baselines", "caveats")},
    **dict.fromkeys(("name", "run", "reference"), "x"),
    "seconds": 1,
}


def test_events_are_read_back_in_order(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("trial", id="t0000", params={"filters": 8})
    journal.append("epoch", id="t0000", ratio=0.5)
    journal.close()
    events = list(read_journal(journal.path))
    assert [event["event"] for event in events] == ["trial", "epoch"]
    assert events[0]["params"] == {"filters": 8}


def test_a_number_that_is_none_becomes_null(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("epoch", ratio=float("nan"), members=[{"val_loss": float("inf")}])
    (event,) = read_journal(journal.path)
    assert event["ratio"] is None
    assert event["members"] == [{"val_loss": None}]


def test_an_event_is_on_the_disk_before_a_listener_hears_of_it(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    heard = []
    journal.listen(lambda event: heard.append((event["event"], len(list(read_journal(journal.path))))))
    journal.append("trial")
    journal.append("epoch")
    assert heard == [("trial", 1), ("epoch", 2)]


def test_a_last_line_cut_off_by_a_crash_is_passed_over(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("trial", id="t0000")
    journal.close()
    with journal.path.open("a") as file:
        file.write('{"event": "epo')
    assert [event["event"] for event in read_journal(journal.path)] == ["trial"]


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda lines: [lines[0], b"nonsense\n", lines[2]], 2),
        (lambda lines: [lines[0], lines[1].replace(b"0.5", b"0.4"), lines[2]], 2),
        (lambda lines: [lines[0], lines[2], lines[1]], 2),
        (lambda lines: [lines[0], lines[1], lines[1], lines[2]], 3),
        (lambda lines: [lines[1], lines[2]], 1),
    ],
    ids=["overwritten", "another number", "reordered", "doubled", "lost"],
)
def test_a_line_that_is_not_what_was_written_is_an_error_with_its_number(damage, line, tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    for ratio in (0.7, 0.5, 0.3):
        journal.append("epoch", ratio=ratio)
    journal.close()
    journal.path.write_bytes(b"".join(damage(journal.path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(UserError, match=rf"journal.jsonl:{line}: damaged line"):
        list(read_journal(journal.path))


def test_a_journal_is_gone_on_with_after_a_crash(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("trial", id="t0000")
    journal.close()
    with journal.path.open("a") as file:
        file.write('{"event": "epo')
    again = Journal(journal.path, resume=True)
    again.append("epoch", id="t0000")
    assert [event["event"] for event in read_journal(journal.path)] == ["trial", "epoch"]


def test_a_journal_has_one_writer(tmp_path):
    Journal(tmp_path / "journal.jsonl")
    with pytest.raises(UserError, match="another process is at work on this run"):
        Journal(tmp_path / "journal.jsonl", resume=True)


def test_a_line_that_did_not_fit_on_the_disk_leaves_no_trace(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("trial", id="t0000")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + 20, limit[1]))
    try:
        with pytest.raises(UserError, match="cannot be written"):
            journal.append("epoch", id="t0000")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    journal.append("end", state="failed")
    assert [event["event"] for event in read_journal(journal.path)] == ["trial", "end"]


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([("trial", {"id": "t0000", "params": {}})], "event trial before the search began"),
        ([("search", {})], "event search: name is"),
        ([("search", SEARCH), ("epoch", {"id": "t7", "epoch": 1, "ratio": 1, "members": []})], "of t7, which has not"),
        ([("search", SEARCH), ("trial", {"id": "t0000", "params": 3})], "event trial: params is '3'"),
    ],
)
def test_a_run_that_makes_no_sense_is_an_error(events, problem, tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    for kind, fields in events:
        journal.append(kind, **fields)
    with pytest.raises(UserError, match=problem):
        list(read_run(journal.path))


def test_a_journal_never_overwrites_another(tmp_path):
    Journal(tmp_path / "journal.jsonl")
    with pytest.raises(UserError, match="already there"):
        Journal(tmp_path / "journal.jsonl")


def test_a_full_disk_is_one_line(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._file)
    with pytest.raises(UserError, match="No space left on device: free some space"):
        journal.append("trial")


def test_two_lines_that_were_made_one_are_found_although_their_checksum_fits(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for number in range(3):
        journal.append("trial", id=f"t{number}", params={})
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = lines[0].rpartition(b',"sum":')[0] + lines[1] + lines[2]
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"journal\.jsonl:1: not an event"):
        Journal(path, resume=True)
    assert path.read_bytes() == damaged
