"""A journal as objects: every line once and in order, with two writers, lost answers, outages, and older journals."""

import json
import os
import threading

import pytest

from sepsearch.search import remote_journal
from sepsearch.search.journal import Journal, read_journal
from sepsearch.search.remote_journal import WRITER, RemoteJournal
from sepsearch.utils.errors import UserError
from sepsearch.utils.storage import open_storage


@pytest.fixture
def place(tmp_path):
    """A folder: for the remote journal it is a storage like any other."""
    return open_storage(tmp_path / "there") / "journal"


def lines(place, path):
    """What a machine that has nothing reads."""
    RemoteJournal(place).fetch(path)
    return path.read_bytes()


def objects(place):
    return [name for name in place.names() if name.endswith(".jsonl")]


def failing(monkeypatch, place, method, refused):
    """Calls of a method of places raise where `refused` says so, of the name."""
    before = getattr(type(place), method)

    def act(self, name, *rest):
        if refused(name):
            raise UserError("the place does not answer")
        return before(self, name, *rest)

    monkeypatch.setattr(type(place), method, act)


def test_a_line_is_there_before_anyone_hears_of_the_event(place, tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", remote=RemoteJournal(place))
    heard = []
    journal.listen(lambda event: heard.append(len(objects(place))))
    journal.append({"event": "end", "state": "finished"})
    journal.append({"event": "end", "state": "finished"})
    assert heard == [1, 2]


@pytest.mark.parametrize("count", [0, 1, 4, 5, 9, 12])
def test_a_reader_finds_every_line_once_however_they_are_gathered(place, tmp_path, monkeypatch, count):
    monkeypatch.setattr(remote_journal, "GATHERED", 4)
    journal = Journal(tmp_path / "journal.jsonl", remote=RemoteJournal(place))
    for number in range(count):
        journal.append({"event": "end", "state": str(number)})
    assert lines(place, tmp_path / "copy") == (tmp_path / "journal.jsonl").read_bytes()
    assert len(objects(place)) == count + count // 4


def test_a_reader_that_follows_adds_what_is_new(place, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_journal, "GATHERED", 3)
    journal = Journal(tmp_path / "journal.jsonl", remote=RemoteJournal(place))
    reader = RemoteJournal(place)
    for number in range(10):
        journal.append({"event": "end", "state": str(number)})
        reader.fetch(tmp_path / "copy")
        assert [e["state"] for e in read_journal(tmp_path / "copy")] == [str(n) for n in range(number + 1)]


def old_journal(place, journal, gathered):
    """A journal as earlier versions wrote it: gathered lines in an object named by the first, the others removed."""
    content = journal.read_bytes().splitlines(keepends=True)
    place.remove_all()
    first = 0
    for size in gathered:
        place.write(f"{first:09d}.jsonl", b"".join(content[first : first + size]))
        first += size
    for number in range(first, len(content)):
        place.write(f"{number:09d}.jsonl", content[number])


@pytest.mark.parametrize("gathered", [(), (4, 4), (4, 3), (9,)])
def test_a_journal_of_an_earlier_version_is_read_and_gone_on_with(place, tmp_path, gathered):
    journal = Journal(tmp_path / "journal.jsonl")
    for number in range(9):
        journal.append({"event": "end", "state": str(number)})
    journal.close()
    old_journal(place, journal.path, gathered)
    there = RemoteJournal(place)
    there.fetch(tmp_path / "copy.jsonl")
    assert (tmp_path / "copy.jsonl").read_bytes() == journal.path.read_bytes()
    resumed = Journal(tmp_path / "copy.jsonl", resume=True, remote=there)
    resumed.append({"event": "end", "state": "9"})
    assert lines(place, tmp_path / "again") == (tmp_path / "copy.jsonl").read_bytes()
    assert [event["state"] for event in read_journal(tmp_path / "again")] == [str(number) for number in range(10)]


def test_a_reader_that_follows_a_writer_of_an_earlier_version_finds_what_was_gathered_meanwhile(place):
    for number in range(3):
        place.write(f"{number:09d}.jsonl", b"%d\n" % number)
    reader = RemoteJournal(place)
    assert reader.read_all() == [b"0\n", b"1\n", b"2\n"]
    place.write("000000000.jsonl", b"0\n1\n2\n3\n")
    place.remove("000000001.jsonl", "000000002.jsonl")
    place.write("000000004.jsonl", b"4\n")
    assert reader.lines_from(3) == [b"3\n", b"4\n"]


def test_a_line_that_is_in_two_objects_counts_once(place, tmp_path):
    """So it is where a process of an earlier version died while it gathered."""
    for number in range(3):
        place.write(f"{number:09d}.jsonl", b"%d\n" % number)
    place.write("000000000.jsonl", b"0\n1\n2\n")
    assert lines(place, tmp_path / "copy") == b"0\n1\n2\n"


def test_names_that_are_no_lines_are_passed_over(place, tmp_path):
    for name in ("000000000.jsonl", "writer.json", "x.jsonl", "gathered/x.jsonl", "gathered/a/000000000.jsonl"):
        place.write(name, b"0\n")
    assert lines(place, tmp_path / "copy") == b"0\n"


def test_lines_are_read_though_only_a_gathered_object_holds_them(place, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_journal, "GATHERED", 4)
    writer, reader = RemoteJournal(place), RemoteJournal(place)
    for number in range(3):
        writer.append(b"%d\n" % number)
    reader.read_all()
    for number in range(3, 6):
        writer.append(b"%d\n" % number)
    place.remove("000000003.jsonl")
    assert reader.lines_from(3) == [b"3\n", b"4\n", b"5\n"]


def test_a_missing_object_is_told_with_its_line(place, tmp_path):
    for number in (0, 1, 3):
        place.write(f"{number:09d}.jsonl", b"%d\n" % number)
    with pytest.raises(UserError, match="line 3 of the journal is missing"):
        lines(place, tmp_path / "copy")


def test_a_copy_loses_what_never_reached_the_place(place, tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", remote=RemoteJournal(place))
    journal.append({"event": "end", "state": "known"})
    journal.close()
    reached = (tmp_path / "journal.jsonl").read_bytes()
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"event":"end","sum":"00000000"}\n')
    RemoteJournal(place).fetch(tmp_path / "journal.jsonl")
    assert (tmp_path / "journal.jsonl").read_bytes() == reached


def test_another_machine_goes_on_where_the_first_one_ended(place, tmp_path):
    first = Journal(tmp_path / "first.jsonl", remote=RemoteJournal(place))
    first.append({"event": "end", "state": "one"})
    first.close()
    there = RemoteJournal(place)
    there.fetch(tmp_path / "second.jsonl")
    second = Journal(tmp_path / "second.jsonl", resume=True, remote=there)
    second.append({"event": "end", "state": "two"})
    lines(place, tmp_path / "copy")
    assert [event["state"] for event in read_journal(tmp_path / "copy")] == ["one", "two"]


def test_an_event_that_cannot_reach_the_place_is_not_in_the_journal_either(place, tmp_path, monkeypatch):
    journal = Journal(tmp_path / "journal.jsonl", remote=RemoteJournal(place))
    journal.append({"event": "end", "state": "one"})
    heard = []
    journal.listen(heard.append)

    with monkeypatch.context() as patch:
        failing(patch, place, "create", lambda name: True)
        with pytest.raises(UserError, match="does not answer"):
            journal.append({"event": "end", "state": "two"})
    journal.append({"event": "end", "state": "three"})
    assert [event["state"] for event in heard] == ["three"]
    assert [event["state"] for event in read_journal(tmp_path / "journal.jsonl")] == ["one", "three"]
    assert lines(place, tmp_path / "copy") == (tmp_path / "journal.jsonl").read_bytes()


@pytest.mark.parametrize("refused", ["gathered/", "000000001", "writer"])
def test_an_outage_while_lines_are_gathered_loses_no_line_and_is_made_up_for_later(
    place, tmp_path, monkeypatch, refused
):
    monkeypatch.setattr(remote_journal, "GATHERED", 4)
    journal = Journal(tmp_path / "journal.jsonl", remote=RemoteJournal(place))
    with monkeypatch.context() as patch:
        failing(patch, place, "write", lambda name: refused in name)
        failing(patch, place, "remove", lambda name: True)
        for number in range(5):
            journal.append({"event": "end", "state": str(number)})
        assert lines(place, tmp_path / "copy") == journal.path.read_bytes()
    for number in range(5, 9):
        journal.append({"event": "end", "state": str(number)})
    assert lines(place, tmp_path / "again") == journal.path.read_bytes()
    assert len(list(read_journal(tmp_path / "again"))) == 9
    assert place.names(after="gathered")[0] == "gathered/000000000.jsonl"


def test_letting_go_raises_nothing_while_the_place_is_away(place, monkeypatch):
    mine = RemoteJournal(place)
    mine.claim()
    mine.append(b"0\n")
    for method in ("read", "write", "remove", "create", "modified"):
        failing(monkeypatch, place, method, lambda name: True)
    mine.release()
    assert mine._renewal is None


def test_a_writer_that_let_go_leaves_few_objects_to_read(place, monkeypatch):
    mine = RemoteJournal(place)
    mine.claim()
    for number in range(5):
        mine.append(b"%d\n" % number)
    mine.release()
    asked = []
    failing(monkeypatch, place, "read", lambda name: asked.append(name))
    assert len(RemoteJournal(place).read_all()) == 5
    assert asked == ["gathered/000000000.jsonl"]


def test_of_two_writers_that_race_exactly_one_has_each_line_and_the_other_stops(place, monkeypatch):
    """Both believe to be the run's writer: a claim is no more than a sign."""
    monkeypatch.setattr(remote_journal, "ALIVE_SECONDS", 0.0)
    writers, written, stopped = [RemoteJournal(place), RemoteJournal(place)], {}, []
    for writer in writers:
        writer.claim()
    both = threading.Barrier(2)

    def write(number):
        both.wait()
        try:
            for line in range(100):
                writers[number].append(b"%d of %d\n" % (line, number))
                written.setdefault(line, []).append(number)
        except UserError as error:
            stopped.append(str(error))

    threads = [threading.Thread(target=write, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.release()
    assert len(stopped) == 1
    assert "has written this line of the journal, so it has taken this run over" in stopped[0]
    assert sorted(written) == list(range(100))
    assert all(len(who) == 1 for who in written.values())
    assert RemoteJournal(place).read_all() == [b"%d of %d\n" % (line, written[line][0]) for line in range(100)]


def test_a_writer_that_was_stopped_for_hours_cannot_replace_a_line_that_was_gathered_meanwhile(place, monkeypatch):
    monkeypatch.setattr(remote_journal, "GATHERED", 4)
    slow, fast = RemoteJournal(place), RemoteJournal(place)
    slow.append(b"0\n")
    fast.read_all()
    for number in range(1, 9):
        fast.append(b"%d\n" % number)
    with pytest.raises(UserError, match="has taken this run over"):
        slow.append(b"other\n")
    assert RemoteJournal(place).read_all() == [b"%d\n" % number for number in range(9)]


def test_a_line_whose_answer_was_lost_counts_as_written(place):
    """The client tries again and finds the line there: its own."""
    mine = RemoteJournal(place)
    place.write("000000000.jsonl", b"mine\n")
    mine.append(b"mine\n")
    mine.append(b"next\n")
    assert RemoteJournal(place).read_all() == [b"mine\n", b"next\n"]


def test_an_event_that_arrives_after_it_was_given_up_is_told(place, monkeypatch):
    mine = RemoteJournal(place)
    with monkeypatch.context() as patch:
        failing(patch, place, "create", lambda name: True)
        with pytest.raises(UserError, match="does not answer"):
            mine.append(b"late\n")
    place.write("000000000.jsonl", b"late\n")
    with pytest.raises(UserError, match=r"reached the storage after all.*go on with --resume: this process stops"):
        mine.append(b"next\n")
    assert RemoteJournal(place).read_all() == [b"late\n"]


def test_a_second_writer_is_refused_and_told_who_the_first_is(place):
    first = RemoteJournal(place)
    first.claim()
    with pytest.raises(UserError, match=rf"another process is at work on this run \(.*, process {os.getpid()}"):
        RemoteJournal(place).claim()
    first.release()
    assert place.names() == []


def test_a_writer_that_let_go_leaves_the_run_to_others(place):
    first = RemoteJournal(place)
    first.claim()
    first.release()
    assert WRITER not in place.names()
    second = RemoteJournal(place)
    second.claim()
    second.release()


def test_a_writer_of_this_machine_that_has_died_is_no_hindrance(place):
    place.write(WRITER, json.dumps({**RemoteJournal(place)._identity.as_dict(), "pid": 999999999}).encode())
    mine = RemoteJournal(place)
    mine.claim()
    assert json.loads(place.read(WRITER))["pid"] == os.getpid()
    mine.release()


def test_a_writer_in_another_container_of_the_same_host_name_keeps_its_run(place):
    """Its process number is unknown here: that says nothing."""
    other = {"host": os.uname().nodename, "pid": 999999999, "id": "x", "boot": "other", "namespace": "pid:[1]"}
    place.write(WRITER, json.dumps(other).encode())
    with pytest.raises(
        UserError, match=r"another process is at work on this run \(.*, process 999999999, last sign of life"
    ):
        RemoteJournal(place).claim()
    assert json.loads(place.read(WRITER)) == other


@pytest.mark.parametrize("content", [b'{"host": "elsewhere", "pid": 1, "id": "x"}', b"\0", b"[]", b"{}"])
def test_a_name_that_was_not_renewed_for_long_or_is_none_does_not_hold_the_run(place, monkeypatch, content):
    place.write(WRITER, content)
    monkeypatch.setattr(remote_journal, "ALIVE_SECONDS", 0.0)
    mine = RemoteJournal(place)
    mine.claim()
    assert json.loads(place.read(WRITER))["pid"] == os.getpid()
    mine.release()


def test_a_writers_name_is_renewed_until_another_process_has_taken_its_place(place, monkeypatch):
    monkeypatch.setattr(remote_journal, "RENEWAL_SECONDS", 0.01)
    mine = RemoteJournal(place)
    mine.claim()
    signed = threading.Event()
    monkeypatch.setattr(mine, "_sign", signed.set)
    assert signed.wait(30)
    place.write(WRITER, b'{"host": "elsewhere", "pid": 7, "id": "x"}')
    mine.release()
    assert json.loads(place.read(WRITER))["host"] == "elsewhere"
