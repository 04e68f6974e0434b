"""Replay recorded searches in virtual time: every strategy with several seeds, in parallel processes."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import get_args

from sepsearch.search.stopping.methods import METHODS
from sepsearch.simulation.curve_table import Draw, Pool
from sepsearch.simulation.simulator import Outcome, Strategy, simulate
from sepsearch.spaces.space import SearchSettings, Space

FACTORS = (2, 3, 4)
TELLS = get_args(SearchSettings.model_fields["tell"].annotation)


def make_strategies(space: Space, epochs: int) -> list[Strategy]:
    """Compared strategies: samplers with the run's rungs and without; with TPE other rungs, methods and `tell`."""
    search = space.search
    grace, factor, tell = search.grace_epochs, search.reduction_factor, search.tell
    wanted = [Strategy(sampler, grace, rungs, tell) for sampler in ("random", "tpe", "gp") for rungs in (None, factor)]
    wanted.remove(Strategy("gp", grace, None, tell))  # the slowest: every trial that finishes makes the next one slower
    wanted += [Strategy("tpe", grace, other, tell) for other in FACTORS]
    wanted += [Strategy("tpe", other, factor, tell) for other in (max(1, grace // 2), 2 * grace)]
    wanted += [Strategy("tpe", grace, factor, other) for other in TELLS]
    wanted += [Strategy("tpe", grace, factor, tell, stopping) for stopping in METHODS if stopping != "none"]
    return [one for one in dict.fromkeys(wanted) if one.factor is None or one.grace < epochs]


@dataclass(frozen=True)
class Job:
    """What all searches of a replay have in common."""

    pool: Pool
    trials: int
    workers: int

    def run(self, strategy: Strategy, seed: int) -> Outcome:
        """One search."""
        return simulate(
            Draw(self.pool),
            self.pool.space,
            strategy,
            trials=self.trials,
            epochs=self.pool.epochs,
            workers=self.workers,
            seed=seed,
        )


def replay(
    job: Job, strategies: Sequence[Strategy], seeds: int, gp_seeds: int | None = None, processes: int = 1
) -> dict[Strategy, list[Outcome]]:
    """Every strategy with every seed, in several processes if so wanted; the same numbers either way.

    Args:
        job: what all searches have in common.
        strategies: what is compared.
        seeds: searches of every strategy.
        gp_seeds: the same for the sampler gp, which is slow; at most `seeds`.
        processes: at once.
    """
    few = min(seeds, gp_seeds or seeds)
    tasks = [(one, seed) for one in strategies for seed in range(few if one.sampler == "gp" else seeds)]
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
