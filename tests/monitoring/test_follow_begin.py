"""`sepsearch.watch` of a run that gets ready: it has a lock and no journal yet."""

import os
import threading
import time
from io import StringIO

from sepsearch.monitoring.follow import wait_for_begin
from sepsearch.runs.run_folder import JOURNAL
from sepsearch.search.run_lock import LEASE_SECONDS, RunLock, lock_file
from sepsearch.utils.terminal_console import LiteralConsole


def console(terminal: bool) -> LiteralConsole:
    return LiteralConsole(file=StringIO(), width=160, force_terminal=terminal, legacy_windows=False)


def test_without_a_terminal_a_run_that_gets_ready_is_a_line(tmp_path):
    lock = RunLock(tmp_path / "x" / JOURNAL)
    out = console(terminal=False)
    assert not wait_for_begin(tmp_path / "x", out, 0.01, once=False)
    lock.release()
    assert out.file.getvalue().startswith("x gets ready: ")


def test_a_terminal_waits_until_the_journal_is_there(tmp_path):
    lock = RunLock(tmp_path / "x" / JOURNAL)
    began = threading.Timer(0.5, (tmp_path / "x" / JOURNAL).touch)
    begin = time.monotonic()
    began.start()
    assert wait_for_begin(tmp_path / "x", console(terminal=True), 0.01, once=False)
    assert time.monotonic() - begin >= 0.5
    lock.release()


def test_a_run_without_a_lock_is_not_waited_for(tmp_path):
    assert wait_for_begin(tmp_path / "x", console(terminal=True), 0.01, once=False)


def test_a_lock_that_was_not_renewed_is_of_a_process_that_is_gone(tmp_path):
    (tmp_path / "x").mkdir()
    path = lock_file(tmp_path / "x" / JOURNAL)
    path.touch()
    old = time.time() - LEASE_SECONDS - 1
    os.utime(path, (old, old))
    assert wait_for_begin(tmp_path / "x", console(terminal=True), 0.01, once=False)
