"""`python -m sepsearch.run`: recordings and a search space in, the best network for every instrument out."""

import json
import sys

from sepsearch.runs.options import make_parser, parse_arguments
from sepsearch.utils.errors import EXIT_FAILED, EXIT_INTERRUPTED, exit_on_user_error
from sepsearch.utils.output import OUTPUT, write_json

__all__ = ["main", "make_parser"]


def main(argv: list[str] | None = None) -> None:
    """Run a search from its command line. Raises `UserError`; exits with 130 after Ctrl-C, 1 without a model."""
    options = parse_arguments(argv)
    from sepsearch.utils.terminal_console import make_console

    console = make_console(error=OUTPUT.json)
    console.quiet = OUTPUT.quiet
    with console.status("loading"):
        # Seconds of imports, which a mistake on the command line need not wait for.
        from sepsearch.pipeline.whole_run import carry_out

    state, begin = carry_out(options, console)
    results = begin.folder / "results.json"
    if OUTPUT.json and results.exists():
        write_json(json.loads(results.read_bytes()))
    if state != "finished":
        sys.exit(EXIT_INTERRUPTED if state == "interrupted" else EXIT_FAILED)


if __name__ == "__main__":
    exit_on_user_error(main)
