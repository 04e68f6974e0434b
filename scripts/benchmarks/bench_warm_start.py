"""A second search with and without what a first one has found: epochs until it is as good, and how good it gets.

python scripts/benchmarks/bench_warm_start.py  # searches simulated on recorded curves (minutes); in bench.py, too
python scripts/benchmarks/bench_warm_start.py --seeds 20 --output searches.json
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import stopped_values_task as task
from bench_table import Figure, Part, Settings

from sepsearch.search.sampling.known_trials import KnownTrial
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.sampling.study_storage import SAMPLER_VALUE
from sepsearch.search.trials import Trial
from sepsearch.simulation.curve_table import Draw, Pool, read_table
from sepsearch.simulation.simulator import Outcome, Strategy, interval, simulate
from sepsearch.spaces.space import Space

TABLE = Path(__file__).resolve().parent / "curves" / "laptop_vn.json"
STRATEGY = Strategy("tpe", grace=1, factor=3, tell="extrapolated")
EPOCHS, WORKERS, TRIALS, SEEDS = 12, 2, 36, 40
BUDGET = 120  # epochs of a second search, about as many as the first one spends
SECOND = 1000  # what is added to the seed of the first search
COLD, WARM, MODEL, STARTUP, STOPPED, STUDY, CONTINUED = WAYS = (
    "cold",
    "warm start",
    "warm start, best not trained again",
    "warm start, startup trials anew",
    "warm start, stopped trials too",
    "Optuna's own study goes on",
    "--continue",
)
HOW = f"""\
`python scripts/benchmarks/bench_warm_start.py`. A first search of {TRIALS} trials, then a second one of {BUDGET} epochs
with another seed, in virtual time (`sepsearch.simulation.simulator`: the plan, rungs and sampler of a real search) on
`curves/laptop_vn.json`: ASHA with rungs 1, 3, 9 and factor 3, {WORKERS} trials at once, {EPOCHS} epochs a trial, TPE,
stopped trials extrapolated.

- *{COLD}*: the second search knows nothing.
- *{WARM}*: as `--warm-start` does: completed trials of the first are in the study, the best of them is trained first,
  the others are not trained again.
- *{MODEL}*: the same study, and none of its trials is trained again.
- *{STARTUP}*: TPE begins with as many random trials as without known ones.
- *{STOPPED}*: also those that rungs had stopped, with their extrapolated values.
- *{STUDY}*: all trials of the first as they are in its study, and nothing is kept from being trained again:
  what loading an Optuna study does.
- *{CONTINUED}*: the first search with more trials.

*Until as good*: epochs spent by all trials of the second search together until one that completed is at most the
first search's best. *Until better*: until one is strictly better. A search that never is counts with {BUDGET}, which is
less than it would need. Ratios are of means, with 95 % intervals of the bootstrap over seeds, paired. *Best*: of both
searches together, a ratio to identity.
"""


def first_search(pool: Pool, space: Space, seed: int, more: int | None = None) -> tuple[Outcome, Sampler]:
    """A search that knows nothing, and its sampler; with `more` one that goes on, up to so many epochs in all."""
    source = Draw(pool)
    sampler = Sampler(STRATEGY.apply(space), None, "first", seed, pick=source.pick)
    trials = TRIALS if more is None else len(pool)
    settings = {"trials": trials, "epochs": EPOCHS, "workers": WORKERS, "seed": seed, "budget": more}
    return simulate(source, space, STRATEGY, **settings, sampler=sampler), sampler


def second_search(pool: Pool, space: Space, seed: int, how: str, first: tuple[Outcome, Sampler]) -> Outcome:
    """A search after the first one."""
    outcome, study = first[0], first[1].study
    completed = [trial for trial in outcome.trials if trial.state == "completed"]
    best = min(completed, key=lambda trial: trial.ratio)
    known = [] if how in (COLD, STUDY) else [KnownTrial(trial.id, trial.params, trial.ratio) for trial in completed]
    if how == STOPPED:
        known += stopped_trials(outcome.trials, study)
    source = Draw(pool, [dict(trial.params) for trial in known if how == MODEL or trial.source != best.id])
    if how == STARTUP:
        changes = {"startup_trials": space.search.startup_trials + len(known)}
        space = space.model_copy(update={"search": space.search.model_copy(update=changes)})
    sampler = Sampler(STRATEGY.apply(space), None, "second", seed, pick=source.pick, known=known)
    for trial in study.trials if how == STUDY else ():
        if "trial" in trial.user_attrs:
            sampler.study.add_trial(trial)
    if how == MODEL:
        sampler._points = []
    settings = {"trials": len(pool) - TRIALS, "epochs": EPOCHS, "workers": WORKERS, "seed": seed, "budget": BUDGET}
    return simulate(source, space, STRATEGY, **settings, sampler=sampler)


def stopped_trials(trials: Sequence[Trial], study: Any) -> list[KnownTrial]:
    """The trials that rungs had stopped, with the values that the first search's sampler saw of them."""
    seen = {trial.user_attrs.get("trial"): trial.user_attrs.get(SAMPLER_VALUE) for trial in study.trials}
    return [
        KnownTrial(trial.id, trial.params, value)
        for trial in trials
        if trial.state == "stopped" and (value := seen.get(trial.id)) is not None
    ]


def searches(seed: int) -> list[dict[str, Any]]:
    """The second searches of one seed, one for each way."""
    about, curves = read_table(TABLE)
    space = task.parse(about["space"])
    pool = Pool(space, curves, EPOCHS)
    first = first_search(pool, space, seed)
    best, spent = first[0].best, first[0].epochs
    rows = []
    for how in WAYS[:-1]:
        outcome = second_search(pool, space, seed + SECOND, how, first)
        rows.append({"how": how, "seed": seed, **numbers(outcome, best)})
    longer, _ = first_search(pool, space, seed, spent + BUDGET)
    later = [(epochs - spent, value) for epochs, value in longer.steps if epochs > spent]
    # It need not become as good: it goes on from there.
    continued = numbers(Outcome(steps=later, epochs=longer.epochs - spent), best) | {"as good": 0.0, "reached": True}
    known = first[0].ended["completed"]
    return [{**row, "first": spent, "known": known} for row in [*rows, {"how": CONTINUED, "seed": seed, **continued}]]


def numbers(outcome: Outcome, best: float) -> dict[str, Any]:
    """What is compared of a second search; `best` is the first one's."""
    as_good = outcome.reaches(best)
    better = next((float(epochs) for epochs, value in outcome.steps if value < best), float("inf"))
    return {
        "as good": min(as_good, float(BUDGET)),
        "reached": as_good <= BUDGET,
        "better": min(better, float(BUDGET)),
        "improved": better <= BUDGET,
        "best": min([best, *(value for _, value in outcome.steps)]),
        "epochs": outcome.epochs,
    }


def ratio_interval(ours: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Ratio of two means over seeds, and the percentile bootstrap's 95 % interval of it, paired."""
    one, two = np.asarray(ours), np.asarray(other)
    chosen = np.random.default_rng(0).integers(0, len(one), (2000, len(one)))
    low, high = np.quantile(one[chosen].mean(axis=1) / two[chosen].mean(axis=1), [0.025, 0.975])
    return float(one.mean() / two.mean()), float(low), float(high)


def values(rows: Sequence[dict[str, Any]], how: str, name: str) -> list[float]:
    """One number of every seed, in order."""
    return [row[name] for row in rows if row["how"] == how]


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A Markdown table, a line for each way."""
    lines = [
        "| second search | seeds | until as good | of cold | reached | until better | of cold | improved | best |",
        f"|{' --- |' * 9}",
    ]
    for how in dict.fromkeys(row["how"] for row in rows):
        cells = [how, str(len(values(rows, how, "best")))]
        for name, share in (("as good", "reached"), ("better", "improved")):
            cells.append("{:.0f} ({:.0f} to {:.0f})".format(*interval(values(rows, how, name))))
            compared = ratio_interval(values(rows, how, name), values(rows, COLD, name))
            cells.append("" if how == COLD else "{:.2f} ({:.2f} to {:.2f})".format(*compared))
            cells.append(f"{100 * np.mean(values(rows, how, share)):.0f} %")
        cells.append("{:.4f} ({:.4f} to {:.4f})".format(*interval(values(rows, how, "best"))))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def run(seeds: int) -> list[dict[str, Any]]:
    """All seeds, a process a core."""
    rows: list[dict[str, Any]] = []
    begin = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as processes:
        jobs = [processes.submit(searches, seed) for seed in range(seeds)]
        for number, done in enumerate(as_completed(jobs), 1):
            rows += done.result()
            print(f"{number} of {seeds} seeds, {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    return sorted(rows, key=lambda row: (WAYS.index(row["how"]), row["seed"]))


def measure(settings: Settings) -> Part:
    """The part of `bench.py`: `repeats` seeds."""
    rows = run(settings.repeats or SEEDS)
    figures = [
        Figure(
            f"{how}, until {name}", "epochs", values(rows, how, name), values(rows, COLD, name), COLD, False, digits=0
        )
        for how in (WARM, STUDY)
        for name in ("as good", "better")
    ]
    return Part("warm start", HOW, figures, table(rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="bench_warm_start.py", description=__doc__.partition("\n")[0] if __doc__ else None
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many (default: {SEEDS})")
    parser.add_argument("-o", "--output", type=Path, help="all single results, JSON")
    options = parser.parse_args(arguments)
    rows = run(options.seeds)
    if options.output:
        options.output.write_text(json.dumps(rows))
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
