"""Work in forked processes that end without any clean-up, and what they answer."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

LIMIT = 900  # seconds until a process counts as hanging; on a quiet machine it takes about one

Answer = dict[str, Any]


def in_fork(work: Callable[[], Answer], answer: Path) -> Answer:
    """What `work` returns in a forked process; {"error": …} where it raises, hangs or is killed.

    Args:
        work: returns what JSON can hold, or calls `end`.
        answer: a file for what it returns.
    """
    pid = _fork(work, answer)
    _, status = os.waitpid(pid, 0)
    return _read(answer, status)


def in_forks(works: Sequence[tuple[Callable[[], Answer], Path]], jobs: int) -> Iterator[tuple[int, Answer]]:
    """The same for many, at most `jobs` at once: the number of each and its answer, as they end."""
    running: dict[int, int] = {}
    begun = 0
    while begun < len(works) or running:
        while begun < len(works) and len(running) < jobs:
            running[_fork(*works[begun], limit=4 * LIMIT)] = begun
            begun += 1
        pid, status = os.wait()
        if pid in running:
            number = running.pop(pid)
            yield number, _read(works[number][1], status)


def end(found: Answer, answer: Path) -> None:
    """End this process as a crash does: nothing is flushed, closed or cleaned up."""
    try:
        answer.write_text(json.dumps(found), encoding="utf-8")
    except BaseException as error:  # it must not go on as its parent
        answer.write_text(json.dumps({"error": f"no answer: {type(error).__name__}: {error}"}), encoding="utf-8")
    finally:
        os._exit(0)


def _fork(work: Callable[[], Answer], answer: Path, limit: int = LIMIT) -> int:
    if (threads := threading.active_count()) > 1:
        raise RuntimeError(f"{threads} threads before a fork, expected 1: a lock of theirs could stay locked in it")
    answer.unlink(missing_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(limit)
        found = work()
    except BaseException as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    end(found, answer)
    raise AssertionError  # never: the process has ended


def _read(answer: Path, status: int) -> Answer:
    if not answer.exists():
        code = os.waitstatus_to_exitcode(status)
        return {"error": "it hangs" if code == -signal.SIGALRM else f"the process ended with {code}"}
    found: Answer = json.loads(answer.read_text(encoding="utf-8"))
    answer.unlink()
    return found
