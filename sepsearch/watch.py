"""`python -m sepsearch.watch NAME`: progress of a search, from any machine that reads its storage; read only."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sepsearch.monitoring.follow import Watched, far_hints, local_hints, watch
from sepsearch.runs.folder import follow_run
from sepsearch.utils.command_line import ArgumentParser
from sepsearch.utils.errors import UserError, exit_on_user_error

EVERY = 2.0  # seconds
LEAST, MOST = 0.2, 3600.0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not LEAST <= seconds <= MOST:
        raise UserError(f"--every {text!r}: expected seconds from {LEAST:g} to {MOST:g}")
    return seconds


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(prog="python -m sepsearch.watch", description=main.__doc__)
    parser.add_argument("name", metavar="NAME", help="the run's name")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders are (default: runs)")
    parser.add_argument("--storage", help="where the run is: a shared folder, or a URI such as s3://bucket/runs")
    parser.add_argument("--once", action="store_true", help="print the present state and exit")
    parser.add_argument(
        "--every", type=_seconds, default=EVERY, metavar="SECONDS", help=f"interval of updates ({EVERY:g})"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Follow a running search on the terminal, or show a finished one; without a terminal, print its present state."""
    from sepsearch.utils.terminal_console import make_console

    options = _parse(argv)
    console = make_console()
    with tempfile.TemporaryDirectory(prefix="sepsearch-watch-") as copies:
        folder, refresh = follow_run(options.runs, options.storage, options.name, Path(copies))
        here = folder != Path(copies)
        hints = (lambda: local_hints(folder)) if here else lambda: far_hints(options.name, options.storage)
        watch(Watched(refresh), hints, console, options.every, options.once)


if __name__ == "__main__":
    exit_on_user_error(main)
