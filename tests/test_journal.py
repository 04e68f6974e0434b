"""The journal: appended, read back, and what a crash leaves."""

import os

import pytest

from sepsearch.errors import UserError
from sepsearch.journal import Journal, read_journal


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


def test_a_damaged_line_in_the_middle_is_an_error_with_its_number(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"event": "trial"}\nnonsense\n{"event": "epoch"}\n')
    with pytest.raises(UserError, match=r"journal.jsonl:2: damaged line"):
        list(read_journal(path))


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
