"""A journal as objects: every line once and in order, whoever writes, gathers, dies or goes on elsewhere."""

import json
import os

import pytest

from sepsearch import mirror
from sepsearch.errors import UserError
from sepsearch.journal import Journal, read_journal
from sepsearch.mirror import WRITER, Mirror
from sepsearch.places import open_place


@pytest.fixture
def place(tmp_path):
    """A folder: to a mirror it is a place like any other."""
    return open_place(tmp_path / "there") / "journal"


def lines(place, path):
    """What a machine that has nothing reads."""
    Mirror(place).fetch(path)
    return path.read_bytes()


def objects(place):
    return [name for name in place.names() if name.endswith(".jsonl")]


def test_a_line_is_there_before_anyone_hears_of_the_event(place, tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", mirror=Mirror(place))
    heard = []
    journal.listen(lambda event: heard.append(len(objects(place))))
    journal.append("end", state="finished")
    journal.append("end", state="finished")
    assert heard == [1, 2]


@pytest.mark.parametrize("count", [0, 1, 4, 5, 9, 12])
def test_a_reader_finds_every_line_once_however_they_are_gathered(place, tmp_path, monkeypatch, count):
    monkeypatch.setattr(mirror, "GATHERED", 4)
    journal = Journal(tmp_path / "journal.jsonl", mirror=Mirror(place))
    for number in range(count):
        journal.append("end", state=str(number))
    assert lines(place, tmp_path / "copy") == (tmp_path / "journal.jsonl").read_bytes()
    assert len(objects(place)) == count // 4 + count % 4


def test_a_reader_that_follows_adds_what_is_new(place, tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "GATHERED", 3)
    journal = Journal(tmp_path / "journal.jsonl", mirror=Mirror(place))
    reader = Mirror(place)
    for number in range(10):
        journal.append("end", state=str(number))
        reader.fetch(tmp_path / "copy")
        assert [e["state"] for e in read_journal(tmp_path / "copy")] == [str(n) for n in range(number + 1)]


def test_a_line_that_is_in_two_objects_counts_once(place, tmp_path):
    """So it is when a process dies while it gathers."""
    for number in range(3):
        place.write(f"{number:09d}.jsonl", b"%d\n" % number)
    place.write("000000000.jsonl", b"0\n1\n2\n")
    assert lines(place, tmp_path / "copy") == b"0\n1\n2\n"


def test_a_missing_object_is_told_with_its_line(place, tmp_path):
    for number in (0, 1, 3):
        place.write(f"{number:09d}.jsonl", b"%d\n" % number)
    with pytest.raises(UserError, match="line 3 of the journal is missing"):
        lines(place, tmp_path / "copy")


def test_a_copy_loses_what_never_reached_the_place(place, tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", mirror=Mirror(place))
    journal.append("end", state="known")
    journal.close()
    reached = (tmp_path / "journal.jsonl").read_bytes()
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"event":"end","sum":"00000000"}\n')
    Mirror(place).fetch(tmp_path / "journal.jsonl")
    assert (tmp_path / "journal.jsonl").read_bytes() == reached


def test_another_machine_goes_on_where_the_first_one_ended(place, tmp_path):
    first = Journal(tmp_path / "first.jsonl", mirror=Mirror(place))
    first.append("end", state="one")
    first.close()
    there = Mirror(place)
    there.fetch(tmp_path / "second.jsonl")
    second = Journal(tmp_path / "second.jsonl", resume=True, mirror=there)
    second.append("end", state="two")
    lines(place, tmp_path / "copy")
    assert [event["state"] for event in read_journal(tmp_path / "copy")] == ["one", "two"]


def test_an_event_that_cannot_reach_the_place_is_not_in_the_journal_either(place, tmp_path, monkeypatch):
    journal = Journal(tmp_path / "journal.jsonl", mirror=Mirror(place))
    journal.append("end", state="one")
    heard = []
    journal.listen(heard.append)

    def away(self, name, content):
        raise UserError("the place does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(type(place), "write", away)
        with pytest.raises(UserError, match="does not answer"):
            journal.append("end", state="two")
    journal.append("end", state="three")
    assert [event["state"] for event in heard] == ["three"]
    assert [event["state"] for event in read_journal(tmp_path / "journal.jsonl")] == ["one", "three"]
    assert lines(place, tmp_path / "copy") == (tmp_path / "journal.jsonl").read_bytes()


def test_a_second_writer_is_refused_and_told_who_the_first_is(place, monkeypatch):
    first = Mirror(place)
    first.claim()
    monkeypatch.setattr(mirror.platform, "node", lambda: "elsewhere")
    with pytest.raises(UserError, match=rf"another process is at work on this run \(.*, process {os.getpid()}"):
        Mirror(place).claim()
    first.release()


def test_a_writer_that_let_go_leaves_the_run_to_others(place):
    first = Mirror(place)
    first.claim()
    first.release()
    assert WRITER not in place.names()
    second = Mirror(place)
    second.claim()
    second.release()


def test_a_writer_of_this_machine_that_has_died_is_no_hindrance(place):
    place.write(WRITER, b'{"host": "%s", "pid": 999999999, "id": "x"}' % os.uname().nodename.encode())
    mine = Mirror(place)
    mine.claim()
    assert json.loads(place.read(WRITER))["pid"] == os.getpid()
    mine.release()


def test_a_writer_elsewhere_that_is_silent_for_long_has_lost_the_run(place, monkeypatch):
    place.write(WRITER, b'{"host": "elsewhere", "pid": 1, "id": "x"}')
    monkeypatch.setattr(mirror, "LEASE_SECONDS", 0.0)
    mine = Mirror(place)
    mine.claim()
    assert json.loads(place.read(WRITER))["pid"] == os.getpid()
    mine.release()


def test_a_writer_that_was_taken_over_stops_at_its_next_event(place, monkeypatch):
    monkeypatch.setattr(mirror, "RENEWAL_SECONDS", 0.01)
    first = Mirror(place)
    first.claim()
    place.write(WRITER, b'{"host": "elsewhere", "pid": 7, "id": "x"}')
    assert first._renewal is not None
    first._renewal.join(10)
    with pytest.raises(UserError, match=r"another process has taken this run over \(elsewhere, process 7\)"):
        first.append(b"{}\n")
    first.release()
    assert place.read(WRITER) == b'{"host": "elsewhere", "pid": 7, "id": "x"}'
