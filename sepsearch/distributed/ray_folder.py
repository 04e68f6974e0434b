"""Where a local Ray keeps its sockets and logs: a folder whose path is short enough for them."""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from sepsearch.utils.errors import UserError
from sepsearch.utils.home import writable

LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107  # bytes of a Unix socket's path
# What Ray adds: session_2026-11-25_08-41-13_029898_4194304, the folder, and the longest name of a socket in it.
BELOW = len("/session_2026-11-25_08-41-13_029898_4194304/sockets/dash_TaskEventsHead")
LONGEST = LONGEST_SOCKET - BELOW  # bytes of the folder's own path
LONGEST_TMPDIR = LONGEST_SOCKET - len("/pymp-xxxxxxxx/listener-xxxxxxxx")
NAME = "ray"  # Ray's own, below the folder for temporary files


def ray_folder() -> Path:
    """A folder for Ray's sessions in which its sockets find room; it need not exist.

    That is Ray's own choice, `$RAY_TMPDIR/ray`, `$TMPDIR/ray` or `/tmp/ray`, unless TMPDIR is too long for it, as in
    batch jobs, or cannot be written: then a folder below /tmp that is this user's alone.

    Raises:
        UserError: RAY_TMPDIR is too long or cannot be written, or there is no other way than to set it.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ and _is_read(name)), "")
    folder = Path(os.environ[name] if name else "/tmp", NAME)
    problem = _problem(folder)
    if not problem:
        return folder
    advice = f"set RAY_TMPDIR to a folder that can be written, of at most {LONGEST - len(NAME) - 1} bytes, such as /tmp"
    if name == "RAY_TMPDIR":
        raise UserError(f"RAY_TMPDIR={os.environ[name]}: {problem}: {advice}")
    own = private_path()
    if other := _make_private(own):
        raise UserError(f"{f'{name}={os.environ[name]}' if name else folder}: {problem}, and {own} {other}: {advice}")
    return own / NAME  # Ray itself makes what it is given writable for all


def private_path() -> Path:
    """The short folder that takes TMPDIR's place."""
    return Path("/tmp", f"sepsearch-{os.getuid()}")


@contextlib.contextmanager
def short_tmpdir(folder: Path) -> Iterator[None]:
    """Give the processes that Ray starts meanwhile another TMPDIR where its own is too long.

    Its dashboard has sockets there, too: Python's, of `multiprocessing`.

    Args:
        folder: what `ray_folder` has chosen; the one above it takes TMPDIR's place.
    """
    before = os.environ.get("TMPDIR", "")
    if len(os.fsencode(before)) <= LONGEST_TMPDIR:
        yield
        return
    os.environ["TMPDIR"] = str(folder.parent)
    try:
        yield
    finally:
        os.environ["TMPDIR"] = before


def _is_read(name: str) -> bool:
    """Whether Ray reads a variable: TMPDIR on Linux only."""
    return name == "RAY_TMPDIR" or sys.platform.startswith("linux")


def _problem(folder: Path) -> str:
    """Why Ray cannot have its sockets in a folder; "" if it can."""
    length = len(os.fsencode(folder.absolute()))
    if length > LONGEST:
        return f"too long for the paths of Ray's sockets below it, {length + BELOW} bytes, expected {LONGEST_SOCKET}"
    return "" if writable(folder) else "cannot be written"


def _make_private(folder: Path) -> str:
    """Make a folder that only this user can enter; why there is none, or ""."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
    except OSError as error:
        return f"cannot be made ({error.strerror})"
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
        return "is not this user's"
    folder.chmod(0o700)
    return ""
