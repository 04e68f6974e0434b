"""`python -m sepsearch.report NAME`: the run report, made again from its journal and samples."""

import webbrowser
from collections.abc import Sequence

from sepsearch.runs.run_folder import find_run
from sepsearch.utils.command_line import ArgumentParser, add_runs
from sepsearch.utils.errors import exit_on_user_error
from sepsearch.utils.output import OUTPUT, write_json, write_note
from sepsearch.utils.terminal_text import write_line

DESCRIPTION = "Write the run report: one HTML file that opens in any browser, whatever state the run is in."
EXAMPLES = (("urmp --open", "write runs/urmp/report.html and open it"),)


def make_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser("report", DESCRIPTION, EXAMPLES)
    parser.add_argument("name", metavar="NAME", help="the run's name")
    add_runs(parser.add_argument)
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    parser.add_general(json="print the report's path")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write a run's report, and print its path. Raises `UserError`."""
    options = make_parser().parse_args(argv)
    folder = find_run(options.runs, options.name, "NAME")

    from sepsearch.reporting.page import write_report

    path = write_report(folder)
    if OUTPUT.json:
        write_json({"report": path})
    else:
        write_line(path)
    if options.open and not webbrowser.open(path.absolute().as_uri()):
        write_note(f"no browser was found: open {path.absolute().as_uri()}")


if __name__ == "__main__":
    exit_on_user_error(main)
