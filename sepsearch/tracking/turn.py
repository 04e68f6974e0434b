"""Lock among the processes of one run that write to MLflow."""

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


class Turn:
    """Lock for writing a search into MLflow: a search and `sepsearch.track` would both create a missing run.

    Args:
        folder: of the run, for the lock file; without it, or where files cannot be locked, nothing is locked.
    """

    def __init__(self, folder: Path | None):
        self._path = folder / ".mlflow.lock" if folder else None
        self._token = uuid.uuid4().hex.encode()
        self._depth = 0

    @contextlib.contextmanager
    def taken(self) -> Iterator[bool]:
        """Wait for the lock and hold it; returns whether no other process has held it since this one."""
        with contextlib.ExitStack() as stack:
            mine = self._depth > 0 or self._path is None or self._lock(self._path, stack)
            self._depth += 1
            try:
                yield mine
            finally:
                self._depth -= 1

    def _lock(self, path: Path, stack: contextlib.ExitStack) -> bool:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            stack.callback(os.close, file)
            fcntl.flock(file, fcntl.LOCK_EX)
            mine = os.pread(file, len(self._token), 0) == self._token
            os.pwrite(file, self._token, 0)
        except OSError:  # a folder that cannot be written, a file system without locks
            return True
        return mine
