"""Exclusive lock of a run: at most one process at a time writes its journal, on file systems with and without flock."""

import contextlib
import fcntl
import json
import os
import threading
import time
from pathlib import Path

from sepsearch.search.process_identity import ProcessIdentity, current_process, parse_identity
from sepsearch.utils.errors import UserError, no_space
from sepsearch.utils.files import make_folder

LEASE_SECONDS = 120.0  # after its last renewal a lock of another machine counts as abandoned
RENEWAL_SECONDS = 30.0
SETTLING = 1.0  # seconds; of processes that write their name at the same moment the last one stays
TRIES = 10


def lock_file(journal: Path) -> Path:
    """The file beside a journal that its lock is."""
    return journal.with_name(f".{journal.name}.lock")


def seems_locked(journal: Path) -> bool:
    """Whether the lock of a journal was renewed lately, by this machine's clock: its process is at work."""
    with contextlib.suppress(OSError):
        return time.time() - lock_file(journal).stat().st_mtime < LEASE_SECONDS
    return False


def is_at_work(journal: Path) -> bool:
    """Whether the process that holds the lock of a journal seems to be at work; exact on its own machine."""
    try:
        owner = parse_identity(lock_file(journal).read_text())
    except OSError:
        return False
    return seems_locked(journal) and not owner.has_ended()


class RunLock:
    """Exclusive lock of the run with this journal, held from construction to `release`.

    A file beside the journal (`.journal.jsonl.lock`) is locked by flock(2) and holds its owner's identity. On one
    machine flock alone decides: it ends with its process. For machines that share a folder, and on file systems without
    flock, the owner also renews the file's modification time; a lock that was not renewed for LEASE_SECONDS, by the
    file system's own clock, is abandoned.

    Args:
        journal: path of the journal; a missing folder is made, and removed at `release` if it is still empty.

    Raises:
        UserError: another process holds the lock, or the folder cannot be written.
    """

    def __init__(self, journal: Path):
        self._path = lock_file(journal)
        self._owner = current_process()
        missing = [folder for folder in (journal.parent, *journal.parent.parents) if not folder.exists()]
        try:
            make_folder(journal.parent)
            self._file = self._acquire()
        except OSError as error:
            raise no_space(error, journal.parent) from error
        self._made = missing
        self._released = threading.Event()
        threading.Thread(target=self._renew, name="run lock", daemon=True).start()

    def _acquire(self) -> int:
        for _ in range(TRIES):
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if self._take(file):
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)  # its last owner removed it meanwhile
        raise self._held(None)

    def _take(self, file: int) -> bool:
        """Become the owner; False if the file is no longer the one at the lock's path."""
        locked = self._flock(file)
        try:
            if not os.path.samestat(os.fstat(file), os.stat(self._path)):
                return False
        except FileNotFoundError:
            return False
        self._require_free(file, locked)
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(self._owner.as_dict()).encode(), 0)
        if not locked:
            time.sleep(SETTLING)
            if (other := self._written()) and other.token != self._owner.token:
                raise self._held(other)
        return True

    def _flock(self, file: int) -> bool:
        """Whether the file system locks; raises `UserError` if another process holds the lock."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise self._held(self._written()) from error
        except OSError:
            return False
        return True

    def _require_free(self, file: int, locked: bool) -> None:
        """Raise `UserError` if the owner that the file names may still be at work."""
        other = self._written()
        if other is None or other.has_ended() or (locked and other.boot and other.boot == self._owner.boot):
            return
        age = self._age(file)
        if age < LEASE_SECONDS:
            raise self._held(other, f", last sign of life {age:.0f} s ago", LEASE_SECONDS - age)

    def _written(self) -> ProcessIdentity | None:
        """The owner that the lock file names; None if it names none, as after a release."""
        try:
            text = self._path.read_text()
        except OSError:
            return None
        return parse_identity(text) if text else None

    def _held(self, other: ProcessIdentity | None, more: str = "", seconds: float = 0.0) -> UserError:
        again = f"; if it is gone, try again in {seconds:.0f} s" if seconds else ""
        who = f" ({other}{more})" if other else ""
        return UserError(
            f"{self._path.parent}: another process is at work on this run{who}: wait for it or stop it{again}"
        )

    def _age(self, file: int) -> float:
        """Seconds since the last renewal by the clock of the file system, which may be another machine's."""
        probe = self._path.with_name(f"{self._path.name}.{self._owner.token}")
        probe.touch()
        try:
            return max(0.0, probe.stat().st_mtime - os.fstat(file).st_mtime)
        finally:
            probe.unlink()

    def _renew(self) -> None:
        while not self._released.wait(RENEWAL_SECONDS):
            with contextlib.suppress(OSError):
                if (other := self._written()) and other.token == self._owner.token:
                    os.utime(self._path)

    def release(self) -> None:
        """Let other processes take the lock; calling it again has no effect."""
        if self._released.is_set():
            return
        self._released.set()
        with contextlib.suppress(OSError):
            if (other := self._written()) and other.token == self._owner.token:
                self._path.unlink()
        os.close(self._file)
        for folder in self._made:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
