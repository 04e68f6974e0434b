"""One writer of a run: on one machine, between machines, and where the file system has no locks."""

import dataclasses
import fcntl
import json
import os
import subprocess
import sys

import pytest

from sepsearch.search import run_lock
from sepsearch.search.process_identity import current_process
from sepsearch.search.run_lock import RunLock
from sepsearch.utils.errors import UserError

HOLD = """
import sys, time
from pathlib import Path
from sepsearch.search.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "runs" / "x" / "journal.jsonl"


def lock_file(journal):
    return journal.with_name(".journal.jsonl.lock")


def held_elsewhere(journal, age=0.0, **changes):
    """The lock of a live process of another machine, renewed `age` seconds ago."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    other = dataclasses.replace(current_process(), host="elsewhere", pid=7, boot="another", **changes)
    lock_file(journal).write_text(json.dumps(other.as_dict()))
    then = lock_file(journal).stat().st_mtime - age
    os.utime(lock_file(journal), (then, then))


@pytest.fixture
def without_flock(monkeypatch):
    def refuse(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(run_lock, "SETTLING", 0.0)


def test_a_second_process_is_refused_until_the_first_releases(journal):
    first = RunLock(journal)
    with pytest.raises(UserError, match=rf"another process is at work on this run \(.*, process {os.getpid()}\)"):
        RunLock(journal)
    first.release()
    RunLock(journal).release()


def test_a_released_lock_leaves_no_file_and_no_empty_folder(journal, tmp_path):
    RunLock(journal).release()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_stays_after_the_release(journal):
    lock = RunLock(journal)
    journal.write_text("")
    lock.release()
    assert list(journal.parent.iterdir()) == [journal]


def test_the_lock_of_a_killed_process_is_free_at_once(journal):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(journal)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match="another process is at work"):
        RunLock(journal)
    process.kill()
    process.wait()
    assert lock_file(journal).exists()
    RunLock(journal).release()


def test_a_live_process_of_another_machine_holds_its_lock(journal):
    held_elsewhere(journal)
    with pytest.raises(UserError, match=r"elsewhere, process 7, last sign of life \d s ago.*try again in 1\d\d s"):
        RunLock(journal)


def test_a_process_of_equal_host_name_in_another_container_holds_its_lock(journal):
    held_elsewhere(journal, namespace="pid:[1]")
    lock_file(journal).write_text(lock_file(journal).read_text().replace("elsewhere", os.uname().nodename))
    with pytest.raises(UserError, match="another process is at work"):
        RunLock(journal)


def test_a_lock_that_another_machine_no_longer_renews_is_abandoned(journal):
    held_elsewhere(journal, age=run_lock.LEASE_SECONDS + 1)
    lock = RunLock(journal)
    assert json.loads(lock_file(journal).read_text())["pid"] == os.getpid()
    lock.release()


def test_a_damaged_lock_file_counts_as_held_until_its_time_is_over(journal):
    held_elsewhere(journal)
    lock_file(journal).write_text('{"host": "el')
    with pytest.raises(UserError, match="another process is at work on this run"):
        RunLock(journal)


def test_without_flock_the_lock_file_decides(journal, without_flock):
    first = RunLock(journal)
    with pytest.raises(UserError, match="another process is at work on this run"):
        RunLock(journal)
    first.release()
    RunLock(journal).release()


def test_without_flock_of_two_at_the_same_moment_the_last_stays(journal, without_flock, monkeypatch):
    def meanwhile(seconds):
        monkeypatch.setattr(run_lock.time, "sleep", lambda seconds: None)
        held_elsewhere(journal)

    monkeypatch.setattr(run_lock.time, "sleep", meanwhile)
    with pytest.raises(UserError, match=r"another process is at work on this run \(elsewhere"):
        RunLock(journal)
    assert json.loads(lock_file(journal).read_text())["host"] == "elsewhere"


def test_a_lock_is_renewed_as_long_as_it_is_held(journal, monkeypatch):
    monkeypatch.setattr(run_lock, "RENEWAL_SECONDS", 0.01)
    lock = RunLock(journal)
    os.utime(lock_file(journal), (0, 0))
    for _ in range(3000):
        if lock_file(journal).stat().st_mtime > 1:
            break
        lock._released.wait(0.01)
    assert lock_file(journal).stat().st_mtime > 1
    lock.release()
