"""`python -m sepsearch.compare RUN RUN …`: runs side by side, as tables and a page; their rows as CSV or Parquet."""

import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from sepsearch.utils.command_line import ArgumentParser, add_runs
from sepsearch.utils.errors import UserError, exit_on_user_error
from sepsearch.utils.output import OUTPUT, write_json, write_note
from sepsearch.utils.terminal_text import write_line

DESCRIPTION = (
    "Compare runs with the first one: spaces, budgets, progress, final models with their significance, as tables here"
    " and as one HTML file. With --export, write their trials, learning curves and seeds as tables for other programs."
)
EXAMPLES = (
    ("urmp urmp-2 urmp-3 --open", "tables, and compare.html in the browser"),
    ("urmp s3://bucket/runs/urmp ../other/runs/urmp-2", "a name, a URI, a path"),
    ("urmp --export tables --format parquet", "one run for pandas: trials, curves, seeds"),
)


def make_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser("compare", DESCRIPTION, EXAMPLES)
    runs = "a run: its name, its folder's path (with a /), or a URI such as s3://bucket/runs/urmp"
    parser.add_argument("names", metavar="RUN", nargs="+", help=runs)
    add_runs(parser.add_argument)
    page = "the page, one HTML file (default: %(default)s)"
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, default=Path("compare.html"), help=page)
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    export = "write trials, curves and seeds of the runs there; one run is enough then (default: no tables)"
    parser.add_argument("--export", metavar="DIR", type=Path, help=export)
    form = "of the exported tables (default: %(default)s)"
    parser.add_argument("--format", choices=("csv", "parquet"), default="csv", help=form)
    parser.add_general(json="print the comparison")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print the comparison, write the page and, if asked, the tables. Raises `UserError`."""
    options = make_parser().parse_args(argv)
    if len(options.names) == 1 and not options.export:
        raise UserError("RUN: found one run, expected two or more (one is enough with --export): name another")

    from sepsearch.reporting.comparison.facts import gather_comparison
    from sepsearch.reporting.comparison.page import write_comparison
    from sepsearch.reporting.comparison.terminal import comparison_facts, make_view
    from sepsearch.runs.table_files import write_tables
    from sepsearch.utils.terminal_console import make_console

    with tempfile.TemporaryDirectory(prefix="sepsearch-compare-") as copies:
        comparison = gather_comparison(options.names, options.runs, Path(copies))
    several = len(comparison.runs) > 1
    page = write_comparison(comparison, options.output, options.runs) if several else None
    states = [one.run for one in comparison.runs]
    files = write_tables(states, options.export, options.format) if options.export else []
    if OUTPUT.json:
        write_json(comparison_facts(comparison) | {"page": page, "files": files})
    else:
        console = make_console()
        for part in make_view(comparison) if several else ():
            console.print(part)
        for path in filter(None, (page, *files)):
            write_line(path)
    if options.open and page and not webbrowser.open(page.absolute().as_uri()):
        write_note(f"no browser was found: open {page.absolute().as_uri()}")


if __name__ == "__main__":
    exit_on_user_error(main)
