"""Places where files are kept: a folder, or an object store behind any URI that pyarrow knows (s3://, gs://, …).

A place is only a name: small, the same on every machine, connected to when it is first used in a process. Credentials
come from where the store's own tools look for them (environment, profile, the machine's role), never from the URI.
"""

import functools
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sepsearch.errors import UserError, no_space, one_line
from sepsearch.files import write_atomically

PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before an object store is asked again; its client has tried for some by then
THREADS = 8  # files of a folder that are moved at once
SECRET = ("key", "token", "secret", "password")


@dataclass(frozen=True)
class Place:
    """A folder of files, by `root` (an absolute path or a URI, as a person gives it) and a path below it."""

    root: str
    path: str = ""

    def __truediv__(self, name: str) -> "Place":
        return Place(self.root, f"{self.path}/{name}" if self.path else name)

    def __str__(self) -> str:
        base, _, _ = self.root.partition("?")
        return f"{base.rstrip('/')}/{self.path}" if self.path else base

    @property
    def local(self) -> Path | None:
        """The folder, where it is one; None for an object store."""
        return None if "://" in self.root else Path(self.root, self.path)

    def read(self, name: str) -> bytes | None:
        """A file's content; None if there is none. Raises `UserError` where the place does not answer."""
        try:
            if self.local:
                return (self.local / name).read_bytes()
            return bytes(self._patiently(lambda system, base: system.open_input_stream(f"{base}/{name}").read()))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(error, name, "read") from error

    def write(self, name: str, content: bytes) -> None:
        """Replace a file as a whole: others see its old or its new content. Raises `UserError` if it cannot be."""
        if self.local:
            write_atomically(self.local / name, content)
            return

        def put(system: Any, base: str) -> None:
            # An object appears when its stream is closed.
            with system.open_output_stream(f"{base}/{name}") as stream:
                stream.write(content)

        try:
            self._patiently(put)
        except OSError as error:
            raise self._error(error, name, "written") from error

    def remove(self, *names: str) -> None:
        """Remove files; those that are not there are passed over."""

        def one(name: str) -> None:
            try:
                if self.local:
                    (self.local / name).unlink()
                else:
                    self._patiently(lambda system, base: system.delete_file(f"{base}/{name}"))
            except FileNotFoundError:
                pass
            except OSError as error:
                raise self._error(error, name, "removed") from error

        _together(one, names)

    def remove_all(self) -> None:
        """Remove the place with all that is in it, as far as that can be done."""
        if self.local:
            shutil.rmtree(self.local, ignore_errors=True)
        else:
            self.remove(*self.names())

    def names(self) -> list[str]:
        """The files below, as sorted paths relative to the place; those that begin with a dot are unfinished."""
        if self.local:
            files = (path for path in self.local.rglob("*") if path.is_file() and not path.name.startswith("."))
            return sorted(path.relative_to(self.local).as_posix() for path in files)

        def select(system: Any, base: str) -> list[str]:
            from pyarrow import fs

            found = system.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
            return sorted(file.path[len(base) + 1 :] for file in found if file.is_file)

        try:
            names: list[str] = self._patiently(select)
        except OSError as error:
            raise self._error(error, "", "listed") from error
        return names

    def modified(self, name: str) -> float | None:
        """When a file was written, in seconds since 1970 by the clock of the place; None if there is none."""
        try:
            if self.local:
                return (self.local / name).stat().st_mtime
            info = self._patiently(lambda system, base: system.get_file_info(f"{base}/{name}"))
            return info.mtime.timestamp() if info.is_file else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(error, name, "read") from error

    def fetch(self, folder: Path) -> None:
        """Bring all files into a folder of this machine; those that have the same content there stay untouched."""

        def one(name: str) -> None:
            content = self.read(name)
            target = folder / name
            if content is not None and not (target.exists() and target.read_bytes() == content):
                write_atomically(target, content)

        _together(one, self.names())

    def publish(self, folder: Path) -> None:
        """Write all files of a folder of this machine."""
        _together(lambda name: self.write(name, (folder / name).read_bytes()), Place(str(folder.absolute())).names())

    def _patiently(self, work: Callable[[Any, str], Any]) -> Any:
        """`work` on the file system; asked again where the store does not answer, not where it says no."""
        for pause in (*PAUSES, None):
            try:
                return work(*_connect(self.root, self.path))
            except (FileNotFoundError, PermissionError):
                raise
            except OSError as error:
                if pause is None or any(refusal in str(error) for refusal in ("ACCESS_DENIED", "NO_SUCH_BUCKET")):
                    raise
                time.sleep(pause)
        raise AssertionError

    def _error(self, error: OSError, name: str, done: str) -> UserError:
        if self.local:
            return no_space(error, self.local / name) if done != "read" else UserError(
                f"{self.local / name}: cannot be read: {error.strerror or error}: may this user read it?"
            )  # fmt: skip
        return UserError(
            f"{self / name if name else self}: cannot be {done}: {_reason(error)}:"
            " is the address right, and are the credentials where the store's own tools look for them?"
        )


def open_place(text: str | Path, option: str = "--storage") -> Place:
    """A place by a path or a URI; nothing is written and no store is asked.

    Raises:
        UserError: no file system is behind such a URI, or it has credentials in it.
    """
    if "://" not in str(text):
        try:
            return Place(str(Path(text).expanduser().absolute()))
        except RuntimeError as error:
            raise UserError(f"{option} {text}: there is no such home folder: give the whole path") from error
    text = str(text)
    parts = urlsplit(text)
    if parts.scheme == "file":
        return Place(parts.path)
    hidden = [name for name, _ in parse_qsl(parts.query) if any(word in name.lower() for word in SECRET)]
    if parts.password or hidden:
        raise UserError(
            f"{option} {parts.scheme}://{parts.hostname}…: credentials in the address, which many files and pages show:"
            " leave them out and set them where the store's own tools look (environment, profile, role)"
        )
    if not parts.netloc:
        raise UserError(f"{option} {text}: no bucket, expected such as {parts.scheme}://bucket/runs")
    _connect(text, "", option)
    return Place(text)


@functools.lru_cache(maxsize=256)
def _connect(root: str, path: str, option: str = "--storage") -> tuple[Any, str]:
    """The file system behind a URI, and the path of the place in it."""
    import pyarrow as pa
    from pyarrow import fs

    try:
        system, base = fs.FileSystem.from_uri(root)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise UserError(
            f"{option} {root}: {_reason(error)}: expected a folder that all machines share, or a URI such as"
            " s3://bucket/runs, gs://bucket/runs"
        ) from error
    base = base.rstrip("/")
    return system, f"{base}/{path}" if path else base


def _together(work: Callable[[str], None], names: Iterable[str]) -> None:
    """`work` for every name, several at once; the first error is raised."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, names))


def _reason(error: Exception) -> str:
    """What an object store's client says, without its request numbers."""
    text = one_line(error)
    for begin in ("Detail:", "AWS Error"):
        if begin in text:
            text = text[text.index(begin) :].removeprefix("Detail:").strip()
    return text.partition(" (Request ID")[0].partition("; Details:")[0]
