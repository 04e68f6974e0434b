"""`python -m sepsearch.report NAME`: the run report, made again from its journal and samples."""

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from sepsearch.runs.run_folder import find_run
from sepsearch.utils.command_line import ArgumentParser
from sepsearch.utils.errors import exit_on_user_error
from sepsearch.utils.terminal_text import write_line


def main(argv: Sequence[str] | None = None) -> None:
    """Write the run report: one HTML file that opens in any browser, whatever state the run is in."""
    parser = ArgumentParser(prog="python -m sepsearch.report", description=main.__doc__)
    parser.add_argument("name", metavar="NAME", help="the run's name")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders are (default: runs)")
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    options = parser.parse_args(argv)
    folder = find_run(options.runs, options.name, "NAME")

    from sepsearch.reporting.page import write_report

    path = write_report(folder)
    write_line(path)
    if options.open and not webbrowser.open(path.absolute().as_uri()):
        write_line(f"no browser was found: open {path.absolute().as_uri()}")


if __name__ == "__main__":
    exit_on_user_error(main)
