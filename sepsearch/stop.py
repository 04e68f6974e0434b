"""`python -m sepsearch.stop NAME`: end trials of a running search, the search or the run, from any machine."""

import argparse
import math
from collections.abc import Sequence

from sepsearch.utils.command_line import ArgumentParser, add_runs
from sepsearch.utils.errors import UserError, exit_on_user_error
from sepsearch.utils.output import OUTPUT, write_json
from sepsearch.utils.terminal_text import write_line

WAIT = 60.0  # seconds
DESCRIPTION = (
    "End a running search now and go on to its finalists; with names, end these trials alone; with --all, the whole"
    " run."
)
EXAMPLES = (
    ("urmp t0012 t0013", "these two trials end after their present epoch; the search goes on"),
    ("urmp", "the search is over: running trials end, and the finalists are trained now"),
    ("urmp c1-s3", "a finalist's seed"),
    ("urmp --all", "the whole run, as by Ctrl-C; it goes on with run --resume urmp"),
    ("urmp --storage s3://bucket/runs", "from any machine that writes its storage"),
)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}, expected seconds, 0 or more")
    return seconds


def make_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser("stop", DESCRIPTION, EXAMPLES)
    parser.intermixed = True
    parser.add_argument("name", metavar="NAME", help="the run's name")
    parser.add_argument("jobs", metavar="TRIAL", nargs="*", help="trials such as t0012, finalists' seeds such as c1-s3")
    parser.add_argument("--all", action="store_true", help="end the whole run, as by Ctrl-C; nothing more is trained")
    wait = "how long to wait until the run has taken it; 0 for not at all (default: %(default)g)"
    parser.add_argument("--wait", metavar="SECONDS", type=_seconds, default=WAIT, help=wait)
    add = parser.add_argument_group("where the run is").add_argument
    add_runs(add)
    where = "a shared folder, or a URI such as s3://bucket/runs (default: the run's own, or --runs)"
    add("--storage", metavar="WHERE", help=where)
    parser.add_general(json="print what was asked and what became of it")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Ask a run to stop something, and print what becomes of it. Raises `UserError`."""
    options = make_parser().parse_args(argv)
    if options.jobs and options.all:
        raise UserError("--all ends the whole run: leave it out, or the names of trials")
    from sepsearch.pipeline.stop_command import stop_run
    from sepsearch.utils.terminal_console import make_console

    console = make_console(error=True)
    console.quiet = OUTPUT.quiet
    jobs = None if options.all else options.jobs
    place = (options.runs, options.storage, options.name)
    with console.status("asking the run") as status:
        request, answer = stop_run(*place, jobs, options.wait, status.update)
    if OUTPUT.json:
        asked = {"name": options.name, "what": request.what, "jobs": list(request.jobs)}
        write_json({**asked, "taken": answer.taken, "outcome": list(answer.lines)})
        return
    for line in answer.lines:
        write_line(line)


if __name__ == "__main__":
    exit_on_user_error(main)
