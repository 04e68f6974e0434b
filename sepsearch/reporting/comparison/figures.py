"""Figures of compared runs: the best ratio so far by epochs and by time, final models by instrument."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.reporting.comparison.facts import ComparedRun, Comparison
from sepsearch.reporting.figures import Legend, Picture
from sepsearch.reporting.hover import Trace
from sepsearch.reporting.log_axis import log_axis, log_share
from sepsearch.reporting.parameter_plots import short
from sepsearch.reporting.plots import IDENTITY, NAMES_OF_LABEL, WORST
from sepsearch.reporting.style import INK, SERIES, VARIABLES, new_figure, style, svg
from sepsearch.utils.formatting import counted, duration, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHED = (0, (4, 2))  # the second round of colours
NEAR = 0.05  # share of an axis within which names would cover each other
LONGEST_NAME = 16  # characters of a name at the end of a line


def colour(place: int) -> str:
    """Of the run at a place of the comparison."""
    return SERIES[place % len(SERIES)]


def line(place: int) -> str | tuple[int, tuple[int, int]]:
    """Line style of the run at a place of the comparison."""
    return DASHED if place // len(SERIES) % 2 else "-"


def legend(comparison: Comparison) -> list[Legend]:
    """The runs and their colours."""
    rounds = ["" if place < len(SERIES) else ", dashed" for place in range(len(comparison.runs))]
    return [Legend(VARIABLES[colour(place)], f"{name}{rounds[place]}") for place, name in enumerate(comparison.labels)]


def progress_pictures(comparison: Comparison) -> list[Picture]:
    """Best ratio so far by epochs and by seconds of the search; empty where no run has an epoch."""
    if not any(one.progress for one in comparison.runs):
        return []
    seconds = max(one.progress[-1].seconds for one in comparison.runs if one.progress)
    unit, size = ("min", 60.0) if 300 < seconds <= 18_000 else ("h", 3600.0) if seconds > 18_000 else ("s", 1.0)
    return [
        _progress_picture(comparison, "epochs", "epochs trained by all trials", 1.0),
        _progress_picture(comparison, "time", f"time of the search, {unit}", size),
    ]


def _progress_picture(comparison: Comparison, key: str, axis: str, size: float) -> Picture:
    lines, traces = [], []
    for one in comparison.runs:
        places = [point.epochs if key == "epochs" else point.seconds / size for point in one.progress]
        lines.append((places, [point.ratio for point in one.progress]))
        for place, point in list(zip(places, one.progress, strict=True))[:-1]:
            after = f"{counted(point.epochs, 'epoch')}, {duration(point.seconds)}"
            text = f"{number(point.ratio)} by {point.trial} after {after}"
            traces.append(Trace(one.label, [place], [point.ratio], text))
    label = f"Best ratio so far of {len(comparison.runs)} runs by {axis}."
    return Picture(svg(step_figure(lines, axis, comparison.labels), f"progress-{key}", label, traces), key=key)


def step_figure(lines: Sequence[tuple[Sequence[float], Sequence[float]]], axis: str, names: Sequence[str]) -> "Figure":
    """Steps of the best ratio so far, (places, ratios) and a name for each run; `axis` is what the places are."""
    from matplotlib.ticker import MaxNLocator

    with style():
        figure = new_figure(4.9, 3.2)
        axes = figure.subplots()
        for place, (x, y) in enumerate(lines):
            axes.step(x, y, where="post", color=colour(place), linestyle=line(place), linewidth=1.8)
            axes.plot(x[:-1], y[:-1], "o", color=colour(place), markersize=3.5)
        values = [value for _, y in lines for value in y]
        if values and min(values) < 1 < max(values):
            axes.axhline(1.0, color=INK, linestyle=(0, (4, 3)), linewidth=1)
        log_axis(axes, [min(value, WORST) for value in values])
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=axis.startswith("epochs")))
        axes.grid(False, axis="x")
        axes.set_xlabel(axis)
        axes.set_ylabel("best ratio so far")
        _name_ends(axes, lines, names)
        return figure


def _name_ends(axes: "Axes", lines: Sequence[tuple[Sequence[float], Sequence[float]]], names: Sequence[str]) -> None:
    """Write every run's name at the end of its line; names that would cover each other become one label."""
    (low, high), (left, right) = axes.get_ylim(), axes.get_xlim()
    labels: list[tuple[float, float, str, list[str]]] = []  # place, ratio, colour, names
    for run, ((x, y), name) in enumerate(zip(lines, names, strict=True)):
        if not x or not low <= y[-1] <= high:
            continue
        gaps = (
            ((one[0] - x[-1]) / (right - left), log_share(one[1], (low, high)) - log_share(y[-1], (low, high)), one)
            for one in labels
        )
        near = [one for across, up, one in gaps if abs(across) < NEAR and abs(up) < NEAR]
        if near:
            near[0][3].append(name)
        else:
            labels.append((x[-1], y[-1], colour(run), [name]))
    for place, ratio, shade, own in labels:
        text = ", ".join(short(name, LONGEST_NAME) for name in own[:NAMES_OF_LABEL])
        text += f" +{len(own) - NAMES_OF_LABEL}" if len(own) > NAMES_OF_LABEL else ""
        axes.annotate(
            text, (place, ratio), (5, 0), textcoords="offset points", color=shade, fontsize=7, va="center", zorder=8
        )


def final_picture(comparison: Comparison) -> Picture | None:
    """Validation ratios over seeds and test ratios of the final models by instrument; None where no run has any."""
    codes = [code for code in comparison.codes if any(code in one.finals for one in comparison.runs)]
    if not codes:
        return None
    figure, traces = final_figure(comparison.runs, codes)
    label = f"Ratios of the final models of {len(codes)} instruments in {len(comparison.runs)} runs."
    return Picture(svg(figure, "finals", label, traces))


def final_figure(runs: Sequence[ComparedRun], codes: Sequence[str]) -> tuple["Figure", list[Trace]]:
    """A line of points for each instrument, the runs below each other: mean, interval, every seed, test ratio."""
    step, traces = 0.8 / len(runs), []
    with style():
        figure = new_figure(8.6, 1.0 + len(codes) * (0.14 + 0.15 * len(runs)))
        axes = figure.subplots()
        for place, one in enumerate(runs):
            for row, code in enumerate(codes):
                final = one.finals.get(code)
                if final is None:
                    continue
                y, shade = row + (place - (len(runs) - 1) / 2) * step, colour(place)
                if final.interval:
                    axes.hlines(y, max(0.0, final.interval[0]), min(final.interval[1], WORST), colors=shade)
                axes.plot(_shown(final.ratios), [y] * len(final.ratios), "|", color=shade, markersize=6)
                for value, filled in ((final.mean, shade), (final.test_ratio, "none")):
                    if value is not None and math.isfinite(value):
                        axes.plot(_shown([value]), [y], "o", color=shade, markerfacecolor=filled, markersize=6)
                        what = "mean of seeds" if filled == shade else "test titles"
                        text = f"{one.label}, {what} {number(value)}"
                        traces.append(Trace(INSTRUMENTS.get(code, code), _shown([value]), [y], text))
        axes.axvline(1.0, color=INK, linestyle=(0, (4, 3)), linewidth=1, label=IDENTITY)
        axes.set_yticks(np.arange(len(codes)), [INSTRUMENTS.get(code, code) for code in codes])
        axes.set_ylim(len(codes) - 0.4, -0.6)
        axes.set_xlim(-0.02, max([1.08, *(v + 0.05 for v in (axes.dataLim.x1,) if math.isfinite(v))]))
        axes.set_xlabel("ratio: loss / identity loss; smaller is better")
        axes.tick_params(axis="y", labelcolor=INK, labelsize=9)
        return figure, traces


def _shown(values: Sequence[float]) -> list[float]:
    return [min(value, WORST) for value in values]
