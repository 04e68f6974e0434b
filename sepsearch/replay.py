"""`python -m sepsearch.replay RUN…`: recorded searches in virtual time, with other samplers and rungs."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from sepsearch.runs.run_folder import find_run
from sepsearch.utils.command_line import ArgumentParser, positive
from sepsearch.utils.errors import UserError, exit_on_user_error
from sepsearch.utils.files import write_atomically

MOST_TRIALS = 24
GP_SEEDS = 3  # its proposals take half a second each, a hundred times TPE's


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(prog="python -m sepsearch.replay", description=main.__doc__)
    add = parser.add_argument
    add("names", nargs="+", metavar="RUN", help="a run's name; several of one space are taken together")
    add("--runs", type=Path, default=Path("runs"), help="where run folders are (default: runs)")
    add("--seeds", type=positive, default=20, help="searches of every strategy (default: 20)")
    add("--gp-seeds", type=positive, default=GP_SEEDS, help=f"the same for gp, which is slow (default: {GP_SEEDS})")
    add("--trials", type=positive, help=f"of every search; half of those recorded by default, at most {MOST_TRIALS}")
    add(
        "--epochs",
        type=positive,
        help="full budget of a trial; the runs' own by default; more trials reach a smaller one",
    )
    add("--workers", type=positive, default=2, help="simulated trials at once (default: 2)")
    add("--partial", action="store_true", help="use stopped trials, too, up to the epoch where they were stopped")
    add("-o", "--output", type=Path, help="picture to write (default: replay.png in the first run's folder)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Replay recorded searches with other samplers, rungs and values of stopped trials; a table and a picture."""
    options = _parse(argv)
    # Below are torch and Optuna's space, which a mistake on the command line need not wait for.
    from sepsearch.simulation import comparison
    from sepsearch.simulation.recorded_runs import load_runs, make_pool
    from sepsearch.simulation.replay import Job, make_strategies, replay
    from sepsearch.utils.terminal_console import make_console

    recorded = load_runs(options.runs, options.names)
    pool = make_pool(recorded, options.epochs, options.partial)
    trials = options.trials or max(2, min(MOST_TRIALS, len(pool) // 2))
    if trials > len(pool):
        raise UserError(f"--trials {trials}: {len(pool)} recorded trials can be used, expected at most as many")
    console = make_console(plain_width=140)
    say: Callable[[str], None] = lambda text: console.print(text, soft_wrap=True)  # noqa: E731
    for line in comparison.describe(recorded, pool, trials, options.workers):
        say(line)
    job = Job(pool, trials, options.workers)
    strategies = make_strategies(recorded.space, pool.epochs)
    results = replay(job, strategies, options.seeds, options.gp_seeds, os.cpu_count() or 1)
    console.print(comparison.make_table(results, pool))
    say(comparison.audit_line(recorded.audit, recorded.space))
    output = options.output or find_run(options.runs, recorded.names[0], "RUN") / "replay.png"
    write_atomically(output, comparison.draw(results, recorded.space, pool))
    say(f"best so far against epochs spent: {output}")


if __name__ == "__main__":
    exit_on_user_error(main)
