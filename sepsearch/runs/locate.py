"""Runs as a person names them: a name, a path, or the address of a run in a storage."""

import os
from pathlib import Path

from sepsearch.runs.folder import follow_run
from sepsearch.runs.run_folder import JOURNAL, find_run
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import is_there


def locate_journal(given: str, runs: Path, copies: Path, what: str = "RUN") -> Path:
    """The journal of a run that is only read.

    Args:
        given: a name below `runs`; a path, which has a separator, of the run's folder or its journal; or a URI of the
            run's folder, such as s3://bucket/runs/urmp.
        runs: folder of run folders.
        copies: folder of this machine for a copy of a journal that is elsewhere.
        what: the argument, in errors.

    Raises:
        UserError: there is no such run.
    """
    if "://" in given:
        base, mark, query = given.partition("?")
        address, _, name = base.rstrip("/").rpartition("/")
        if address.endswith(("/", ":")):
            raise UserError(f"{what} {given}: expected the folder of a run, such as s3://bucket/runs/urmp")
        _, refresh = follow_run(copies, address + mark + query, name, copies)
        return refresh()
    if os.sep not in given:
        return find_run(runs, given, what) / JOURNAL
    path = Path(given)
    journal = path if path.name == JOURNAL else path / JOURNAL
    if not is_there(journal):
        raise UserError(f"{what} {given}: no {JOURNAL} there, expected a run's folder: is the path right?")
    return journal
