"""`python -m sepsearch.watch NAME`: progress of a search, from any machine that reads its storage; read only."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from sepsearch.monitoring.follow import GETTING_READY, Watched, far_hints, local_hints, wait_for_begin, watch
from sepsearch.runs.folder import follow_run
from sepsearch.runs.run_folder import check_name
from sepsearch.utils.command_line import ArgumentParser, add_runs
from sepsearch.utils.errors import UserError, exit_on_user_error
from sepsearch.utils.output import OUTPUT, write_json

EVERY = 2.0  # seconds
LEAST, MOST = 0.2, 3600.0
DESCRIPTION = (
    "Follow a running search on the terminal, or show a finished one; without a terminal, print its present state."
)
EXAMPLES = (
    ("urmp", "follow a run of this machine until it ends"),
    ("urmp --storage s3://bucket/runs", "from any machine that reads its storage"),
    ("urmp --json | jq .best.ratio", "one number for a script"),
)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not LEAST <= seconds <= MOST:
        raise UserError(f"--every {text!r}: expected seconds from {LEAST:g} to {MOST:g}")
    return seconds


def make_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser("watch", DESCRIPTION, EXAMPLES)
    parser.add_argument("name", metavar="NAME", help="the run's name")
    add = parser.add_argument_group("where the run is").add_argument
    add_runs(add)
    add("--storage", metavar="WHERE", help="a shared folder, or a URI such as s3://bucket/runs (default: --runs)")
    add = parser.add_argument_group("updates").add_argument
    add("--once", action="store_true", help="print the present state and exit; --json does so, too")
    add("--every", type=_seconds, default=EVERY, metavar="SECONDS", help="interval of updates (default: %(default)g)")
    parser.add_general(quiet=False, json="print the present state")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Show a run's state until it ends, or once. Raises `UserError`."""
    options = make_parser().parse_args(argv)
    once = options.once or OUTPUT.json
    from sepsearch.utils.terminal_console import make_console

    console = make_console(error=OUTPUT.json)
    folder = options.runs / check_name(options.name, "NAME")
    if options.storage is None and not wait_for_begin(folder, console, options.every, once):
        if OUTPUT.json:
            write_json({"name": options.name, "state": GETTING_READY})
        return
    with tempfile.TemporaryDirectory(prefix="sepsearch-watch-") as copies:
        folder, refresh = follow_run(options.runs, options.storage, options.name, Path(copies))
        here = folder != Path(copies)
        hints = (lambda: local_hints(folder)) if here else lambda: far_hints(options.name, options.storage)
        watched = Watched(refresh)
        if OUTPUT.json:
            from sepsearch.monitoring.run_facts import run_facts

            watched.look()
            write_json(run_facts(watched.run, watched.now, hints().resume))
            return
        watch(watched, hints, console, options.every, once)


if __name__ == "__main__":
    exit_on_user_error(main)
