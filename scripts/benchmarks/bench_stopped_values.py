"""What the sampler should be told of a trial that ASHA stopped: the three tells beside each other.

python scripts/benchmarks/bench_stopped_values.py record  # train the table of curves anew (half an hour on two cores)
python scripts/benchmarks/bench_stopped_values.py curves  # searches simulated on that table (minutes); in bench.py, too
python scripts/benchmarks/bench_stopped_values.py real  # searches that train (half an hour on two cores)
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import stopped_values_task as task
from bench_table import Figure, Part, Settings

from sepsearch.search.protocol import Params
from sepsearch.simulation.curve_table import Draw, Pool, read_table
from sepsearch.simulation.simulator import Outcome, Source, Strategy, interval, simulate
from sepsearch.spaces.space import Space

TELLS = ("pruned", "last", "extrapolated")
TABLE = Path(__file__).resolve().parent / "curves" / "laptop_vn.json"
CONFIGURATIONS = 210
GRACE, FACTOR, WORKERS = 1, 3, 2
CURVE_SEEDS = {"tpe": 60, "gp": 20}
CURVE_EPOCHS = 12
CURVE_BUDGET = {"tpe": 108, "random": 108, "gp": 60}  # epochs of all trials of a search together; gp is slow
REAL_SEEDS, REAL_EPOCHS, REAL_BUDGET = 20, 9, 54
HOW = f"""\
Which tell finds the best configuration for the same number of training epochs. Searches in virtual time
(`sepsearch.simulation.simulator`, the plan, rungs and sampler of a real search) on `curves/laptop_vn.json`:
{CONFIGURATIONS} random configurations of a space like search_spaces/laptop.yaml, trained on the demo ensemble's violin,
{task.EXAMPLES} examples an epoch. ASHA with rungs {GRACE}, {GRACE * FACTOR}, {GRACE * FACTOR**2} and factor {FACTOR},
{WORKERS} trials at once, {CURVE_EPOCHS} epochs a trial, {CURVE_BUDGET["tpe"]} epochs a search. A proposed configuration
is replaced by the nearest recorded one that this search has not used, and the sampler learns about that one.

*final*: the best ratio at the end of the search; *on the way*: the mean over all epochs spent of the best ratio so far,
1 (doing nothing) before any trial has finished. Only trials that reached the full budget count. A repeat is a seed of
the sampler, the same for all tells; `pruned` stands beside. Figures are ratios to identity, smaller is better.
"""


def search(
    source: Source,
    space: Space,
    sampler: str,
    tell: str,
    seed: int,
    *,
    epochs: int,
    budget: int,
    trials: int,
    network_seed: int = 0,
    factor: int = FACTOR,
) -> dict[str, Any]:
    """One search told one way, as numbers."""
    strategy = Strategy(sampler, GRACE, factor, tell)
    outcome = simulate(
        source,
        space,
        strategy,
        trials=trials,
        epochs=epochs,
        workers=WORKERS,
        seed=seed,
        budget=budget,
        network_seed=network_seed,
    )
    return {"sampler": sampler, "tell": tell, "seed": seed, **numbers(outcome, budget)}


def numbers(outcome: Outcome, budget: int) -> dict[str, Any]:
    """What is compared; a search in which no trial finished has found identity."""
    best = outcome.best if outcome.steps else 1.0
    return {"final": best, "on the way": outcome.mean_until(budget), "epochs": outcome.epochs, **outcome.ended}


def table_searches(sampler: str, seed: int, factor: int = FACTOR) -> list[dict[str, Any]]:
    """The searches of one seed on the table, one for each tell."""
    import torch

    torch.set_num_threads(1)
    about, curves = read_table(TABLE)
    space = task.parse(about["space"])
    pool = Pool(space, curves, CURVE_EPOCHS)
    settings = {"epochs": CURVE_EPOCHS, "budget": CURVE_BUDGET[sampler], "trials": len(pool)}
    return [search(Draw(pool), space, sampler, tell, seed, factor=factor, **settings) for tell in TELLS]


class Trained:
    """Configurations trained when they are asked for, each once: a curve continues where another search left it."""

    def __init__(self, seed: int, epochs: int):
        self.seed, self.epochs = seed, epochs
        self._curves: dict[str, tuple[list[Params], Iterator[Params]]] = {}

    def pick(self, params: Params) -> Params:
        """Every configuration can be had."""
        return params

    def end(self, params: Params) -> None:
        """Nothing is known without training."""

    def train(self, params: Params) -> Iterator[Params]:
        """What a worker reports; every epoch counts as one second, so that the order depends on no clock."""
        known, rest = self._curves.setdefault(json.dumps(params, sort_keys=True), ([], self._fresh(params)))
        for number in range(self.epochs):
            if number == len(known):
                known.append(next(rest))
            yield known[number]

    def _fresh(self, params: Params) -> Iterator[Params]:
        from sepsearch.training.members import TrainingFailed

        try:
            for step in task.train(params, task.worker_data(), self.seed, self.epochs, task.SMALL):
                yield {
                    "epoch": step.epoch,
                    "ratio": step.ratio,
                    "seconds": 1.0,
                    "examples_per_second": 0.0,
                    "members": [],
                }
        except TrainingFailed as failure:
            yield {"failed": str(failure), "seconds": 1.0}


def real_searches(sampler: str, seed: int) -> list[dict[str, Any]]:
    """The searches of one seed with training, one for each tell."""
    source, space = Trained(seed, REAL_EPOCHS), task.task_space()
    return [
        search(
            source,
            space,
            sampler,
            tell,
            seed,
            epochs=REAL_EPOCHS,
            budget=REAL_BUDGET,
            trials=REAL_BUDGET,
            network_seed=seed,
        )
        for tell in TELLS
    ]


def run(
    job: Callable[[str, int], list[dict[str, Any]]],
    seeds: dict[str, int],
    prepare: Callable[[], None] | None,
    output: Path | None = None,
) -> list[dict[str, Any]]:
    """All seeds of all samplers, a process a core; written to `output` as they come."""
    rows: list[dict[str, Any]] = []
    begin = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=prepare) as processes:
        jobs = [processes.submit(job, sampler, seed) for sampler, count in seeds.items() for seed in range(count)]
        for done in as_completed(jobs):
            rows += done.result()
            print(
                f"{len(rows)} of {len(jobs) * len(TELLS)} searches, {time.monotonic() - begin:.0f} s",
                file=sys.stderr,
                flush=True,
            )
            if output:
                output.write_text(json.dumps(rows))
    return sorted(rows, key=lambda row: (row["sampler"], TELLS.index(row["tell"]), row["seed"]))


def values(rows: Sequence[dict[str, Any]], sampler: str, tell: str, name: str) -> list[float]:
    """One number of every seed, in order."""
    return [row[name] for row in rows if (row["sampler"], row["tell"]) == (sampler, tell)]


def comparison(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A Markdown table: means with bootstrap intervals, and the differences to `pruned` seed by seed."""
    lines = [
        "| sampler | reported | seeds | final | on the way | final − pruned | on the way − pruned | trials, finished |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for sampler in dict.fromkeys(row["sampler"] for row in rows):
        for tell in TELLS:
            cells = [sampler, tell, str(len(values(rows, sampler, tell, "final")))]
            cells += [spread(values(rows, sampler, tell, name)) for name in ("final", "on the way")]
            for name in ("final", "on the way"):
                pairs = zip(values(rows, sampler, tell, name), values(rows, sampler, "pruned", name), strict=True)
                cells.append("" if tell == "pruned" else spread([one - other for one, other in pairs], "+"))
            ends = [values(rows, sampler, tell, name) for name in ("completed", "stopped", "failed", "halted")]
            cells.append(f"{sum(map(fmean, ends)):.1f}, {fmean(ends[0]):.1f}")
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def spread(numbers: Sequence[float], sign: str = "") -> str:
    """Mean and 95 % interval."""
    mean, low, high = interval(numbers)
    return f"{mean:{sign}.4f} ({low:{sign}.4f} to {high:{sign}.4f})"


def measure(settings: Settings) -> Part:
    """The part of `bench.py`: TPE alone on the table, `repeats` seeds."""
    rows = run(table_searches, {"tpe": settings.repeats or CURVE_SEEDS["tpe"]}, None)
    figures = []
    for tell in TELLS[1:]:
        for name in ("final", "on the way"):
            pair = values(rows, "tpe", tell, name), values(rows, "tpe", "pruned", name)
            figures.append(Figure(f"tpe told {tell}, {name}", "ratio", *pair, "pruned", False, digits=4))
    notes = []
    for tell in TELLS[1:]:
        pairs = zip(values(rows, "tpe", tell, "final"), values(rows, "tpe", "pruned", "final"), strict=True)
        notes.append(f"{tell} − pruned, final, mean and 95 % interval: {spread([a - b for a, b in pairs], '+')}")
    return Part("tells", HOW, figures, notes)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="bench_stopped_values.py", description=__doc__.partition("\n")[0] if __doc__ else None
    )
    parser.add_argument("part", choices=("record", "curves", "real"))
    parser.add_argument("--seeds", type=int, help="of each sampler (default: the part's own numbers)")
    parser.add_argument("--samplers", nargs="+", choices=("tpe", "gp", "random"), help="default: tpe gp; real: tpe")
    parser.add_argument("--factor", type=int, default=FACTOR, help=f"of ASHA, curves alone (default: {FACTOR})")
    parser.add_argument("-o", "--output", type=Path, help="all single results, JSON; record: the table of curves")
    options = parser.parse_args(arguments)
    if options.part == "record":
        task.record_table(options.output or TABLE, CONFIGURATIONS, CURVE_EPOCHS)
        return
    real = options.part == "real"
    own = {"tpe": REAL_SEEDS} if real else CURVE_SEEDS
    samplers = options.samplers or list(own)
    seeds = {sampler: options.seeds or own.get(sampler, REAL_SEEDS) for sampler in samplers}
    job, prepare = (
        (real_searches, task.start_worker) if real else (partial(table_searches, factor=options.factor), None)
    )
    rows = run(job, seeds, prepare, options.output)
    print("\n".join(comparison(rows)))


if __name__ == "__main__":
    main()
