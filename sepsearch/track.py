"""`python -m sepsearch.track`: write a run into MLflow from its journal; repeating it changes nothing."""

import contextlib
import sys

from sepsearch.runs.run_folder import JOURNAL, find_run
from sepsearch.utils.command_line import ArgumentParser, add_runs, add_uri
from sepsearch.utils.errors import EXIT_FAILED, exit_on_user_error
from sepsearch.utils.output import OUTPUT, write_json, write_note
from sepsearch.utils.progress import Progress
from sepsearch.utils.terminal_text import write_line

DESCRIPTION = "Write a run into MLflow from its journal: add what is missing there, duplicate nothing."
EXAMPLES = (
    ("urmp", "into MLflow as MLFLOW_TRACKING_URI has it, or mlflow.db here"),
    ("urmp --uri http://127.0.0.1:5000", "into the MLflow of a server"),
)


def make_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser("track", DESCRIPTION, EXAMPLES)
    parser.add_argument("name", metavar="NAME", help="the run's name")
    add_runs(parser.add_argument)
    add_uri(parser.add_argument)
    parser.add_general(json="print what is in MLflow")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Send a run's journal to MLflow, and register its models where that was not done.

    Raises `UserError` for a mistake, and where MLflow is away; exits with 1 where something was refused.
    """
    arguments = make_parser().parse_args(argv)
    # Below is torch, which a mistake on the command line need not wait for.
    from sepsearch.tracking.access import check_access
    from sepsearch.tracking.rebuild import Rebuild, open_journal
    from sepsearch.tracking.tracker import tracking_uri, ui_command

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
    if OUTPUT.json:
        write_json(rebuild.facts(arguments.name))
    else:
        write_line(rebuild.summary(arguments.name))
        write_note(f"look at them: {ui_command(uri)}")
        for note in rebuild.notes:
            write_note(note)
    for problem in problems:
        write_line(f"warning: {problem}", error=True)
    if problems:
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    exit_on_user_error(main)
