"""Rules that end a search early: epochs that they save, and what that costs in ratio, on recorded curves.

python scripts/benchmarks/bench_search_end.py  # prints the tables; minutes on two quiet cores
python scripts/benchmarks/bench_search_end.py --write  # puts them into docs/benchmarks.md, too
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import fmean, median
from typing import Any

from bench_table import machine, replace_section

from sepsearch.search.search_end import regret_bound
from sepsearch.simulation.curve_table import Curve, Draw, Pool, read_table
from sepsearch.simulation.simulator import Strategy, interval, simulate
from sepsearch.spaces.space import Space, parse_space

TABLE = Path(__file__).resolve().parent / "curves" / "laptop_vn.json"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
SECTION = "Rules that end a search"
EPOCHS, TRIALS, WORKERS, SEEDS = 12, 150, 2, 20
STRATEGY = Strategy("tpe", 1, 3, "extrapolated")
Rule = Mapping[str, Any]
RULES: dict[str, Rule | None] = {
    "none": None,
    **{f"patience {trials}": {"patience": trials} for trials in (10, 20, 30, 50)},
}
REGRET_TRIALS = 80
REGRETS: dict[str, Rule | None] = {
    "none": None,
    **{f"regret {bound:g}": {"regret": bound} for bound in (0.02, 0.05)},
    "patience 20": {"patience": 20},
}
SIZES = (20, 50, 100)  # trials of an evaluation that is timed
HOW = f"""\
Searches in virtual time (`sepsearch.simulation.simulator`, the plan, rules, rungs and sampler of a real search) on
`curves/laptop_vn.json`, see *Value reported to the sampler for a stopped trial*. TPE, rungs 1, 3, 9 of {EPOCHS} epochs,
factor 3, {WORKERS} trials at once, at most {TRIALS} trials, {SEEDS} seeds. A rule and *none* with the same seed propose
the same trials up to the rule's end, so that differences are of pairs. Mean and 95 % interval of the mean (bootstrap).
*Lost* is the best ratio at the end minus that of *none*; *none lost*: share of seeds that lost nothing; *none at
as many epochs*: the best ratio of *none* when it has spent what the rule spends in the mean, as by a fixed budget.
No curve is drawn twice, so that a search of 150 trials has seen most of the 210: going on pays more here than in a
space that no search comes to the end of.
`python scripts/benchmarks/bench_search_end.py`.
"""


def whole() -> tuple[Space, list[Curve]]:
    """The recorded space with all curves."""
    about, curves = read_table(TABLE)
    return parse_space(about["space"], str(TABLE)), curves


def unconditional() -> tuple[Space, list[Curve]]:
    """The part of the recorded space without conditions, which the bound on the regret takes: two detector layers."""
    about, curves = read_table(TABLE)
    content = about["space"]
    parameters = {name: value for name, value in content["parameters"].items() if name != "detector_layers"}
    parameters["detector_width"] = parameters["detector_width"]["choices"]
    fixed = {**content.get("fixed", {}), "detector_layers": 2}
    space = parse_space({**content, "parameters": parameters, "fixed": fixed}, str(TABLE))
    return space, [curve for curve in curves if curve.params.get("detector_layers") == 2]


def search(part: str, name: str, seed: int) -> dict[str, Any]:
    """One search under one rule, as numbers."""
    import torch

    torch.set_num_threads(1)
    space, curves = whole() if part == "patience" else unconditional()
    rule = (RULES if part == "patience" else REGRETS)[name]
    changed = (
        parse_space({**space.model_dump(mode="json", exclude_none=True), "stop": rule}, "space") if rule else space
    )
    pool = Pool(changed, curves, EPOCHS)
    trials = min(len(pool), TRIALS if part == "patience" else REGRET_TRIALS)
    begin = time.process_time()
    outcome = simulate(Draw(pool), changed, STRATEGY, trials=trials, epochs=EPOCHS, workers=WORKERS, seed=seed)
    ended = sum(outcome.ended.values())
    spent = time.process_time() - begin
    numbers = {"epochs": outcome.epochs, "trials": ended, "best": outcome.best, "cpu": spent}
    return {"rule": name, "seed": seed, **numbers, "steps": outcome.steps}


def run(part: str, names: Sequence[str], seeds: int) -> list[dict[str, Any]]:
    """All rules with all seeds, a process a core."""
    rows: list[dict[str, Any]] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as processes:
        jobs = [processes.submit(search, part, name, seed) for seed in range(seeds) for name in names]
        for done in as_completed(jobs):
            rows.append(done.result())
            print(f"{part}: {len(rows)} of {len(jobs)} searches", file=sys.stderr, flush=True)
    return sorted(rows, key=lambda row: (names.index(row["rule"]), row["seed"]))


def comparison(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A Markdown table: trials, epochs and best ratio of every rule, and the difference to none seed by seed."""
    lines = [
        "| rule | trials | epochs | epochs saved | best ratio | lost | none lost | none at as many epochs |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]

    def values(rule: str, key: str) -> list[float]:
        return [float(row[key]) for row in rows if row["rule"] == rule]

    for rule in dict.fromkeys(row["rule"] for row in rows):
        lost = [one - other for one, other in zip(values(rule, "best"), values("none", "best"), strict=True)]
        saved = [1 - one / other for one, other in zip(values(rule, "epochs"), values("none", "epochs"), strict=True)]
        share = sum(difference <= 0 for difference in lost) / len(lost)
        cells = [rule, f"{fmean(values(rule, 'trials')):.0f}", f"{fmean(values(rule, 'epochs')):.0f}"]
        cells += ["" if rule == "none" else spread(saved, lambda value: f"{100 * value:.0f} %")]
        cells += [spread(values(rule, "best"), lambda value: f"{value:.4f}")]
        cells += ["", ""] if rule == "none" else [spread(lost, lambda value: f"{value:+.4f}"), f"{100 * share:.0f} %"]
        cells += ["" if rule == "none" else spread(fixed(rows, values(rule, "epochs")), lambda value: f"{value:.4f}")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def fixed(rows: Sequence[dict[str, Any]], epochs: Sequence[float]) -> list[float]:
    """Best ratios of none, seed by seed, after as many epochs as a rule spends in the mean; 1 before there is one."""
    most = fmean(epochs)
    found = [[best for spent, best in row["steps"] if spent <= most] for row in rows if row["rule"] == "none"]
    return [bests[-1] if bests else 1.0 for bests in found]


def spread(numbers: Sequence[float], text: Callable[[float], str]) -> str:
    """Mean and 95 % interval."""
    mean, low, high = interval(numbers)
    return f"{text(mean)} ({text(low)} to {text(high)})"


def evaluation_times() -> list[str]:
    """CPU seconds of one evaluation of the bound on the regret, by the number of trials; median of three."""
    space, curves = unconditional()
    lines = []
    for size in SIZES:
        seen = [(curve.params, curve.ratios[-1]) for curve in curves if curve.ratios][:size]
        times, bound = [], 0.0
        for _ in range(3):
            begin = time.process_time()
            bound = regret_bound(space, seen, 0)
            times.append(time.process_time() - begin)
        lines.append(f"{len(seen)} trials: {median(times):.1f} CPU seconds, bound {bound:.3f}")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write if so wanted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="searches of every rule (default: %(default)s)")
    parser.add_argument("--regret-seeds", type=int, default=20, help="the same for the regret (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help=f"write the section {SECTION!r} of docs/benchmarks.md")
    options = parser.parse_args(arguments)
    lines = [HOW.strip(), "", *comparison(run("patience", list(RULES), options.seeds)), ""]
    print("\n".join(lines), flush=True)
    regret = comparison(run("regret", list(REGRETS), options.regret_seeds))
    what = (
        f"The same with the bound on the regret, on the {len(unconditional()[1])} curves with two detector layers (a"
        f" space without conditions), at most {REGRET_TRIALS} trials, {options.regret_seeds} seeds:"
    )
    facts = "; ".join(f"{name}: {value}" for name, value in machine().items())
    notes = [f"- One evaluation: {'; '.join(evaluation_times())}.", f"- {facts}"]
    print("\n".join([what, "", *regret, "", *notes]))
    if options.write:
        replace_section(PAGE, SECTION, "\n".join([*lines, what, "", *regret, "", *notes]))


if __name__ == "__main__":
    main()
