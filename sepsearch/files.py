"""Files that are whole or not there: written under a temporary name, then renamed."""

import glob
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sepsearch.errors import UserError, no_space
from sepsearch.home import chosen_cache, home_problem, usable, writable

ABANDONED = 3600.0  # seconds


def cache_folder() -> Path:
    """Where demo and shards are kept: $SEPSEARCH_CACHE, else $XDG_CACHE_HOME/sepsearch or ~/.cache/sepsearch.

    Raises `UserError` where there is no home folder for it, or this user may not use it.
    """
    advice = "set SEPSEARCH_CACHE to a folder that can be written"
    try:
        folder = chosen_cache() or Path.home() / ".cache" / "sepsearch"
    except RuntimeError as error:
        raise UserError(f"no home folder for the cache: {home_problem()}: {advice}") from error
    if not usable(folder):
        raise UserError(f"{folder}: the cache can neither be read nor made there: {advice}")
    return folder


def is_there(path: Path) -> bool:
    """Whether something has this path; raises `UserError` for one that no file can have, such as too long a name."""
    try:
        return path.exists()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be looked for: {reason}: choose another name") from error


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that at any moment its old or its new content is there; raises `UserError` if it cannot be."""
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise no_space(error, path) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)  # mkstemp makes it the owner's alone
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise no_space(error, path) from error
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` to fill, renamed to `path` at the end and removed if anything goes wrong.

    Where another process has made `path` meanwhile, that one stays. What a killed process left of it more than an hour
    ago is removed. Raises `UserError` if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.partial-*"):
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.partial-"))
    except OSError as error:
        raise no_space(error, path) from error
    try:
        temporary.chmod(0o755)
        yield temporary
        try:
            temporary.rename(path)
        except OSError:
            if not path.is_dir():
                raise
    except OSError as error:
        raise no_space(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_space(
    folder: Path, needed: float, what: str, advice: str = "free some space or set SEPSEARCH_CACHE to another folder"
) -> None:
    """Raise `UserError` unless `folder` can be written, and its disk has `needed` bytes free."""
    existing = folder.absolute()
    while not os.path.exists(existing):
        existing = existing.parent
    if not writable(folder):
        raise UserError(f"{folder}: cannot be written, expected a folder for {what}: {advice}")
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"{folder}: {what} needs {needed / 1e6:,.0f} MB there, found {free / 1e6:,.0f} MB free: {advice}"
        )


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
