"""`python -m sepsearch.replay RUN…`: recorded searches over again in virtual time, with other samplers and rungs."""

import argparse
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from sepsearch.command_line import ArgumentParser, positive
from sepsearch.config import SearchSettings, Space
from sepsearch.errors import UserError, exit_on_user_error
from sepsearch.files import write_atomically
from sepsearch.pool import Draw, Pool
from sepsearch.recorded import load_runs, make_pool
from sepsearch.run_folder import find_run
from sepsearch.simulation import Outcome, Strategy, simulate

FACTORS = (2, 3, 4)
TELLS = get_args(SearchSettings.model_fields["tell"].annotation)
MOST_TRIALS = 24
GP_SEEDS = 3  # its proposals take half a second each, a hundred times TPE's


def make_strategies(space: Space, epochs: int) -> list[Strategy]:
    """What is compared: samplers with the run's own rungs and without any, other rungs and other tells with TPE."""
    search = space.search
    grace, factor, tell = search.grace_epochs, search.reduction_factor, search.tell
    wanted = [Strategy(sampler, grace, rungs, tell) for sampler in ("random", "tpe", "gp") for rungs in (None, factor)]
    wanted.remove(Strategy("gp", grace, None, tell))  # the slowest: every trial that finishes makes the next one slower
    wanted += [Strategy("tpe", grace, other, tell) for other in FACTORS]
    wanted += [Strategy("tpe", other, factor, tell) for other in (max(1, grace // 2), 2 * grace)]
    wanted += [Strategy("tpe", grace, factor, other) for other in TELLS]
    return [one for one in dict.fromkeys(wanted) if one.factor is None or one.grace < epochs]


@dataclass(frozen=True)
class Job:
    """What all searches of a replay have in common."""

    pool: Pool
    trials: int
    workers: int

    def run(self, strategy: Strategy, seed: int) -> Outcome:
        """One search."""
        return simulate(Draw(self.pool), self.pool.space, strategy, trials=self.trials, epochs=self.pool.epochs,
                        workers=self.workers, seed=seed)  # fmt: skip


def replay(job: Job, strategies: Sequence[Strategy], seeds: int, gp_seeds: int = GP_SEEDS,
           processes: int = 1) -> dict[Strategy, list[Outcome]]:  # fmt: skip
    """Every strategy with every seed, in several processes if so wanted; the same numbers either way."""
    tasks = [
        (one, seed) for one in strategies for seed in range(min(seeds, gp_seeds) if one.sampler == "gp" else seeds)
    ]
    # The slow ones first, so that no process ends alone with one.
    order = sorted(tasks, key=lambda task: task[0].sampler != "gp")
    if processes == 1:
        done = dict(zip(order, [job.run(*task) for task in order], strict=True))
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, context, _one_thread) as executor:
            done = dict(zip(order, executor.map(job.run, *zip(*order, strict=True)), strict=True))
    return {one: [done[task] for task in tasks if task[0] == one] for one in strategies}


def _one_thread() -> None:
    import torch  # the Gaussian process computes with it

    torch.set_num_threads(1)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(prog="python -m sepsearch.replay", description=main.__doc__)
    add = parser.add_argument
    add("names", nargs="+", metavar="RUN", help="a run's name; several of one space are taken together")
    add("--runs", type=Path, default=Path("runs"), help="where run folders are (default: runs)")
    add("--seeds", type=positive, default=20, help="searches of every strategy (default: 20)")
    add("--gp-seeds", type=positive, default=GP_SEEDS, help=f"the same for gp, which is slow (default: {GP_SEEDS})")
    add("--trials", type=positive, help=f"of every search; half of those recorded by default, at most {MOST_TRIALS}")
    add("--epochs", type=positive, help="full budget of a trial; the runs' own by default, a smaller one knows more")
    add("--workers", type=positive, default=2, help="simulated trials at once (default: 2)")
    add("--partial", action="store_true", help="use stopped trials, too, up to the epoch where they were stopped")
    add("-o", "--output", type=Path, help="picture to write (default: replay.png in the first run's folder)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Replay recorded searches under other samplers, rungs and tells; a table, a picture, and what ASHA has missed."""
    from sepsearch import replay_page
    from sepsearch.terminal_console import make_console

    options = _parse(argv)
    recorded = load_runs(options.runs, options.names)
    pool = make_pool(recorded, options.epochs, options.partial)
    trials = options.trials or max(2, min(MOST_TRIALS, len(pool) // 2))
    if trials > len(pool):
        raise UserError(f"--trials {trials}: {len(pool)} recorded trials can be used, expected at most as many")
    console = make_console(plain_width=140)
    say: Callable[[str], None] = lambda text: console.print(text, soft_wrap=True)  # noqa: E731
    for line in replay_page.describe(recorded, pool, trials, options.workers):
        say(line)
    job = Job(pool, trials, options.workers)
    strategies = make_strategies(recorded.space, pool.epochs)
    results = replay(job, strategies, options.seeds, options.gp_seeds, os.cpu_count() or 1)
    console.print(replay_page.make_table(results, pool))
    say(replay_page.audit_line(recorded.audit, recorded.space))
    output = options.output or find_run(options.runs, recorded.names[0], "RUN") / "replay.png"
    write_atomically(output, replay_page.draw(results, recorded.space, pool))
    say(f"best so far against epochs spent: {output}")


if __name__ == "__main__":
    exit_on_user_error(main)
