"""`python -m sepsearch.fetch NAME --storage WHERE`: copy a run from a storage to this machine."""

from collections.abc import Sequence
from pathlib import Path

from sepsearch.utils.command_line import ArgumentParser
from sepsearch.utils.errors import exit_on_user_error
from sepsearch.utils.terminal_text import write_line


def main(argv: Sequence[str] | None = None) -> None:
    """Copy a run's journal, results, report, models and finalists here, for report, promote, export and track.

    Raises `UserError`: there is no such run, the storage does not answer, or the disk is full.
    """
    parser = ArgumentParser(prog="python -m sepsearch.fetch", description=main.__doc__)
    parser.add_argument("name", metavar="NAME", help="the run's name")
    parser.add_argument("--storage", required=True, help="where the run is, such as s3://bucket/runs")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders are (default: runs)")
    options = parser.parse_args(argv)

    from sepsearch.runs.folder import fetch_run

    folder = options.runs / options.name
    if note := fetch_run(options.storage, options.name, folder):
        write_line(f"note: {note}", error=True)
    write_line(folder)


if __name__ == "__main__":
    exit_on_user_error(main)
