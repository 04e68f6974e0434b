"""Tables of compared runs, as plain rows of cells that the template turns into markup."""

import math
from collections.abc import Sequence
from typing import Any

from sepsearch.reporting.comparison.facts import LOWER, ComparedRun, Comparison, SignificanceTest
from sepsearch.reporting.parameter_plots import short
from sepsearch.reporting.tables import DASH, Cell, Heading, Table, columns, figure, label, signed
from sepsearch.runs.comparison.comparability import parameter_text
from sepsearch.runs.comparison.significance import CONFIDENCE
from sepsearch.utils.formatting import duration, number


def budget_table(comparison: Comparison) -> Table:
    """State, budget and best trial, a row for each run."""
    headings = columns(
        "run",
        "state",
        "#trials: that have begun",
        "#completed",
        "#stopped",
        "#failed",
        "#epochs: trained by all trials of the search",
        "#search time: work on the search, without pauses of an interrupted run",
        "#trials at once: at most",
        "#retraining time: work on finalists, likewise",
        "best trial: of those that ran all epochs",
        "#its ratio: after its last epoch, mean over instruments",
        "#constant gain: its ratio on the same titles, which the best trial should beat",
    )
    return Table("Budgets and best trials of the searches.", headings, [_budget(one) for one in comparison.runs])


def _budget(one: ComparedRun) -> list[Cell]:
    counts, best = one.run.states("search"), one.run.best
    return [
        Cell(one.label),
        Cell(one.state),
        figure(len(one.trials), 0),
        *(figure(counts[state], 0) for state in ("completed", "stopped", "failed")),
        figure(one.epochs, 0),
        _seconds(one.run.seconds("search")),
        figure(one.workers, 0),
        _seconds(one.run.seconds("finalists")) if one.run.finals else figure(None),
        Cell(best.id if best else DASH),
        figure(best.ratio if best else None, strong=True),
        figure(one.run.constant_gain()),
    ]


def _seconds(seconds: float) -> Cell:
    return Cell(duration(seconds), seconds)


def difference_table(comparison: Comparison) -> Table | None:
    """What differs in space files, settings, data and versions; None where nothing does."""
    if not comparison.differences:
        return None
    headings = [Heading(name, numeric=False) for name in ("key", *comparison.labels)]
    rows = [[Cell(key), *(Cell(value or DASH) for value in values)] for key, values in comparison.differences]
    return Table("What differs in space files, settings, data and versions. A dash: the run lacks it.", headings, rows)


def parameter_table(comparison: Comparison) -> Table | None:
    """Parameters of the best trials that a space varies or that differ; None before any trial has completed."""
    bests = [one.run.best for one in comparison.runs]
    if not any(bests):
        return None
    varied = {name for one in comparison.runs for name in one.run.search["space"].get("parameters") or {}}
    names = dict.fromkeys(name for best in bests if best for name in best.params)
    rows = []
    for name in names:
        values = [best.params.get(name) if best else None for best in bests]
        if name in varied or len({repr(value) for value in values}) > 1:
            rows.append([Cell(name), *(_parameter(value) for value in values)])
    ids = [best.id if best else "" for best in bests]
    texts = ("parameter", *(f"{name} {id}".rstrip() for name, id in zip(comparison.labels, ids, strict=True)))
    headings = [Heading(text, numeric=False) for text in texts]
    return Table("Parameters of the best trials.", headings, rows)


def _parameter(value: Any) -> Cell:
    if value is None:
        return Cell(DASH, math.inf)
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(short(value) if numeric else parameter_text(value), float(value) if numeric else None)


def final_table(comparison: Comparison) -> Table | None:
    """Final models by instrument, the runs side by side; None where no run has any."""
    if not any(one.finals for one in comparison.runs):
        return None
    headings = [Heading("instrument", numeric=False)]
    for name in comparison.labels:
        headings += columns(
            "#ratio ± sd: validation titles, mean and standard deviation over seeds",
            "#seeds",
            "#test ratio: the chosen seed on test titles",
            "#gain, dB: SI-SDR gain on test titles",
            "verdict: by the rules of the run report",
            group=name,
        )
    rows = [[Cell(label(code)), *_finals(comparison, code)] for code in comparison.codes]
    return Table("Final models by instrument.", headings, rows)


def _finals(comparison: Comparison, code: str) -> list[Cell]:
    cells = []
    known = [final.mean for one in comparison.runs if (final := one.finals.get(code)) and final.mean is not None]
    for one in comparison.runs:
        if (final := one.finals.get(code)) is None:
            cells += [figure(None), figure(None), figure(None), figure(None), Cell(DASH)]
            continue
        mean, best = figure(final.mean), not comparison.problems and final.mean == min(known, default=None)
        spread = Cell(f"{mean.text} ± {figure(final.sd).text}", mean.sort, best and len(known) > 1)
        counts = figure(len(final.ratios), 0)
        cells += [spread, counts, figure(final.test_ratio), signed(final.gain), Cell(final.verdict or DASH)]
    return cells


def significance_table(comparison: Comparison, tests: Sequence[SignificanceTest]) -> Table | None:
    """Significance of the differences from the first run; None without tests."""
    if not tests:
        return None
    first = comparison.first.label
    headings = columns(
        "instrument",
        "run",
        f"#ratio of ratios: geometric mean of the run’s seeds / that of {first}; below 1: the run has the lower loss",
        f"#{100 * CONFIDENCE:g} % interval: of each comparison by itself",
        f"#seeds: of {first}, of the run",
        "#p: two-sided, by itself",
        "#p, corrected: by Holm’s method, for the number of comparisons in this table",
        f"conclusion: of the run beside {first}",
    )
    rows = []
    for one in tests:
        test = one.test
        assert test is not None
        interval = Cell(f"{number(test.low)} to {number(test.high)}", test.low)
        seeds = Cell(f"{one.seeds[0]}, {one.seeds[1]}", float(min(one.seeds)))
        chances = [figure(test.p), figure(one.corrected)]
        said = Cell(one.conclusion, strong=one.conclusion == LOWER)
        rows.append([Cell(label(one.instrument)), Cell(one.run), figure(test.ratio), interval, seeds, *chances, said])
    return Table(f"Validation ratios of the final models beside those of {first}.", headings, rows)
