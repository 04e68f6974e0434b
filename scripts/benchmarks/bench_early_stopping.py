"""Early-stopping methods beside each other: searches simulated on recorded learning curves.

python scripts/benchmarks/bench_early_stopping.py curves  # all methods, 60 seeds (minutes); in bench.py, too
python scripts/benchmarks/bench_early_stopping.py predict  # the learning-curve model beside `extrapolated`
python scripts/benchmarks/bench_early_stopping.py record --table FILE  # a table of other curves (half an hour and more)
"""

import argparse
import json
import math
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import stopped_values_task as task
from bench_stopped_values import TABLE, spread
from bench_table import Figure, Part, Settings
from pruner_rules import SynePasha, optuna_rules

from sepsearch.search.sampling.optuna_study import extrapolate
from sepsearch.search.stopping.curve_model import CurveModelRule
from sepsearch.search.stopping.learning_curves import LearningCurveModel
from sepsearch.search.stopping.methods import METHODS
from sepsearch.search.stopping.rule import StoppingRule
from sepsearch.simulation.curve_table import Draw, Pool, read_table
from sepsearch.simulation.simulator import Outcome, Strategy, simulate

GRACE, FACTOR, WORKERS = 1, 3, 2
TRIALS = 40  # of a search with a number of trials
BUDGET = 216  # epochs of a search with a budget: 18 full trials of 12
SEEDS = 60
NEAR = 1.05  # of the pool's best counts as reached
PROBABILITIES = (0.01, 0.05, 0.1, 0.2, 0.3)  # of the learning-curve model, to see what its threshold does
BASELINE = "asha"
HOW = f"""\
Which early-stopping method finds as good a configuration in fewer epochs. Searches in virtual time, with the plan,
sampler (TPE, stopped trials told as `extrapolated`) and rules of real searches, on recorded curves; {WORKERS} trials at
once, rungs from epoch {GRACE} with factor {FACTOR}, the model asked every {GRACE} epoch. A repeat is a seed of the
sampler, the same for all methods. *final*: the ratio at the full budget of the trial that the search chooses, best of
three: the lowest of the three that would be retrained; a method that trains no trial to the full budget chooses among
those that came furthest, and is judged by what that trial would have reached.
"""


def rules() -> dict[str, Callable[[int], StoppingRule]]:
    """All compared methods by name, each as a function of the full budget."""
    found: dict[str, Callable[[int], StoppingRule]] = {
        name: partial(method, GRACE, FACTOR) for name, method in METHODS.items()
    }
    for probability in PROBABILITIES:
        found[f"curve_model {probability:g}"] = partial(CurveModelRule, GRACE, FACTOR, unlikely=probability)
    found["asha grace 3"] = partial(METHODS["asha"], 3, FACTOR)
    for name in ("asha", "asha_promotion", "pasha"):
        found[f"{name} factor 2"] = partial(METHODS[name], GRACE, 2)
    found |= optuna_rules(GRACE, FACTOR)
    found["Syne Tune PASHA"] = partial(SynePasha, GRACE, FACTOR)
    return found


def numbers(outcome: Outcome, budget: int, near: float) -> dict[str, float]:
    """What is compared; a search that chose nothing has found identity."""
    ends = outcome.chosen or [1.0]
    return {
        "final": ends[0],
        "best of three": min(ends),
        "epochs": outcome.epochs,
        "seconds": outcome.seconds,
        "reaches": min(outcome.chooses(near), float(budget)),
        "got there": float(math.isfinite(outcome.chooses(near))),
        **outcome.ended,
    }


def searches(table: Path, names: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """The searches of one seed: every method with a number of trials, and with a budget of epochs."""
    import torch

    torch.set_num_threads(1)
    about, curves = read_table(table)
    space = task.parse(about["space"])
    epochs = max(len(curve.ratios) for curve in curves)
    pool = Pool(space, curves, epochs)
    near, budget = pool.best * NEAR, BUDGET * epochs // 12
    rows = []
    for name in names:
        for kind, limits in {"trials": {"trials": TRIALS}, "budget": {"trials": len(pool), "budget": budget}}.items():
            strategy, rule = Strategy("tpe", GRACE, FACTOR, "extrapolated"), rules()[name](epochs)
            outcome = simulate(
                Draw(pool), space, strategy, epochs=epochs, workers=WORKERS, seed=seed, rule=rule, **limits
            )
            rows.append({"method": name, "kind": kind, "seed": seed, **numbers(outcome, budget, near)})
    return rows


def run(table: Path, names: Sequence[str], seeds: int, output: Path | None = None) -> list[dict[str, Any]]:
    """All seeds, a process a core; written to `output` as they come."""
    context = multiprocessing.get_context("spawn")
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as processes:
        for done in processes.map(partial(searches, table, names), range(seeds)):
            rows += done
            print(f"seed {done[0]['seed']}", file=sys.stderr, flush=True)
            if output:
                output.write_text(json.dumps(rows))
    return rows


def values(rows: Sequence[Mapping[str, Any]], method: str, kind: str, name: str) -> list[float]:
    """One number of every seed, in order."""
    found = [row for row in rows if (row["method"], row["kind"]) == (method, kind)]
    return [row[name] for row in sorted(found, key=lambda row: row["seed"])]


def difference(rows: Sequence[Mapping[str, Any]], method: str, kind: str, name: str) -> list[float]:
    """A method's numbers minus the baseline's, seed by seed."""
    pairs = zip(values(rows, method, kind, name), values(rows, BASELINE, kind, name), strict=True)
    return [one - other for one, other in pairs]


def comparison(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Two Markdown tables, one for each kind of search: means, and paired differences to the baseline."""
    lines = []
    for kind in ("trials", "budget"):
        last = "epochs − asha" if kind == "trials" else "epochs to near, − asha (got there)"
        lines += [
            f"| method ({kind}) | final | final − asha | best of three − asha | epochs, completed | {last} |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for method in dict.fromkeys(row["method"] for row in rows):
            own = {name: values(rows, method, kind, name) for name in ("final", "epochs", "completed", "got there")}
            cells = [method, f"{fmean(own['final']):.4f}"]
            same = method == BASELINE
            for name in ("final", "best of three"):
                cells.append("" if same else spread(difference(rows, method, kind, name), "+"))
            cells.append(f"{fmean(own['epochs']):.0f}, {fmean(own['completed']):.1f}")
            name = "epochs" if kind == "trials" else "reaches"
            cell = "" if same else whole_spread(difference(rows, method, kind, name))
            if kind == "budget":
                cell = f"{fmean(values(rows, method, kind, name)):.0f}{', ' + cell if cell else ''}"
                cell += f" ({sum(own['got there']):.0f} of {len(own['final'])})"
            lines.append("| " + " | ".join([*cells, cell]) + " |")
        lines.append("")
    return lines


def whole_spread(sample: Sequence[float]) -> str:
    """Mean and 95 % interval, of epochs."""
    from sepsearch.simulation.simulator import interval

    mean, low, high = interval(sample)
    return f"{mean:+.0f} ({low:+.0f} to {high:+.0f})"


def predictions(table: Path, repeats: int = 20, completed: int = 8, stopped: int = 24) -> list[str]:
    """Errors of the learning-curve model and of `extrapolated`, a Markdown table.

    Of every repeat `stopped` + `completed` random curves are known as ASHA would leave them (the best third at epoch 3
    whole, the others to epoch 1 or 3); the end of all others is predicted from their first epochs.
    """
    curves = [curve.ratios for curve in read_table(table)[1] if not curve.failed]
    epochs = max(map(len, curves))
    whole = [curve for curve in curves if len(curve) == epochs]
    ages = [age for age in (1, 2, 3, 6, 9, 18, 27) if age < epochs]
    errors: dict[tuple[int, str], list[float]] = {}
    inside: dict[int, list[bool]] = {}
    for repeat in range(repeats):
        order = np.random.default_rng(repeat).permutation(len(whole))
        known = sorted((whole[number] for number in order[: completed + stopped]), key=lambda curve: curve[2])
        ended = [dict(enumerate(curve, 1)) for curve in known[:completed]]
        model = LearningCurveModel(epochs)
        model.fit([*known[:completed], *(curve[: 1 + 2 * (n % 2)] for n, curve in enumerate(known[completed:]))])
        for curve in (whole[number] for number in order[completed + stopped :]):
            end = math.log(curve[-1])
            for age in ages:
                mean, deviation = model.predict(curve[:age])
                other = math.log(extrapolate(dict(enumerate(curve[:age], 1)), ended))
                errors.setdefault((age, "model"), []).append(abs(mean - end))
                errors.setdefault((age, "extrapolated"), []).append(abs(other - end))
                inside.setdefault(age, []).append(abs(mean - end) < 1.645 * deviation)
    lines = [
        "| epochs known | model, error | extrapolated, error | inside the model's 90 % |",
        "| --- | --- | --- | --- |",
    ]
    for age in ages:
        model_error, other_error = (fmean(errors[age, name]) for name in ("model", "extrapolated"))
        lines.append(f"| {age} of {epochs} | {model_error:.4f} | {other_error:.4f} | {fmean(inside[age]):.0%} |")
    return lines


def measure(settings: Settings) -> Part:
    """The part of `bench.py`: sepsearch's own methods and Optuna's pruners on the recorded table."""
    names = [*METHODS, *optuna_rules(GRACE, FACTOR)]
    rows = run(TABLE, names, settings.repeats or SEEDS)
    figures = []
    for method in names[1:]:
        for name, unit, digits in (("final", "ratio", 4), ("epochs", "epochs", 0)):
            pair = values(rows, BASELINE, "trials", name), values(rows, method, "trials", name)
            figures.append(Figure(f"asha, {name} of {TRIALS} trials", unit, *pair, method, False, digits=digits))
    return Part("early stopping", HOW, figures, [])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench_early_stopping.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", choices=("record", "curves", "predict"))
    parser.add_argument("--table", type=Path, default=TABLE, help="of recorded curves (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of every method (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", choices=list(rules()), help="default: all but Syne Tune's")
    parser.add_argument("--epochs", type=int, default=36, help="record: of every curve (default: %(default)s)")
    parser.add_argument("--instrument", default=task.INSTRUMENT, help="record: of the demo (default: %(default)s)")
    parser.add_argument("--configurations", type=int, default=60, help="record (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, help="all single results, JSON")
    options = parser.parse_args(arguments)
    if options.part == "record":
        task.record_table(options.table, options.configurations, options.epochs, instrument=options.instrument)
    elif options.part == "predict":
        print("\n".join(predictions(options.table)))
    else:
        names = options.methods or [name for name in rules() if name != "Syne Tune PASHA"]
        rows = run(options.table, names if BASELINE in names else [BASELINE, *names], options.seeds, options.output)
        print("\n".join(comparison(rows)))


if __name__ == "__main__":
    main()
