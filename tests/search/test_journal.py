"""The journal: appended, read back, and what a crash leaves."""

import contextlib
import os
import resource
from types import SimpleNamespace

import pytest

from sepsearch.search.journal import Journal, read_journal, read_run
from sepsearch.search.run_lock import RunLock
from sepsearch.utils.errors import UserError

SEARCH = {
    **{key: {} for key in ("space", "settings", "versions", "dataset", "baselines", "caveats")},
    **dict.fromkeys(("name", "run", "reference"), "x"),
    "seconds": 1,
}


def test_events_are_read_back_in_order(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"event": "trial", "id": "t0000", "params": {"filters": 8}})
    journal.append({"event": "epoch", "id": "t0000", "ratio": 0.5})
    journal.close()
    events = list(read_journal(journal.path))
    assert [event["event"] for event in events] == ["trial", "epoch"]
    assert events[0]["params"] == {"filters": 8}


def test_a_number_that_is_none_becomes_null(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"event": "epoch", "ratio": float("nan"), "members": [{"val_loss": float("inf")}]})
    (event,) = read_journal(journal.path)
    assert event["ratio"] is None
    assert event["members"] == [{"val_loss": None}]


def test_an_event_is_on_the_disk_before_a_listener_hears_of_it(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    heard = []
    journal.listen(lambda event: heard.append((event["event"], len(list(read_journal(journal.path))))))
    journal.append({"event": "trial"})
    journal.append({"event": "epoch"})
    assert heard == [("trial", 1), ("epoch", 2)]


def test_a_last_line_cut_off_by_a_crash_is_passed_over(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"event": "trial", "id": "t0000"})
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
        journal.append({"event": "epoch", "ratio": ratio})
    journal.close()
    journal.path.write_bytes(b"".join(damage(journal.path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(UserError, match=rf"journal.jsonl:{line}: damaged line"):
        list(read_journal(journal.path))


def test_a_journal_is_gone_on_with_after_a_crash(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"event": "trial", "id": "t0000"})
    journal.close()
    with journal.path.open("a") as file:
        file.write('{"event": "epo')
    again = Journal(journal.path, resume=True)
    again.append({"event": "epoch", "id": "t0000"})
    assert [event["event"] for event in read_journal(journal.path)] == ["trial", "epoch"]


def test_a_journal_has_one_writer(tmp_path):
    Journal(tmp_path / "journal.jsonl")
    with pytest.raises(UserError, match="another process is at work on this run"):
        Journal(tmp_path / "journal.jsonl", resume=True)


def test_a_line_that_did_not_fit_on_the_disk_leaves_no_trace(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"event": "trial", "id": "t0000"})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + 20, limit[1]))
    try:
        with pytest.raises(UserError, match="cannot be written"):
            journal.append({"event": "epoch", "id": "t0000"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    journal.append({"event": "end", "state": "failed"})
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
        journal.append({"event": kind, **fields})
    with pytest.raises(UserError, match=problem):
        list(read_run(journal.path))


def test_a_journal_never_overwrites_another(tmp_path):
    Journal(tmp_path / "journal.jsonl").close()
    with pytest.raises(UserError, match="already there"):
        Journal(tmp_path / "journal.jsonl")


def test_a_full_disk_is_one_line(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._file)
    with pytest.raises(UserError, match="No space left on device: free some space"):
        journal.append({"event": "trial"})


def test_two_lines_that_were_made_one_are_found_although_their_checksum_fits(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for number in range(3):
        journal.append({"event": "trial", "id": f"t{number}", "params": {}})
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = lines[0].rpartition(b',"sum":')[0] + lines[1] + lines[2]
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"journal\.jsonl:1: not an event"):
        Journal(path, resume=True)
    assert path.read_bytes() == damaged


def begun(tmp_path, lines=2):
    journal = Journal(tmp_path / "journal.jsonl")
    for number in range(lines):
        journal.append({"event": "trial", "id": f"t{number:04d}", "params": {}})
    return journal


def kinds(path):
    return [event["event"] for event in read_journal(path)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[: len(line) // 2] + bytes(len(line) - len(line) // 2 - 1) + b"\n",
        lambda line: line[: len(line) // 2] + bytes(len(line) - len(line) // 2),
        lambda line: bytes(len(line) - 1) + b"\n",
        lambda line: line.replace(b"trial", b"triam"),
    ],
    ids=["half zeroed", "half zeroed with its end", "zeroed", "a bit flipped"],
)
def test_a_damaged_last_line_is_cut_off_with_a_notice(damage, tmp_path):
    journal = begun(tmp_path, lines=3)
    journal.close()
    lines = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(lines[0] + lines[1] + damage(lines[2]))
    assert kinds(journal.path) == ["trial", "trial"]
    again = Journal(journal.path, resume=True)
    assert "the last line was damaged or cut off by a crash: removed" in again.notice
    again.append({"event": "end", "state": "failed"})
    again.close()
    assert kinds(journal.path) == ["trial", "trial", "end"]


def test_a_damaged_only_line_is_no_journal_and_stays_as_it_is(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"a letter\n")
    with pytest.raises(UserError, match=r"journal\.jsonl:1: damaged line"):
        Journal(path, resume=True)
    assert path.read_bytes() == b"a letter\n"


@pytest.mark.parametrize("call", ["write", "fsync", "pread"])
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_an_interrupt_at_any_moment_of_an_append_leaves_whole_lines(call, late, tmp_path, monkeypatch):
    journal = begun(tmp_path)
    real, armed = getattr(os, call), [True]

    def interrupted(*arguments):
        if not armed:
            return real(*arguments)
        armed.clear()
        if late:
            real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, call, interrupted)
    with pytest.raises(KeyboardInterrupt):
        journal.append({"event": "epoch", "id": "t0000"})
    journal.append({"event": "end", "state": "interrupted"})
    journal.close()
    assert kinds(journal.path) == ["trial", "trial", "end"]


def test_a_journal_whose_last_line_cannot_be_removed_refuses_more(tmp_path, monkeypatch):
    journal = begun(tmp_path)

    def fail(*arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(UserError, match="Input/output error"):
        journal.append({"event": "epoch", "id": "t0000"})
    monkeypatch.undo()
    with pytest.raises(UserError, match="another process writes to this run, so this one stops"):
        journal.append({"event": "end", "state": "failed"})
    journal.close()
    assert kinds(journal.path) == ["trial", "trial", "epoch"]


def unlocked(path, resume=True):
    """A journal of a process that has been let in beside another, as where locks fail their purpose."""
    return Journal(path, resume=resume, lock=SimpleNamespace())


def test_of_two_writers_the_later_one_stops_and_nothing_is_damaged(tmp_path):
    first = begun(tmp_path)
    second = unlocked(first.path)
    second.append({"event": "resume", "units": {}, "changed": {}})
    for _ in range(2):
        with pytest.raises(UserError, match="another process writes to this run, so this one stops"):
            first.append({"event": "epoch", "id": "t0000"})
    second.append({"event": "end", "state": "finished"})
    assert kinds(first.path) == ["trial", "trial", "resume", "end"]


def test_of_two_writes_at_the_same_moment_the_first_stays(tmp_path, monkeypatch):
    first = begun(tmp_path)
    second = unlocked(first.path)
    real = os.write

    def meanwhile(file, data):
        monkeypatch.undo()
        second.append({"event": "resume", "units": {}, "changed": {}})
        return real(file, data)

    monkeypatch.setattr(os, "write", meanwhile)
    with pytest.raises(UserError, match="another process wrote to this run at the same moment"):
        first.append({"event": "epoch", "id": "t0000"})
    second.append({"event": "end", "state": "finished"})
    assert kinds(first.path) == ["trial", "trial", "resume", "end"]


def test_racing_writers_without_any_lock_leave_a_journal_that_reads_whole(tmp_path):
    first = begun(tmp_path)
    writers = [first, *(unlocked(first.path) for _ in range(3))]
    written = []
    for number in range(40):
        with contextlib.suppress(UserError):
            writers[number % 4].append({"event": "epoch", "id": "t0000", "epoch": number})
            written.append(number)
    read = [event["epoch"] for event in read_journal(first.path) if event["event"] == "epoch"]
    assert read == written
    assert len({number % 4 for number in written}) == 1


def test_a_new_journal_and_the_folder_that_holds_it_outlast_a_power_cut(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.readlink(f"/proc/self/fd/{file}")), real(file)))
    Journal(tmp_path / "runs" / "x" / "journal.jsonl")
    assert {str(tmp_path / "runs" / "x"), str(tmp_path / "runs")} <= set(synced)


def test_events_have_a_monotonic_time_that_no_clock_can_set(tmp_path, monkeypatch):
    wall, monotonic = iter([100.0, -86_300.0]), iter([5.0, 6.0, 8.0])
    clock = SimpleNamespace(time=lambda: next(wall), monotonic=lambda: next(monotonic))
    monkeypatch.setattr("sepsearch.search.journal.time", clock)
    events = list(read_journal(begun(tmp_path).path))
    assert [event["elapsed"] for event in events] == [1.0, 3.0]


def test_a_lock_that_was_given_outlasts_the_journal(tmp_path):
    path = tmp_path / "journal.jsonl"
    lock = RunLock(path)
    Journal(path, lock=lock).close()
    with pytest.raises(UserError, match="another process is at work"):
        Journal(path, resume=True)
    lock.release()
    Journal(path, resume=True).close()
