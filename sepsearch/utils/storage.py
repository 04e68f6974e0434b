"""Files in a folder or in an object store behind a URI (s3://, gs://, az://), under one interface.

A StorageFolder is only a name: small, the same on every machine, connected when it is first used in a process.
Credentials come from where the store's own tools look (environment, profile, role of the machine), never from the URI.
"""

import contextlib
import functools
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from sepsearch.utils.errors import UserError, no_space
from sepsearch.utils.files import write_atomically
from sepsearch.utils.object_stores import open_store, parse_address, reason
from sepsearch.utils.safe_paths import PLANTED, path_below, require_plain

if TYPE_CHECKING:
    from obstore.store import ObjectStore

THREADS = 8  # files of a folder that are moved at once
CREATE_TRIES = 3
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class StorageFolder:
    """A folder of files, by `root` (an absolute path or a URI, as a person gives it) and a path below it.

    Every method raises `UserError` for a name that is not a plain relative path, and where the storage refuses, or
    does not answer for about half a minute.
    """

    root: str
    path: str = ""

    def __truediv__(self, name: str) -> "StorageFolder":
        require_plain(name, self)
        return StorageFolder(self.root, f"{self.path}/{name}" if self.path else name)

    def __str__(self) -> str:
        base, _, _ = self.root.partition("?")
        return f"{base.rstrip('/')}/{self.path}" if self.path else base

    @property
    def local(self) -> Path | None:
        """The folder, where it is one; None for an object store."""
        return None if "://" in self.root else Path(self.root, self.path)

    def read(self, name: str) -> bytes | None:
        """A file's content; None if there is none."""
        with self._errors(name, "read"):
            try:
                if self.local:
                    return (self.local / require_plain(name, self)).read_bytes()
                return bytes(self._store.get(self._key(name)).bytes())
            except FileNotFoundError as error:
                if not self.local and _no_bucket(error):
                    raise
        return None

    def read_all(self, names: Iterable[str]) -> list[bytes | None]:
        """The content of several files, read at once."""
        return _together(self.read, names)

    def write(self, name: str, content: bytes) -> None:
        """Replace a file as a whole: others see its old or its new content."""
        require_plain(name, self)
        if self.local:
            write_atomically(self.local / name, content)
            return
        with self._errors(name, "written"):
            self._store.put(self._key(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless there is one (atomically, among all processes and machines).

        Returns:
            Whether the file has this content now: it was created, by this call or by an earlier one whose answer got
            lost. False if it has another.
        """
        if self.local:
            return self._create_local(require_plain(name, self), content)
        from obstore.exceptions import AlreadyExistsError, GenericError, PreconditionError

        for left in reversed(range(CREATE_TRIES)):
            with self._errors(name, "written"):
                try:
                    self._store.put(self._key(name), content, mode="create")
                    return True
                except (AlreadyExistsError, PreconditionError):
                    found = self.read(name)
                except GenericError:  # also no answer in time, so that it may have been written
                    if not left:
                        raise
                    continue
            if found is not None:
                return found == content
            # Refused, but not there: a deletion came between (S3: 409).
        raise UserError(f"{self}/{name}: cannot be written: it comes and goes: does another process remove it?")

    def _create_local(self, name: str, content: bytes) -> bool:
        assert self.local
        target = self.local / name
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        write_atomically(temporary, content)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return self.read(name) == content
        except OSError as error:
            raise self._error(error, name, "written") from error
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def remove(self, *names: str) -> None:
        """Remove files; those that are not there are passed over."""

        def one(name: str) -> None:
            with self._errors(name, "removed"), contextlib.suppress(FileNotFoundError):
                if self.local:
                    (self.local / require_plain(name, self)).unlink()
                else:
                    self._store.delete(self._key(name))

        _together(one, names)

    def remove_all(self) -> None:
        """Remove the folder with all that is in it, as far as that can be done."""
        if self.local:
            shutil.rmtree(self.local, ignore_errors=True)
        else:
            self.remove(*self.names())

    def names(self, after: str = "") -> list[str]:
        """The files below, as sorted paths relative to this folder; in a folder without those that begin with a dot.

        Args:
            after: only what is sorted behind this; a store then lists no more than that.

        Raises:
            UserError: also for a file in a store whose name is not a plain relative path.
        """
        with self._errors("", "listed"):
            if self.local:
                files = (path for path in self.local.rglob("*") if path.is_file() and not path.name.startswith("."))
                found = [path.relative_to(self.local).as_posix() for path in files]
            else:
                offset = self._key(after) if after else None
                begin = len(self.path) + 1 if self.path else 0
                # Consoles of stores make an empty object for a folder, named like it.
                keys = (key for key in self._keys(offset) if key != self.path)
                found = [require_plain(key[begin:], self) for key in keys]
        return sorted(name for name in found if name > after)

    def _keys(self, offset: str | None) -> Iterator[str]:
        from obstore.exceptions import InvalidPathError

        try:
            for chunk in self._store.list(self.path or None, offset=offset, chunk_size=1000):
                yield from (one["path"] for one in chunk)
        except InvalidPathError as error:  # what `require_plain` refuses, refused by the client
            raise UserError(f"{self}: {reason(error)}: {PLANTED}") from error

    def modified(self, name: str) -> float | None:
        """When a file was written, in seconds since 1970 by the clock of the storage; None if there is none."""
        with self._errors(name, "read"), contextlib.suppress(FileNotFoundError):
            if self.local:
                return (self.local / require_plain(name, self)).stat().st_mtime
            return float(self._store.head(self._key(name))["last_modified"].timestamp())
        return None

    def fetch(self, folder: Path) -> None:
        """Bring all files into a folder of this machine; those that have the same content there stay untouched.

        Raises:
            UserError: also if a name, or a symbolic link in the folder, leads out of the folder.
        """
        names = self.names()
        targets = {name: path_below(folder, name, self) for name in names}

        def one(name: str) -> None:
            content, target = self.read(name), targets[name]
            if content is not None and not (target.exists() and target.read_bytes() == content):
                write_atomically(target, content)

        _together(one, names)

    def publish(self, folder: Path) -> None:
        """Write all files of a folder of this machine."""
        _together(
            lambda name: self.write(name, (folder / name).read_bytes()), StorageFolder(str(folder.absolute())).names()
        )

    @property
    def _store(self) -> "ObjectStore":
        return _connect(self.root)

    def _key(self, name: str) -> str:
        """The key of a file below the store's root."""
        return f"{self.path}/{require_plain(name, self)}" if self.path else require_plain(name, self)

    @contextlib.contextmanager
    def _errors(self, name: str, done: str) -> Iterator[None]:
        """What goes wrong on a file, as a `UserError`."""
        try:
            yield
        except UserError:
            raise
        except OSError as error:
            raise self._error(error, name, done) from error
        except Exception as error:
            from obstore.exceptions import BaseError

            if not isinstance(error, BaseError):
                raise
            raise self._error(error, name, done) from error

    def _error(self, error: Exception, name: str, done: str) -> UserError:
        if self.local and isinstance(error, OSError):
            return (
                no_space(error, self.local / name)
                if done != "read"
                else UserError(
                    f"{self.local / name}: cannot be read: {error.strerror or error}: may this user read it?"
                )
            )
        return UserError(
            f"{self}/{name}: cannot be {done}: {reason(error)}:"
            " is the address right, and are the credentials where the store's own tools look for them?"
        )


def open_storage(text: str | Path, option: str = "--storage") -> StorageFolder:
    """A StorageFolder by a path or a URI; nothing is written and no store is asked.

    Raises:
        UserError: no store is known by such a URI, it has an unknown parameter, or credentials in it.
    """
    if "://" not in str(text):
        try:
            return StorageFolder(str(Path(text).expanduser().absolute()))
        except RuntimeError as error:
            raise UserError(f"{option} {text}: there is no such home folder: give the whole path") from error
    text = str(text)
    if text.startswith("file://"):
        return StorageFolder(urlsplit(text).path)
    parse_address(text, option)
    return StorageFolder(text)


@functools.lru_cache(maxsize=16)
def _connect(root: str) -> "ObjectStore":
    """The client of a store, one for a process."""
    return open_store(parse_address(root, "--storage"), root.partition("?")[0])


def _no_bucket(error: Exception) -> bool:
    """Whether not only the object is missing, but what it should be in."""
    return any(sign in str(error) for sign in ("NoSuchBucket", "ContainerNotFound", "bucket does not exist"))


def _together(work: Callable[[str], Answer], names: Iterable[str]) -> list[Answer]:
    """`work` for every name, several at once; the first error is raised."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, names))
