"""`python -m sepsearch.replay RUN…`: recorded searches in virtual time, with other samplers and rungs."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from sepsearch.runs.run_folder import find_run
from sepsearch.utils.command_line import ArgumentParser, add_runs, positive
from sepsearch.utils.errors import UserError, exit_on_user_error
from sepsearch.utils.files import write_atomically
from sepsearch.utils.output import OUTPUT, write_json

MOST_TRIALS = 24
GP_SEEDS = 3  # its proposals take half a second each, a hundred times TPE's


DESCRIPTION = (
    "Replay recorded searches with other samplers, rungs and values of stopped trials, in virtual time; a table and a"
    " picture."
)
EXAMPLES = (
    ("urmp", "every strategy with 20 seeds"),
    ("urmp urmp-2 --epochs 20 --partial", "two runs of one space, a smaller budget, stopped trials as well"),
)


def make_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser("replay", DESCRIPTION, EXAMPLES)
    parser.add_argument("names", nargs="+", metavar="RUN", help="a run's name; several of one space are taken together")
    add = parser.add_argument_group("recorded trials").add_argument
    add_runs(add)
    epochs = "full budget of a trial; more trials reach a smaller one (default: the runs' own)"
    add("--epochs", metavar="N", type=positive, help=epochs)
    add("--partial", action="store_true", help="use stopped trials, too, up to the epoch where they were stopped")
    add = parser.add_argument_group("simulated searches").add_argument
    add("--seeds", metavar="N", type=positive, default=20, help="searches of every strategy")
    add("--gp-seeds", metavar="N", type=positive, default=GP_SEEDS, help="the same for gp, which is slow")
    trials = f"trials of every search (default: half of those recorded, at most {MOST_TRIALS})"
    add("--trials", metavar="N", type=positive, help=trials)
    add("--workers", metavar="N", type=positive, default=2, help="simulated trials at once")
    picture = "picture to write (default: replay.png in the first run's folder)"
    add("-o", "--output", metavar="FILE", type=Path, help=picture)
    parser.add_general(json="print the numbers of all strategies")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Replay recorded searches, print a table, and write a picture. Raises `UserError`."""
    options = make_parser().parse_args(argv)
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
    console.quiet = OUTPUT.json
    say: Callable[[str], None] = lambda text: console.print(text, soft_wrap=True)  # noqa: E731
    for line in () if OUTPUT.quiet else comparison.describe(recorded, pool, trials, options.workers):
        say(line)
    job = Job(pool, trials, options.workers)
    strategies = make_strategies(recorded.space, pool.epochs)
    results = replay(job, strategies, options.seeds, options.gp_seeds, os.cpu_count() or 1)
    console.print(comparison.make_table(results, pool))
    say(comparison.audit_line(recorded.audit, recorded.space))
    output = options.output or find_run(options.runs, recorded.names[0], "RUN") / "replay.png"
    write_atomically(output, comparison.draw(results, recorded.space, pool))
    say(f"best so far against epochs spent: {output}")
    if OUTPUT.json:
        write_json({**comparison.replay_facts(recorded, pool, trials, results), "picture": output})


if __name__ == "__main__":
    exit_on_user_error(main)
