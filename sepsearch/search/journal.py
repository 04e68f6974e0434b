"""The journal: an append-only file of events, one JSON object a line, from which a run's state is rebuilt.

Every event has `event` (its kind), `time` (seconds since 1970, for people) and `elapsed` (seconds on a monotonic clock
since its process opened the journal, for durations: clocks of machines are set). A line ends with `sum`, a checksum of
itself and of all lines before it, so that a damaged, lost, doubled or displaced line is found. `search.events` has the
kinds of events.
"""

import contextlib
import errno
import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sepsearch.search.event_checks import event_problem
from sepsearch.search.events import Event
from sepsearch.search.run_lock import RunLock
from sepsearch.utils.errors import UserError, no_space, one_line
from sepsearch.utils.files import sync_folder

if TYPE_CHECKING:
    from sepsearch.search.remote_journal import RemoteJournal


class Journal:
    """Append-only event log: an event is on the disk before any listener gets it.

    A run has one writer: the journal holds the run's lock. Where a lock fails its purpose (file systems without locks,
    a process that was stopped for long), a file that has grown by somebody else's line ends the later writer.

    Args:
        path: a file that does not exist yet or, to go on with one, that does.
        resume: which of the two. A last line that is torn or damaged is cut off; `notice` is then a line about it.
        remote: gets every line, too, before any listener does.
        lock: of the run; taken, and released by `close`, if None.

    Raises:
        UserError: the file exists or does not, is damaged, another process writes to it, or it cannot be written
            (then and at every event).
    """

    def __init__(
        self, path: Path, resume: bool = False, remote: "RemoteJournal | None" = None, lock: "RunLock | None" = None
    ):
        self.path, self.notice = path, ""
        self._listeners: list[Callable[[Event], None]] = []
        self._mirror, self._own_lock = remote, None if lock else RunLock(path)
        self._end = _End()
        self._opened = time.monotonic()
        try:
            self._file = self._open(resume)
            try:
                if resume:
                    self._go_on()
            except BaseException:
                os.close(self._file)
                raise
        except BaseException:
            self._unlock()
            raise

    def _open(self, resume: bool) -> int:
        flags = os.O_RDWR | os.O_APPEND | (0 if resume else os.O_CREAT | os.O_EXCL)
        try:
            file = os.open(self.path, flags, 0o644)
            if not resume:
                sync_folder(self.path.parent)  # the file's name must outlast a power cut as its lines do
        except FileExistsError as error:
            raise UserError(f"{self.path}: a journal is already there, expected none: choose another --name") from error
        except OSError as error:
            raise no_space(error, self.path) from error
        return file

    def _go_on(self) -> None:
        for _, checksum, size in _lines(self.path):
            self._end = _End(size, checksum)
        if (left := os.fstat(self._file).st_size - self._end.size) > 0:
            self.notice = f"{self.path}: the last line was damaged or cut off by a crash: removed {left} bytes"
            os.ftruncate(self._file, self._end.size)
            os.fsync(self._file)

    @property
    def begun(self) -> bool:
        """Whether it has an event."""
        return self._end.size > 0

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with every event from now on."""
        self._listeners.append(listener)

    def append(self, event: Event) -> None:
        """Write one event with its time; it survives a crash of the machine once this returns.

        After any interruption (a full disk, Ctrl-C) the file ends with a whole line: this one or the one before.
        """
        clock = {"time": time.time(), "elapsed": time.monotonic() - self._opened}
        timed: Any = {"event": event["event"], **clock, **event}
        body = json.dumps(_plain(timed), allow_nan=False, separators=(",", ":"))[:-1].encode()
        before, checksum = self._end, zlib.crc32(body, self._end.checksum)
        line = body + b',"sum":"%08x"}\n' % checksum
        self._require_own_end()
        try:
            # One write per line: a line is there as a whole, or was cut off by a crash and is passed over when read.
            if os.write(self._file, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
            self._require_own_line(line)
            if self._mirror is not None:
                self._mirror.append(line)
            self._end = _End(before.size + len(line), checksum)  # one assignment: an exception finds all of it or none
        except BaseException as error:
            if self._end is before:
                self._cut_back(line)
            raise (no_space(error, self.path) if isinstance(error, OSError) else error) from error
        for listener in self._listeners:
            listener(timed)

    def _require_own_end(self) -> None:
        """Raise `UserError` if the file does not end where this process has left it."""
        if (size := os.fstat(self._file).st_size) != self._end.size:
            raise UserError(
                f"{self.path}: has {size} bytes, expected the {self._end.size} that this process has written:"
                " another process writes to this run, so this one stops: go on with --resume when the other has ended"
            )

    def _require_own_line(self, line: bytes) -> None:
        """Raise `UserError` if another process wrote between the check of the size and the write."""
        if os.pread(self._file, len(line), self._end.size) != line:
            raise UserError(
                f"{self.path}: another process wrote to this run at the same moment, so this one stops:"
                " go on with --resume when the other has ended"
            )

    def _cut_back(self, line: bytes) -> None:
        """Remove what was written of a line, and nothing else; where that fails, `append` refuses from then on."""
        with contextlib.suppress(OSError):
            written = os.pread(self._file, 2 * len(line) + 2**16, self._end.size)
            if line.startswith(written):
                os.ftruncate(self._file, self._end.size)
            elif written.endswith(line):  # behind another process's line
                os.ftruncate(self._file, self._end.size + len(written) - len(line))
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file; others may write to it from now on, unless the lock was given from outside."""
        os.close(self._file)
        self._unlock()

    def _unlock(self) -> None:
        if self._own_lock is not None:
            self._own_lock.release()


@dataclass(frozen=True)
class _End:
    """Size in bytes and checksum of a journal up to its last whole line."""

    size: int = 0
    checksum: int = 0


def _plain(value: Any) -> Any:
    """JSON has no NaN or infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a journal in order, without validation; a last line that was cut off by a crash is passed over.

    Raises:
        UserError: the file cannot be read, or a line is not what was written there.
    """
    for event, _, _ in _lines(path):
        yield event


def _event(line: bytes) -> dict[str, Any] | None:
    """The event of a line; None if it is none. Two lines that were made one can still fit their checksum."""
    try:
        event = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def first_event(lines: Sequence[bytes]) -> dict[str, Any]:
    """The first event of a journal's lines; empty if there is none."""
    return (_event(lines[0]) if lines else None) or {}


def _refuse(constant: str) -> float:
    """JSON has no NaN or infinity, and `append` writes none."""
    raise ValueError(constant)


def read_run(path: Path) -> Iterator[Event]:
    """The events of a whole run, which begin with its `search`: every one complete, and none of an unknown job.

    Raises:
        UserError: as `read_journal`; also for a journal that no run can have written.
    """
    return Follower().read(path)


class Follower:
    """Reads a run's journal while it is written: every call of `read` goes on where the last one came to."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._sum = self._size = self._number = 0

    def read(self, path: Path) -> Iterator[Event]:
        """The events since the last call, to the last whole line of the file; each is checked as by `read_run`.

        Args:
            path: of the journal; another one at every call, if only what was read so far is the same in it.
        """
        for event, checksum, size in _lines(path, self._sum, self._size, self._number):
            self._sum, self._size, self._number = checksum, size, self._number + 1
            if problem := event_problem(event, self._known):
                raise UserError(f"{path}:{self._number}: {one_line(problem)}: restore the file")
            yield cast(Event, event)


def _lines(path: Path, checksum: int = 0, size: int = 0, number: int = 0) -> Iterator[tuple[dict[str, Any], int, int]]:
    """The event of every whole line with its checksum and the size of the file up to its end.

    The first `size` bytes, which are `number` lines with this checksum, are passed over.
    """
    try:
        with path.open("rb") as file:
            if size > file.seek(0, os.SEEK_END):
                raise UserError(f"{path}: shorter than it was, expected that it only grows: restore the file")
            file.seek(size)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # cut off by a crash
                number += 1
                body, _, tail = line.rpartition(b',"sum":"')
                checksum = zlib.crc32(body, checksum)
                if not body or tail != b'%08x"}\n' % checksum:
                    if number > 1 and not file.read(1):
                        return  # nothing follows: the last write before a crash did not reach the disk as it was
                    raise UserError(
                        f"{path}:{number}: damaged line, expected what was written there (its checksum does not fit):"
                        f" restore the file, or keep its first {number - 1} lines and resume from there"
                    )
                event = _event(line)
                if event is None:
                    expected = "expected a JSON object with its kind"
                    raise UserError(f"{path}:{number}: not an event, {expected}: restore the file")
                size += len(line)
                yield event, checksum, size
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}: is the run's name right?") from error
