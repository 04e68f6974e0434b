"""The table of final models that a run ends with on the screen."""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.runs.results import LEFT_OUT
from sepsearch.runs.verdict import VOLUME, WORKS, baseline_ratio, decibels, judge_models
from sepsearch.tracking.descriptions import audio_number
from sepsearch.utils.formatting import number
from sepsearch.utils.terminal_text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

HEADINGS = (
    "SI-SDR\ngain, dB",
    "oracle's\ngain, dB",
    "ratio ± sd",
    "test\nratio",
    "constant\ngain",
    "reference\nnetwork",
)
ORACLE_GAIN = ("oracle_gain", "si_sdr_db")  # where the scores of a model have it


def final_table(results: Mapping[str, Any], caveats: Mapping[str, str]) -> "RenderableType":
    """The final models' gains and ratios beside what they must beat, the best gain first, and how to read them.

    80 columns hold it.

    Args:
        results: as `results.json` has them.
        caveats: how scores of instruments with too few titles must be read, by code.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=f"Final models of {results['name']}",
        title_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("instrument", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for verdict in judge_models(results["final"], results["baselines"]):
        code = verdict.instrument
        final, reference = results["final"][code], results["reference_final"].get(code, {})
        jumps = "↯" if final["discontinuities"] else " "
        table.add_row(
            f"{verdict.name}{'*' if code in caveats else ''}",
            decibels(final["si_sdr_gain_db"]),
            number(audio_number(final, *ORACLE_GAIN), 1),
            f"{number(final['ratio_mean'])} ± {number(final['ratio_sd'])}{jumps}",
            number(final["test_ratio"]),
            number(baseline_ratio(results["baselines"], "gain", code)),
            number(reference.get("ratio_mean")),
            style="green" if verdict.kind == WORKS else "dim" if verdict.kind == VOLUME else "",
        )
    return Group(table, Text(printable("\n".join(_notes(results, caveats))), style="dim italic"))


def _notes(results: Mapping[str, Any], caveats: Mapping[str, str]) -> Iterator[str]:
    """How the final table must be read."""
    rows: list[Mapping[str, Any]] = list(results["final"].values())
    yield "ratio: loss / loss of the mixture unchanged, on validation titles; mean, sd over seeds."
    yield "constant gain (volume knob), reference network (Iyer 2021): their ratios."
    gains = [gain for row in rows if (gain := row["si_sdr_gain_db"]) is not None]
    if gains:
        oracle = [gain for row in rows if (gain := audio_number(row, *ORACLE_GAIN)) is not None]
        named = [gain for row in rows if (gain := row.get("named_si_sdr_gain_db")) is not None]
        parts = [f"Median gain on test titles: {number(median(gains), 1)} dB"]
        parts += [f"with --players {number(median(named), 1)} dB"] if len(named) == len(gains) else []
        parts += [f"oracle mask {number(median(oracle), 1)} dB"] if oracle else []
        yield f"{', '.join(parts)}."
    if any(row["discontinuities"] for row in rows):
        yield "↯: a loss jumped while it was trained."
    out = [code for code, row in results["final"].items() if row.get("protocol") == LEFT_OUT]
    if out:
        yield f"test ratio and gain of {', '.join(map(_name, out))}: one title left out of training at a time."
    for code, row in results["final"].items():
        if reason := row.get("choice_reason"):
            yield f"{_name(code)}: {reason}."
    for code, text in caveats.items():
        yield f"* {_name(code)}: {text}"


def _name(code: str) -> str:
    return INSTRUMENTS.get(code, code)
