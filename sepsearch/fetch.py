"""`python -m sepsearch.fetch NAME --storage WHERE`: copy a run from a storage to this machine."""

from collections.abc import Sequence

from sepsearch.utils.command_line import ArgumentParser, add_runs
from sepsearch.utils.errors import exit_on_user_error
from sepsearch.utils.output import OUTPUT, write_json, write_note
from sepsearch.utils.terminal_text import write_line

DESCRIPTION = "Copy a run's journal, results, report, models and finalists here, for report, promote, export and track."
EXAMPLES = (("urmp --storage s3://bucket/runs", "bring the run to runs/urmp"),)


def make_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser("fetch", DESCRIPTION, EXAMPLES)
    parser.add_argument("name", metavar="NAME", help="the run's name")
    parser.add_argument("--storage", metavar="WHERE", required=True, help="where the run is, such as s3://bucket/runs")
    add_runs(parser.add_argument)
    parser.add_general(json="print folder and note")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Copy a run here.

    Raises `UserError`: there is no such run, the storage does not answer, or the disk is full.
    """
    options = make_parser().parse_args(argv)

    from sepsearch.runs.folder import fetch_run

    folder = options.runs / options.name
    note = fetch_run(options.storage, options.name, folder)
    if OUTPUT.json:
        write_json({"folder": folder, "note": note})
        return
    if note:
        write_note(f"note: {note}", error=True)
    write_line(folder)


if __name__ == "__main__":
    exit_on_user_error(main)
