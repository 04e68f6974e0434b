"""Compared runs as tables on the terminal, and as plain values for `sepsearch compare --json`."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.reporting.comparison import text as say
from sepsearch.reporting.comparison.facts import ComparedRun, Comparison, SignificanceTest
from sepsearch.runs.comparison.comparability import parameter_text
from sepsearch.runs.verdict import decibels
from sepsearch.utils.formatting import duration, number

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

SHOWN_DIFFERENCES = 12  # on the terminal; the page has all


def make_view(comparison: Comparison) -> "Iterator[RenderableType]":
    """Tables and lines to print, in order."""
    yield _budgets(comparison)
    if comparison.differences:
        yield _differences(comparison)
    if any(one.finals for one in comparison.runs):
        yield _finals(comparison)
    yield from say.findings(comparison)
    yield from say.data_sentences(comparison)
    yield from say.instrument_sentences(comparison)
    yield from say.untested_sentences(comparison)
    if say.tested(comparison):
        yield say.significance_rule(comparison)


def _table(title: str, *headings: str, left: int = 1) -> "Table":
    """An empty table; the first `left` columns are text, the others numbers."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place < left else "right", overflow="fold")
    return table


def _budgets(comparison: Comparison) -> "Table":
    headings = ("run", "state", "trials", "epochs", "search", "at once", "best\ntrial", "its\nratio", "constant\ngain")
    table = _table("Runs", *headings, left=2)
    for one in comparison.runs:
        best, gain = one.run.best, one.run.constant_gain()
        table.add_row(
            one.label,
            one.state,
            str(len(one.trials)),
            str(one.epochs),
            duration(one.run.seconds("search")),
            str(one.workers),
            best.id if best else number(None),
            number(best.ratio if best else None),
            number(gain),
        )
    return table


def _differences(comparison: Comparison) -> "Table":
    table = _table("What differs", "", *comparison.labels, left=1 + len(comparison.runs))
    for key, values in comparison.differences[:SHOWN_DIFFERENCES]:
        table.add_row(key, *(value or number(None) for value in values))
    if (more := len(comparison.differences) - SHOWN_DIFFERENCES) > 0:
        table.add_row(f"… and {more} more, on the page")
    return table


def _finals(comparison: Comparison) -> "Table":
    tests = {(one.run, one.instrument): one for one in comparison.tests}
    first = comparison.first.label
    headings = ("ratio ± sd", "seeds", "test\nratio", "gain,\ndB", f"/ {first}", "95 %\ninterval", "p,\nHolm")
    table = _table("Final models", "instrument", "run", "verdict", *headings, left=3)
    for code in comparison.codes:
        name = INSTRUMENTS.get(code, code)
        for one in comparison.runs:
            if (final := one.finals.get(code)) is None:
                continue
            test = tests.get((one.label, code))
            table.add_row(
                name,
                one.label,
                final.verdict or number(None),
                f"{number(final.mean)} ± {number(final.sd)}",
                str(len(final.ratios)),
                number(final.test_ratio),
                decibels(final.gain),
                *_tested(test),
            )
            name = ""
    return table


def _tested(one: SignificanceTest | None) -> tuple[str, str, str]:
    if one is None or one.test is None:
        return (number(None),) * 3
    return number(one.test.ratio), f"{number(one.test.low)} to {number(one.test.high)}", number(one.corrected)


def comparison_facts(comparison: Comparison) -> dict[str, Any]:
    """All that the page has, as plain values; the keys are listed in docs/command-line.md."""
    return {
        "runs": [_run(one, comparison) for one in comparison.runs],
        "differences": {
            key: dict(zip(comparison.labels, values, strict=True)) for key, values in comparison.differences
        },
        "tests": [_test(one, comparison.first.label) for one in comparison.tests],
        "test_rule": say.significance_rule(comparison),
    }


def _run(one: ComparedRun, comparison: Comparison) -> dict[str, Any]:
    best = one.run.best
    return {
        "run": one.label,
        "given": one.given,
        "state": one.state,
        "not_comparable": list(comparison.problems.get(one.label, ())),
        "trials": {"begun": len(one.trials), **one.run.states("search")},
        "epochs": one.epochs,
        "search_seconds": one.run.seconds("search"),
        "retraining_seconds": one.run.seconds("finalists"),
        "trials_at_once": one.workers,
        "best": {"trial": best.id, "ratio": best.ratio, "params": dict(best.params)} if best else None,
        "constant_gain_ratio": one.run.constant_gain(),
        "space": {name: parameter_text(value) for name, value in _parameters(one).items()},
        "progress": [point._asdict() for point in one.progress],
        "final": {code: dataclasses.asdict(final) for code, final in one.finals.items()},
    }


def _parameters(one: ComparedRun) -> dict[str, Any]:
    space = one.run.search["space"]
    return {**(space.get("fixed") or {}), **(space.get("parameters") or {})}


def _test(one: SignificanceTest, against: str) -> dict[str, Any]:
    found = dataclasses.asdict(one.test) if one.test else {}
    return {
        "instrument": one.instrument,
        "run": one.run,
        "against": against,
        "seeds": list(one.seeds),
        "problem": one.problem or None,
        **{name: found.get(name) for name in ("ratio", "low", "high", "p", "freedom")},
        "p_holm": one.corrected,
        "conclusion": one.conclusion,
    }
