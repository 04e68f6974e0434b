"""One change of the disk, and who asked for it."""

import errno
import os
import sys
from dataclasses import dataclass
from typing import Any

# Kinds that make or fill something; a full disk refuses them. For the others the disk itself is at fault.
GROWING = ("create", "truncate", "write", "mkdir", "rename", "link")


@dataclass(frozen=True)
class Operation:
    """One change of the disk.

    Args:
        number: counted from 1.
        kind: create, truncate, write, fsync, mkdir, rename, link, unlink, rmdir or chmod.
        path: of what is changed, relative to the watched folder; "old → new" for a rename.
        where: file:line of the package's code that asked for it.
        size: bytes of a write.
    """

    number: int
    kind: str
    path: str
    where: str
    size: int = 0

    def error(self) -> OSError:
        """What the system says where it cannot be done."""
        number = errno.ENOSPC if self.kind in GROWING else errno.EIO
        return OSError(number, os.strerror(number), self.path)

    def __str__(self) -> str:
        return f"{self.number} {self.kind} {self.path} ({self.where})"


def caller() -> str:
    """The innermost line of the package that is being executed."""
    frame: Any = sys._getframe(2)
    innermost = ""
    while frame is not None:
        name = frame.f_code.co_filename
        if f"{os.sep}sepsearch{os.sep}" in name:
            return f"{os.path.basename(name)}:{frame.f_lineno}"
        innermost = innermost or f"{os.path.basename(name)}:{frame.f_lineno}"
        frame = frame.f_back
    return innermost
