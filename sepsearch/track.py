"""`python -m sepsearch.track`: write a run into MLflow from its journal; repeating it changes nothing."""

import argparse
import contextlib
import shlex
import sys
from pathlib import Path

from sepsearch.runs.run_folder import JOURNAL, find_run
from sepsearch.utils.command_line import ArgumentParser
from sepsearch.utils.errors import EXIT_FAILED, exit_on_user_error
from sepsearch.utils.progress import Progress
from sepsearch.utils.terminal_text import write_line


def main(argv: list[str] | None = None) -> None:
    """Send a run's journal to MLflow, and register its models where that was not done.

    Raises `UserError` for a mistake, and where MLflow is away; exits with 1 where something was refused.
    """
    arguments = _parse(argv)
    # Below is torch, which a mistake on the command line need not wait for.
    from sepsearch.tracking.access import check_access
    from sepsearch.tracking.rebuild import Rebuild, open_journal
    from sepsearch.tracking.tracker import tracking_uri, ui_command
    from sepsearch.utils.programs import program

    folder = find_run(arguments.runs, arguments.name, "NAME")
    uri = arguments.uri or tracking_uri()
    check_access(uri)
    problems: list[str] = []
    with contextlib.ExitStack() as stack:
        journal = open_journal(folder / JOURNAL)
        if not isinstance(journal, str):
            stack.callback(journal.close)
        rebuild = Rebuild(folder, uri, journal, stack.enter_context(Progress()), problems)
        rebuild.runs()
        rebuild.models()
    write_line(rebuild.summary(arguments.name))
    write_line(f"look at them: {ui_command(uri).replace('mlflow ', shlex.quote(program('mlflow')) + ' ', 1)}")
    for note in rebuild.notes:
        write_line(note)
    for problem in problems:
        write_line(f"warning: {problem}", error=True)
    if problems:
        sys.exit(EXIT_FAILED)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="python -m sepsearch.track",
        description="Write a run into MLflow from its journal: add what is missing there, duplicate nothing.",
    )
    parser.add_argument("name", metavar="NAME", help="the run's name")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders are (default: runs)")
    parser.add_argument("--uri", help="MLflow's address; MLFLOW_TRACKING_URI or mlflow.db here by default")
    return parser.parse_args(argv)


if __name__ == "__main__":
    exit_on_user_error(main)
