"""File objects that write by way of `os`, whose functions can be replaced; C libraries are led through them."""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock


class RawFile(io.RawIOBase):
    """A raw file all of whose calls go through `os`."""

    def __init__(self, file: Any, mode: str, closefd: bool, opener: Any):
        self.mode, self._closefd, self.name = mode, closefd, file
        self._plus = "+" in mode
        if isinstance(file, int):
            self._fd = file
            return
        kind = {"w": os.O_CREAT | os.O_TRUNC, "a": os.O_CREAT | os.O_APPEND, "x": os.O_CREAT | os.O_EXCL, "r": 0}
        letter = next(letter for letter in mode if letter in kind)
        access = os.O_RDWR if self._plus else os.O_RDONLY if letter == "r" else os.O_WRONLY
        flags = kind[letter] | access | getattr(os, "O_CLOEXEC", 0)
        self._fd = opener(file, flags) if opener else os.open(file, flags, 0o666)
        if letter == "a":
            os.lseek(self._fd, 0, os.SEEK_END)

    def fileno(self) -> int:
        return self._fd

    def readable(self) -> bool:
        return self._plus or "r" in self.mode

    def writable(self) -> bool:
        return self._plus or "r" not in self.mode

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = os.read(self._fd, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        return os.write(self._fd, data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return os.lseek(self._fd, offset, whence)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        os.ftruncate(self._fd, size)
        return size

    def close(self) -> None:
        if not self.closed:
            super().close()
            if self._closefd:
                os.close(self._fd)


@contextlib.contextmanager
def through_python() -> Iterator[None]:
    """Let Arrow and libsndfile write through Python's file objects where they are given a path."""
    import pyarrow
    import soundfile

    arrow, sound = pyarrow.OSFile, soundfile.write

    def os_file(path: Any, mode: str = "r", **options: Any) -> Any:
        return open(path, "wb") if "w" in mode else arrow(path, mode, **options)

    def write(file: Any, data: Any, rate: int, **options: Any) -> None:
        if not isinstance(file, str | os.PathLike):
            sound(file, data, rate, **options)
            return
        memory = io.BytesIO()
        sound(memory, data, rate, **{"format": Path(file).suffix[1:].upper(), **options})
        with open(file, "wb") as real:
            real.write(memory.getvalue())

    with mock.patch.object(pyarrow, "OSFile", os_file), mock.patch.object(soundfile, "write", write):
        yield
