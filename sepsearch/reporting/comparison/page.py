"""The page of compared runs: one HTML file without external parts."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from sepsearch.reporting.comparison import figures, tables
from sepsearch.reporting.comparison import text as say
from sepsearch.reporting.comparison.facts import Comparison
from sepsearch.reporting.plots import WORST
from sepsearch.reporting.template import render_page
from sepsearch.runs.verdict import RULES
from sepsearch.utils.files import write_atomically

SCRIPTS = ("clips.js", "hover.js", "tables.js")


def write_comparison(comparison: Comparison, path: Path, runs: Path) -> Path:
    """Write the page; `runs` is the folder of run folders, for the commands that it names. Returns `path`.

    Raises:
        UserError: the file cannot be written.
    """
    write_atomically(path, render(comparison, runs))
    return path


def render(comparison: Comparison, runs: Path = Path("runs")) -> str:
    """The page as HTML; values of the runs are escaped."""
    return render_page(
        "compare.html",
        SCRIPTS,
        names=comparison.labels,
        findings=say.findings(comparison),
        problems=say.data_sentences(comparison),
        cautions=say.instrument_sentences(comparison),
        budgets=tables.budget_table(comparison),
        parameters=tables.parameter_table(comparison),
        progress=figures.progress_pictures(comparison),
        legend=figures.legend(comparison),
        worst=WORST,
        finals=tables.final_table(comparison),
        final_picture=figures.final_picture(comparison),
        rules=RULES,
        tests=tables.significance_table(comparison, say.tested(comparison)),
        rule=say.significance_rule(comparison),
        untested=say.untested_sentences(comparison),
        bias=say.BIAS,
        differences=tables.difference_table(comparison),
        commands=commands([one.given for one in comparison.runs], runs),
    )


def commands(given: Sequence[str], runs: Path) -> list[tuple[str, str]]:
    """Commands, each as (what it does, command line)."""
    where = "" if runs == Path("runs") else f" --runs {shlex.quote(str(runs))}"
    line = f"sepsearch compare {' '.join(map(shlex.quote, given))}{where}"
    return [
        ("This page again:", line),
        ("Trials, learning curves and seeds of these runs as CSV (or --format parquet):", f"{line} --export tables"),
    ]
