"""The kinds of crash, and the process that meets one."""

import dataclasses
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from disk_operations import Disk
from durable_files import KEPT, UNDONE, write_files
from operation import GROWING, Operation

MODES = {
    "death": "the process ends before the operation",
    "torn": "the process ends when half of a write is done",
    UNDONE: "power cut: content that was not fsynced is lost, and names in folders that were not are as before",
    KEPT: "power cut: content that was not fsynced is lost, all names are kept",
    "fault": "the operation fails once, for want of space or by an input/output error; of a write half is done",
    "full": "the disk is full from the operation on, until the process ends; of a write half is done",
    "stop": "Ctrl-C during the operation",
    "abort": "Ctrl-C twice during the operation",
    "twice": "the process ends before the operation, and the one that resumes ends at a later one, too",
}
DEATHS = ("death", "torn", UNDONE, KEPT)  # all that follows depends on the files that are left alone
RANDOM = re.compile(r"(\.(?:partial-|preflight-|[\w.-]+\.))[a-z0-9_]{8}(?=$|[/. ])")  # names that tempfile draws


class Crash:
    """One crash of a process: `before` and `after` are what `Disk` calls.

    Args:
        mode: of `MODES`, without "twice".
        number: of the operation.
        die: ends this process; gets the operation that was met.
    """

    def __init__(self, mode: str, number: int, die: Callable[[Operation], None]):
        self.mode, self.number, self._die = mode, number, die
        self.met: Operation | None = None

    def before(self, disk: Disk, operation: Operation) -> int | None:
        """Die, raise, or say how much of a write is done; see `Disk`."""
        if operation.number < self.number:
            return None
        if operation.number > self.number:
            if self._fails_later(operation):
                raise operation.error()
            return None
        self.met = operation
        if self.mode in ("death", UNDONE, KEPT):
            self._end(disk)
        partial = operation.kind == "write" and operation.size > 1
        if partial and self.mode in ("torn", "fault", "full"):
            return operation.size // 2
        if self.mode == "fault" or (self.mode == "full" and operation.kind in GROWING):
            raise operation.error()
        return None

    def _fails_later(self, operation: Operation) -> bool:
        """Whether an operation after that of the crash fails, too."""
        if self.mode == "full":
            return operation.kind in GROWING
        # What wrote half of its bytes tries the other half next, and gets the error then.
        met = self.met
        rest = met is not None and met.kind == operation.kind == "write" and met.path == operation.path
        return self.mode == "fault" and rest and operation.number == self.number + 1

    def after(self, disk: Disk, operation: Operation) -> None:
        """Die or interrupt when the operation is done; see `Disk`."""
        if operation.number != self.number:
            return
        if self.mode == "torn":
            self._end(disk)
        for _ in range({"stop": 1, "abort": 2}.get(self.mode, 0)):
            signal.raise_signal(signal.SIGINT)

    def _end(self, disk: Disk) -> None:
        disk.stop()
        if self.mode in (UNDONE, KEPT):
            write_files(disk.root, disk.tree.after_power_cut(self.mode))
        assert self.met is not None
        self._die(self.met)


def can_crash(mode: str, operation: Operation) -> bool:
    """Whether a mode means anything at an operation."""
    return mode != "torn" or (operation.kind == "write" and operation.size > 1)


def same(one: Operation, other: Operation) -> bool:
    """Whether two searches did the same, but for names that are drawn by chance."""
    return _plain(one) == _plain(other)


def _plain(operation: Operation) -> dict[str, Any]:
    facts = dataclasses.asdict(operation)
    del facts["size"]  # the journal's lines hold times
    return facts | {"path": RANDOM.sub(r"\1*", operation.path)}


def last_line(text: str) -> str:
    """What a command said of its end."""
    lines = [line for line in text.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("error:", "traceback:"))]
    return (said or lines or ["nothing"])[-1][:300]


def whole_lines(path: Path) -> int:
    """Lines of a file that end."""
    return path.read_bytes().count(b"\n") if path.is_file() else 0
