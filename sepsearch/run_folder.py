"""Runs by their names: a folder each, `runs/<name>`."""

import re
from pathlib import Path

from sepsearch.errors import UserError
from sepsearch.files import is_there

JOURNAL = "journal.jsonl"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


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
        UserError: no such run (those there are named), or no name at all.
    """
    folder = runs / check_name(name, what)
    if not is_there(folder / JOURNAL):
        there = sorted(path.parent.name for path in runs.glob(f"*/{JOURNAL}") if NAME.fullmatch(path.parent.name))
        raise UserError(f"{what} {name}: no such run in {runs}, expected one of: {', '.join(there) or 'none is there'}")
    return folder
