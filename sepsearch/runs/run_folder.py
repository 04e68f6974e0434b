"""Runs by their names: a folder each, `runs/<name>`."""

import contextlib
import re
import shutil
from pathlib import Path

from sepsearch.search.run_lock import seems_locked
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import is_there

JOURNAL = "journal.jsonl"
RAY_FOLDER = "ray"  # Ray Tune's own files
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Names of files and folders while they are written (`files`), and of what preflight tries.
TEMPORARY = re.compile(r"\..+\.partial(-.*)?|\.preflight-.*")


def check_name(name: str, what: str) -> str:
    """The name of a run, which is no path; raises `UserError` for any other. `what` says where it was given."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"{what} {name!r}: expected letters, digits, '.', '_' and '-', at most 100, not beginning with '.'"
        )
    return name


def find_run(runs: Path, name: str, what: str) -> Path:
    """The folder of a run that has a journal.

    Raises:
        UserError: no such run (those there are named), one that still gets ready, or no name at all.
    """
    folder = runs / check_name(name, what)
    if not is_there(folder / JOURNAL):
        if seems_locked(folder / JOURNAL):
            raise UserError(
                f"{what} {name}: the run gets ready (recordings are read, Ray starts) and has written nothing yet: try"
                " again when its trials have begun; sepsearch watch waits for that"
            )
        there = sorted(path.parent.name for path in runs.glob(f"*/{JOURNAL}") if NAME.fullmatch(path.parent.name))
        raise UserError(f"{what} {name}: no such run in {runs}, expected one of: {', '.join(there) or 'none is there'}")
    return folder


def may_precede_journal(name: str) -> bool:
    """Whether a file of this name can be in the folder of a run without a first event."""
    return name in ("space.yaml", JOURNAL, RAY_FOLDER) or name.startswith(".")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes were writing to a run's folder; call with the run's lock held."""
    for path in sorted(folder.rglob(".*")):
        if TEMPORARY.fullmatch(path.name):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()


def discard_unbegun(folder: Path) -> None:
    """Remove the files of a run without a first event, so that its name is free; call with the run's lock held."""
    for name in (JOURNAL, "space.yaml"):
        with contextlib.suppress(OSError):
            (folder / name).unlink()
