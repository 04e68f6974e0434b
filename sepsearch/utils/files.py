"""Atomic and durable files and folders: written under a temporary name, synced to the disk, then renamed and synced."""

import errno
import glob
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sepsearch.utils.errors import UserError, no_space
from sepsearch.utils.home import chosen_cache, home_problem, usable, writable

ABANDONED = 3600.0  # seconds
PARTIAL = ".partial"  # ends the names of files, and begins the last part of those of folders, that are being written


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


def make_folder(path: Path) -> None:
    """Create a folder with its parents; each one that is new survives a crash of the machine once this returns."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (fsync), where the file system can; new files are lost to a power cut without.

    Raises:
        OSError: the folder cannot be synced.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # one may be allowed to add files to a folder and not to read it
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems know no fsync of folders
            raise
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Bring all files and folders below a folder, and its own entries, to the disk."""
    for folder, _, names in os.walk(path):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(folder))


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that at any moment, a power cut included, its old or its new content is there.

    The new one has reached the disk once this returns. Raises `UserError` if it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        make_folder(path.parent)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
    except OSError as error:
        raise no_space(error, path) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # mkstemp makes it the owner's alone
            os.fsync(file.fileno())
        os.replace(name, path)
        sync_folder(path.parent)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise no_space(error, path) from error
        raise


@contextmanager
def new_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path` to fill, renamed to `path` at the end and removed if anything goes wrong.

    All that is in it has reached the disk before it is renamed, and its new name before this returns. Where another
    process has made `path` meanwhile, that one stays. What a killed process left of it more than an hour ago is
    removed.

    Args:
        path: the folder to make.
        replace: remove what has this path already, just before the new one gets it.

    Raises:
        UserError: it cannot be written.
    """
    try:
        make_folder(path.parent)
        for left in path.parent.glob(f".{glob.escape(path.name)}.partial-*"):
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.partial-"))
    except OSError as error:
        raise no_space(error, path) from error
    try:
        temporary.chmod(0o755)
        yield temporary
        sync_tree(temporary)
        if replace:
            shutil.rmtree(path, ignore_errors=True)
        try:
            temporary.rename(path)
        except OSError:
            if not path.is_dir():
                raise
        sync_folder(path.parent)
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
        found = "may not be written by this user" if existing.is_dir() else "is no folder"
        raise UserError(f"{folder}: cannot be written ({existing} {found}), expected a folder for {what}: {advice}")
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"{folder}: {what} needs {needed / 1e6:,.0f} MB there, found {free / 1e6:,.0f} MB free: {advice}"
        )


def folder_sha256(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path there; raises `OSError` for one that cannot be read."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def damage(folder: Path, expected: Mapping[str, str]) -> str:
    """What is wrong with files below a folder; "" if all are there with these SHA-256 checksums, by path."""
    for name, checksum in expected.items():
        try:
            found = file_sha256(folder / name)
        except OSError as error:
            return f"{folder / name}: {'missing' if isinstance(error, FileNotFoundError) else error.strerror}"
        if found != checksum:
            return f"{folder / name}: damaged (checksum {found[:12]}…, expected {checksum[:12]}…)"
    return ""


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
