"""Crash a search at every operation that changes the disk, resume it, and compare its results with those of one that
never crashed.

python scripts/benchmarks/crash_points.py  # all modes, every point: half an hour
python scripts/benchmarks/crash_points.py --mode death kept --points 20  # some modes, a seeded 20 points of each
python scripts/benchmarks/crash_points.py --sites  # one point of every mode for every line of code
python scripts/benchmarks/crash_points.py --output docs/benchmarks.md  # the table as a section of that page
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench_table import Part, machine, write_section

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "robustness"), str(TESTS / "support")]

from crash_explorer import Explorer, Outcome, Point  # noqa: E402
from crash_modes import MODES  # noqa: E402
from crash_tasks import TASKS  # noqa: E402

HOW = """\
`python scripts/benchmarks/crash_points.py`, half an hour.

A search of three trials, two finalists with two seeds and an instrument with too few titles is crashed at **every**
operation by which it changes files ({search}: a file or folder made, written to, fsynced, renamed or removed), and so
are the preparation of its shards ({prepare}) and its extension by two trials ({continue}). Each crash ends a process
without any clean-up (but for fault, full, stop and abort), another one goes on with `--resume` (or with the same
command where run or extension had not begun), and
all of these must be as without the crash: `results.json` but for `seconds`, the weights of the models, the names of all
files. No line of the journal that was fsynced may be lost. Ray and MLflow are left out, units are trained one after the
other. Points that leave the same files, byte for byte, are tried once.

The power cut goes by POSIX, which is harsher than most file systems: content lasts once its file was fsynced, names
last once their folder was.
"""
HEADER = """\
| mode | | points | crashes tried | survived | epochs trained again, most |
| --- | --- | ---: | ---: | ---: | ---: |"""


def table(outcomes: Sequence[Outcome]) -> str:
    """A row for every mode, Markdown."""
    rows = []
    for mode, text in MODES.items():
        own = [outcome for outcome in outcomes if outcome.mode == mode]
        survived = [outcome for outcome in own if not outcome.problem]
        if own:
            tried, again = sum(o.tried for o in own), max((o.again for o in survived), default=0)
            rows.append(f"| {mode} | {text} | {len(own)} | {tried} | {len(survived)} | {again} |")
    return "\n".join([HEADER, *rows])


def explore(name: str, options: argparse.Namespace) -> tuple[int, list[Outcome]]:
    """Operations of a task, and the outcomes of the points that the options ask for."""
    begin = time.monotonic()

    def tell(outcome: Outcome) -> None:
        if outcome.problem:
            print(f"{name}: {outcome}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="crash-points-") as scratch:
        explorer = Explorer(Path(scratch), TASKS[name], options.jobs)
        points: list[Point] = []
        for mode in options.mode:
            if options.sites:
                points += explorer.sites(mode)
            elif options.points:
                points += explorer.sample(mode, options.points, options.seed)
            else:
                points += explorer.points(mode)
        outcomes = explorer.explore(points, tell)
    survived = sum(not outcome.problem for outcome in outcomes)
    seconds = time.monotonic() - begin
    print(f"{name}: {survived} of {len(outcomes)} points survived, {seconds:.0f} s", file=sys.stderr, flush=True)
    return len(explorer.operations), outcomes


def read_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="crash_points.py", description=__doc__.partition("\n\n")[0] if __doc__ else None
    )
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES), help="kinds of crash (default: all)")
    parser.add_argument("--points", type=int, help="how many of every mode, drawn by the seed (default: all)")
    parser.add_argument("--sites", action="store_true", help="one point of every mode for every line of code")
    parser.add_argument("--seed", type=int, default=0, help="of the points, where not all are tried")
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS), help="what is crashed (default: all)")
    parser.add_argument("--jobs", type=int, default=2, help="points tried at once (default: 2)")
    parser.add_argument("--output", type=Path, help="page of which the tables become a section")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Crash, count, print, write; the exit status is 1 unless all survived."""
    options, facts = read_arguments(arguments), machine()
    found = {name: explore(name, options) for name in options.task}
    counts = {name: str(found[name][0]) if name in found else "–" for name in TASKS}
    tables = [f"**{name}**\n\n{table(outcomes)}" for name, (_, outcomes) in found.items()]
    lost = [f"{name}: {outcome}" for name, (_, outcomes) in found.items() for outcome in outcomes if outcome.problem]
    part = Part("crash points", "\n\n".join([HOW.format(**counts).strip(), *tables]), [], lost)
    print("\n".join([part.how, "", *(f"- {note}" for note in part.notes)]))
    if options.output:
        write_section(options.output, part, facts)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
