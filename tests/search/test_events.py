"""Typed records of a journal's events: what a reader refuses, and which journals of other versions it reads."""

import pytest
from event_fixtures import journal, search_event, story, write_run

from sepsearch.search.event_checks import event_problem
from sepsearch.search.events import EXTENDED
from sepsearch.search.journal import read_run
from sepsearch.utils.errors import UserError

BEGUN = {"", "t0000"}
EPOCH = {
    "event": "epoch",
    "time": 1.0,
    "id": "t0000",
    "epoch": 1,
    "ratio": 0.5,
    "members": [{"instrument": "vn", "val_loss": 0.5, "discontinuity": False}],
}


def test_an_event_as_it_is_written_has_no_problem():
    known: set[str] = set()
    assert [event_problem(event, known) for event in journal(story())] == [""] * len(journal(story()))
    assert {"t0000", "c0-s1", "c0"} <= known


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"epoch": "1"}, "event epoch: epoch is '1': "),
        ({"epoch": True}, "event epoch: epoch is 'True': "),
        ({"ratio": "x"}, "event epoch: ratio is 'x': "),
        ({"members": [{"instrument": "vn", "val_loss": "low"}]}, "event epoch: members.0.val_loss is 'low': "),
        ({"members": {}}, "event epoch: members is '{}': "),
        ({"time": None}, "event epoch has no time"),
        ({"id": "t0009"}, "event epoch of t0009, which has not begun"),
        ({"members": [{"instrument": "../vn"}]}, "event epoch: '../vn' becomes a path"),
    ],
)
def test_a_field_of_another_type_is_named_with_what_was_found(changes, expected):
    assert event_problem({**EPOCH, **changes}, set(BEGUN)).startswith(expected)


def test_fields_that_a_later_version_added_are_no_problem():
    assert event_problem({**EPOCH, "more": [1], "ratio": None}, set(BEGUN)) == ""


def test_a_journal_without_a_format_is_read_and_one_of_a_later_format_is_refused_in_one_line(tmp_path):
    kind, begin = search_event()
    older = write_run(tmp_path / "older", journal([(kind, begin)]))
    assert [event["event"] for event in read_run(older / "journal.jsonl")] == ["search"]
    later = write_run(tmp_path / "later", journal([(kind, {**begin, "format": EXTENDED + 1})]))
    with pytest.raises(UserError, match=f"format {EXTENDED + 1}, expected at most {EXTENDED}: update sepsearch"):
        list(read_run(later / "journal.jsonl"))


def test_a_journal_that_a_later_version_went_on_with_is_refused(tmp_path):
    resume = ("resume", {"units": {}, "changed": {}, "format": EXTENDED + 1})
    path = write_run(tmp_path, journal([search_event(), resume])) / "journal.jsonl"
    with pytest.raises(UserError, match=r"journal.jsonl:2: event resume has format"):
        list(read_run(path))
