"""Every operation by which Python code changes files, one at a time: seen, counted, and stopped where a test wants it.

`os` and `open` are replaced while `Disk.watching` lasts. A file object opened for writing keeps Python's own buffers
above a raw file whose `write` is `os.write`, so that what is buffered reaches the disk where it does in fact. Libraries
that write in C are led through such a file object (`traced_files.through_python`); `Disk.missed` finds any that are not.
"""

import builtins
import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from durable_files import Tree
from operation import Operation, caller
from traced_files import RawFile, through_python

WRITING = os.O_WRONLY | os.O_RDWR


class Disk:
    """Watches all changes below a folder.

    Args:
        root: the folder.
        before: called before every operation; what it raises is raised in place of the operation. For a write it may
            return how many bytes are to be written.
        after: called after every operation.
    """

    def __init__(
        self,
        root: Path,
        before: Callable[["Disk", Operation], int | None] = lambda disk, operation: None,
        after: Callable[["Disk", Operation], None] = lambda disk, operation: None,
    ):
        self.root = Path(os.path.realpath(root))
        self.tree = Tree(self.root)
        self._before, self._after = before, after
        self._count = 0
        self._stack = contextlib.ExitStack()
        self._open: dict[int, str] = {}  # descriptor → path below the root
        self._real = {name: getattr(os, name) for name in _Patches.NAMES}
        self._real_open = io.open

    @contextlib.contextmanager
    def watching(self) -> Iterator["Disk"]:
        """Replace what changes files, in this process."""
        patches = _Patches(self)
        with contextlib.ExitStack() as self._stack:
            for name in _Patches.NAMES:
                self._stack.enter_context(mock.patch.object(os, name, getattr(patches, name)))
            for module in (io, builtins):
                self._stack.enter_context(mock.patch.object(module, "open", patches.open_file))
            self._stack.enter_context(mock.patch.object(shutil, "_USE_CP_SENDFILE", False))
            self._stack.enter_context(through_python())
            yield self

    def stop(self) -> None:
        """Watch no longer; for a process that is about to end."""
        self._stack.close()

    def relative(self, path: Any, dir_fd: int | None = None) -> str | None:
        """A path relative to the root, "" for the root itself; None for what is not below it."""
        if isinstance(path, int):
            return self._open.get(path)
        text = os.fsdecode(path)
        if dir_fd is not None and not os.path.isabs(text):
            base = self._open.get(dir_fd)
            if base is None:
                return None
            text = str(self.root / base / text)
        full = os.path.abspath(text)
        if not self._below(full):
            # By way of a link, such as /tmp on some systems; the last part itself is not followed.
            full = os.path.join(os.path.realpath(os.path.dirname(full)), os.path.basename(full))
        return full[len(str(self.root)) + 1 :] if self._below(full) else None

    def _below(self, path: str) -> bool:
        return path == str(self.root) or path.startswith(f"{self.root}{os.sep}")

    def perform(
        self, kind: str, path: str, do: Callable[[], Any], then: Callable[[Any], None], size: int = 0, part: Any = None
    ) -> Any:
        """Count an operation and carry it out; then the model follows. `part(n)` carries out a write of n bytes."""
        self._count += 1
        operation = Operation(self._count, kind, path or ".", caller(), size)
        amount = self._before(self, operation)
        result = do() if amount is None else part(amount)
        then(result)
        self._after(self, operation)
        return result

    def missed(self) -> list[str]:
        """Files that are not as all operations together have made them: something was written past this class."""
        return self.tree.differences()


class _Patches:
    """What stands in for `os` functions and `open`."""

    NAMES = (
        "open",
        "close",
        "write",
        "fsync",
        "fdatasync",
        "ftruncate",
        "truncate",
        "rename",
        "replace",
        "mkdir",
        "unlink",
        "remove",
        "rmdir",
        "chmod",
        "fchmod",
        "link",
    )

    def __init__(self, disk: Disk):
        self._disk, self._real = disk, disk._real

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        disk, tree = self._disk, self._disk.tree
        name = disk.relative(path, dir_fd)

        def do() -> int:
            return int(self._real["open"](path, flags, mode, dir_fd=dir_fd))

        if name is None:
            return do()

        def opened(descriptor: int) -> None:
            disk._open[descriptor] = name

        def made(descriptor: int) -> None:
            opened(descriptor)
            tree.create(name)

        def emptied(descriptor: int) -> None:
            opened(descriptor)
            tree.truncate(name, 0)

        there = tree.exists(name)
        if flags & os.O_CREAT and not there:
            return int(disk.perform("create", name, do, made))
        if flags & os.O_TRUNC and flags & WRITING and there and not (flags & os.O_EXCL and flags & os.O_CREAT):
            return int(disk.perform("truncate", name, do, emptied))
        descriptor = do()
        opened(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        self._disk._open.pop(descriptor, None)
        self._real["close"](descriptor)

    def write(self, descriptor: int, data: Any) -> int:
        name = self._disk._open.get(descriptor)
        if name is None:
            return int(self._real["write"](descriptor, data))
        view = memoryview(data).cast("B")
        written = self._disk.perform(
            "write",
            name,
            lambda: self._real["write"](descriptor, data),
            lambda _: self._disk.tree.write(name, os.fstat(descriptor).st_size),
            len(view),
            lambda amount: self._real["write"](descriptor, view[:amount]),
        )
        return int(written)

    def _sync(self, call: str, descriptor: int) -> None:
        name = self._disk._open.get(descriptor)
        if name is None:
            self._real[call](descriptor)
            return
        self._disk.perform("fsync", name, lambda: self._real[call](descriptor), lambda _: self._disk.tree.sync(name))

    def fsync(self, descriptor: Any) -> None:
        self._sync("fsync", descriptor if isinstance(descriptor, int) else descriptor.fileno())

    def fdatasync(self, descriptor: Any) -> None:
        self._sync("fdatasync", descriptor if isinstance(descriptor, int) else descriptor.fileno())

    def ftruncate(self, descriptor: int, length: int) -> None:
        self._truncate("ftruncate", descriptor, length)

    def truncate(self, path: Any, length: int) -> None:
        self._truncate("truncate", path, length)

    def _truncate(self, call: str, target: Any, length: int) -> None:
        name = self._disk.relative(target)
        if name is None:
            self._real[call](target, length)
            return
        self._disk.perform(
            "truncate", name, lambda: self._real[call](target, length), lambda _: self._disk.tree.truncate(name, length)
        )

    def rename(self, source: Any, target: Any, **folders: Any) -> None:
        self._rename("rename", source, target, folders)

    def replace(self, source: Any, target: Any, **folders: Any) -> None:
        self._rename("replace", source, target, folders)

    def _rename(self, call: str, source: Any, target: Any, folders: dict[str, Any]) -> None:
        disk = self._disk
        old = disk.relative(source, folders.get("src_dir_fd"))
        new = disk.relative(target, folders.get("dst_dir_fd"))
        if old is None or new is None:
            self._real[call](source, target, **folders)
            return

        def renamed(_: None) -> None:
            disk.tree.rename(old, new)
            for descriptor, name in disk._open.items():
                if name == old or name.startswith(f"{old}{os.sep}"):
                    disk._open[descriptor] = new + name[len(old) :]

        disk.perform("rename", f"{old} → {new}", lambda: self._real[call](source, target, **folders), renamed)

    def link(self, source: Any, target: Any, **options: Any) -> None:
        old, new = self._disk.relative(source), self._disk.relative(target)
        if old is None or new is None:
            self._real["link"](source, target, **options)
            return
        self._disk.perform(
            "link",
            f"{old} → {new}",
            lambda: self._real["link"](source, target, **options),
            lambda _: self._disk.tree.link(old, new),
        )

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        name = self._disk.relative(path, dir_fd)

        def do() -> None:
            self._real["mkdir"](path, mode, dir_fd=dir_fd)

        if name is None or self._disk.tree.exists(name) or not self._disk.tree.exists(os.path.dirname(name)):
            do()  # which raises where it cannot be done
            return
        self._disk.perform("mkdir", name, do, lambda _: self._disk.tree.create(name, folder=True))

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._remove("unlink", path, dir_fd)

    def remove(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._remove("unlink", path, dir_fd)

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._remove("rmdir", path, dir_fd)

    def _remove(self, kind: str, path: Any, dir_fd: int | None) -> None:
        name = self._disk.relative(path, dir_fd)
        if name is None or not self._disk.tree.can_remove(name, kind):
            self._real[kind](path, dir_fd=dir_fd)  # which raises where it cannot be done
            return

        def removed(_: None) -> None:
            self._disk.tree.remove(name)
            for descriptor in [number for number, opened in self._disk._open.items() if opened == name]:
                del self._disk._open[descriptor]  # what is written there from now on is in no folder

        self._disk.perform(kind, name, lambda: self._real[kind](path, dir_fd=dir_fd), removed)

    def chmod(self, path: Any, mode: int, **options: Any) -> None:
        name = self._disk.relative(path, options.get("dir_fd"))
        if name is None:
            self._real["chmod"](path, mode, **options)
        else:
            self._disk.perform("chmod", name, lambda: self._real["chmod"](path, mode, **options), lambda _: None)

    def fchmod(self, descriptor: int, mode: int) -> None:
        self.chmod(descriptor, mode)

    def open_file(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: Any = None,
        errors: Any = None,
        newline: Any = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        """`open`; whatever is watched is opened, written and closed by way of `os`."""
        writing = any(letter in mode for letter in "wax+")
        if self._disk.relative(file) is None or (isinstance(file, int) and not writing):
            return self._disk._real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = RawFile(file, mode, closefd, opener)
        if buffering == 0:
            return raw
        size = io.DEFAULT_BUFFER_SIZE if buffering in (-1, 1) else buffering
        kind = io.BufferedRandom if "+" in mode else io.BufferedWriter if writing else io.BufferedReader
        buffered: Any = kind(raw, size)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)
