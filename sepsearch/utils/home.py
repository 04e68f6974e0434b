"""The user's home folder, and a substitute where there is none: batch jobs, containers with any user id."""

import os
from pathlib import Path


def usable(folder: Path) -> bool:
    """Whether a folder can be read or, where it is not there yet, be made."""
    if os.path.exists(folder):
        return os.access(folder, os.R_OK | os.X_OK)
    return writable(folder)


def writable(folder: Path) -> bool:
    """Whether a folder can be written or, where it is not there yet, be made."""
    # Not Path.exists, which raises an exception below a folder that this user may not enter.
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def home_problem() -> str:
    """Why nothing can be written in the user's home folder; "" where it can be, or be made."""
    try:
        home = Path.home()
    except RuntimeError:
        return f"HOME is not set and user id {os.getuid()} has no entry in the password database"
    if writable(home):
        return ""
    return f"the home folder {home} " + ("cannot be written" if os.path.exists(home) else "does not exist")


def chosen_cache() -> Path | None:
    """The cache folder that the environment names; None where it is to be in the home folder.

    Raises:
        RuntimeError: `SEPSEARCH_CACHE` begins with `~`, and there is no home folder.
    """
    if chosen := os.environ.get("SEPSEARCH_CACHE"):
        return Path(chosen).expanduser()
    return Path(chosen) / "sepsearch" if (chosen := os.environ.get("XDG_CACHE_HOME")) else None


def provide_home() -> None:
    """Where the home folder is missing, let the cache folder that the environment names stand in for it.

    For this process, its children, and the libraries that write to or read from there: mlflow cannot even be imported
    without one. A home folder that is there but cannot be written stays: credentials may be in it.
    """
    if not home_problem():
        return
    try:
        cache = chosen_cache()
    except RuntimeError:
        return
    if cache is None:
        return
    os.environ.setdefault("MPLCONFIGDIR", str(cache.absolute() / "matplotlib"))
    try:
        missing = not os.path.exists(Path.home())
    except RuntimeError:
        missing = True
    if missing:
        os.environ["HOME"] = str(cache.absolute())
