"""Curves and ratios of a run as figures of matplotlib."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sepsearch.reporting.log_axis import log_axis, log_share
from sepsearch.reporting.style import INK, MUTED, PALE, REFERENCE, SERIES, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

JUMP = "↯"
IDENTITY = "identity: doing nothing"
MOST_RATIO = 1.5  # ratios of trials beyond are cut off
MANY_NAMES = 40  # lines that are named in a figure
NAMES_OF_LABEL = 3  # in a label for lines that end together


@dataclass(frozen=True)
class Curve:
    """Values by epoch of one network or trial, `name`. `jumps` are epochs of discontinuities, `mark` the chosen one."""

    epochs: Sequence[int]
    values: Sequence[float]
    colour: str
    bold: bool = False
    jumps: Sequence[int] = ()
    mark: int | None = None
    name: str = ""

    def at(self, epoch: int) -> float:
        """The value after an epoch; NaN if there is none."""
        return next((v for e, v in zip(self.epochs, self.values, strict=True) if e == epoch), math.nan)


def curve_figure(title: str, curves: Sequence[Curve], identity: float) -> "Figure":
    """Validation loss by epoch of one instrument's finalists and seeds, beside the identity loss."""
    with style():
        figure = new_figure(3.6, 2.4, (0.55, 0.45, 0.08, 0.27))
        axes = figure.subplots()
        for curve in sorted(curves, key=lambda curve: curve.bold):
            single = "o" if len(curve.epochs) == 1 else None
            axes.plot(
                curve.epochs,
                curve.values,
                color=curve.colour,
                marker=single,
                markersize=3,
                linewidth=2.2 if curve.bold else 0.9,
            )
            if curve.mark is not None:
                axes.plot([curve.mark], [curve.at(curve.mark)], "o", color=curve.colour, markersize=5)
            for epoch in curve.jumps:
                value = curve.at(epoch)
                if math.isfinite(value):
                    axes.annotate(JUMP, (epoch, value), color=INK, fontsize=11, ha="center", va="bottom", zorder=9)
        values = [value for curve in curves for value in curve.values if math.isfinite(value)]
        if math.isfinite(identity):
            axes.axhline(identity, color=INK, linestyle=(0, (4, 3)), linewidth=1)
            values.append(identity)
            # What is far worse than doing nothing need not be seen.
            values = [min(value, 1.6 * identity) for value in values]
        log_axis(axes, values)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation loss")
        _whole_epochs(axes)
        return figure


def rung_figure(curves: Sequence[tuple[Curve, str]], rungs: Sequence[int], epochs: int) -> "Figure":
    """Ratio by epoch of all trials, each with its state; rungs as vertical lines.

    A cross ends a stopped trial, a triangle a failed one, a dot one that completed.
    """
    marks = {"stopped": "x", "failed": "v", "completed": "o"}
    with style():
        figure = new_figure(8.6, 3.6)
        axes = figure.subplots()
        for rung in rungs:
            axes.axvline(rung, color=PALE, linewidth=1)
        many = len(curves) > 40
        for curve, state in sorted(curves, key=lambda item: item[0].bold):
            width = 2.2 if curve.bold else 0.6 if many else 1.0
            axes.plot(curve.epochs, curve.values, color=curve.colour, linewidth=width)
            if curve.epochs and state in marks:
                colour = MUTED if curve.colour == PALE and state != "completed" else curve.colour
                axes.plot(
                    curve.epochs[-1:],
                    curve.values[-1:],
                    marks[state],
                    color=colour,
                    markersize=4 if many else 6,
                    markeredgewidth=1.4,
                )
        axes.axhline(1.0, color=INK, linestyle=(0, (4, 3)), linewidth=1)
        values = [value for curve, _ in curves for value in curve.values if math.isfinite(value)]
        log_axis(axes, [min(value, MOST_RATIO) for value in values] + [1.0])
        axes.set_xlim(0.8 if epochs > 1 else 0.5, max(epochs, 1) + 0.2 * (epochs > 1) + 0.5 * (epochs <= 1))
        axes.set_xlabel("epoch")
        axes.set_ylabel("ratio: loss / identity loss")
        _whole_epochs(axes)
        _name_ends(axes, [curve for curve, _ in curves])
        return figure


def _name_ends(axes: "Axes", curves: Sequence[Curve]) -> None:
    """Write every line's name at its end, the bold ones' first; names that would cover each other become one label."""
    low, high = axes.get_ylim()
    place = lambda value: log_share(value, (low, high))  # noqa: E731
    labels: list[tuple[int, float, str, list[str]]] = []  # epoch, value, colour, names
    for curve in sorted(curves, key=lambda curve: not curve.bold)[:MANY_NAMES]:
        ends = [(e, v) for e, v in zip(curve.epochs, curve.values, strict=True) if math.isfinite(v)]
        if not ends or not low <= ends[-1][1] <= high:
            continue
        epoch, value = ends[-1]
        near = [one for one in labels if one[0] == epoch and abs(place(value) - place(one[1])) < 0.045]
        if near:
            near[0][3].append(curve.name)
        else:
            labels.append((epoch, value, MUTED if curve.colour == PALE else curve.colour, [curve.name]))
    for epoch, value, colour, names in labels:
        more = f" +{len(names) - NAMES_OF_LABEL}" if len(names) > NAMES_OF_LABEL else ""
        text = ", ".join(names[:NAMES_OF_LABEL]) + more
        axes.annotate(
            text, (epoch, value), (6, 0), textcoords="offset points", color=colour, fontsize=7, va="center", zorder=8
        )


def set_limits(axes: "Axes", values: Sequence[float]) -> None:
    """Limits of the vertical axis with a margin around the values."""
    if values:
        low, high = min(values), max(values)
        margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
        axes.set_ylim(low - margin, high + margin)


def _whole_epochs(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axes.grid(False, axis="x")


@dataclass(frozen=True)
class Judged:
    """An instrument's ratios: its model's mean, interval and test ratio, and by name those it is compared with."""

    label: str
    mean: float
    low: float
    high: float
    test: float
    others: Mapping[str, float]


RIVALS = {
    "reference network": ("D", REFERENCE),
    "constant gain": ("|", INK),
    "constant gain, test titles": ("|", MUTED),
    "silence": ("x", MUTED),
    "oracle": ("4", MUTED),
}
WORST = 1.6  # ratios beyond are drawn at the edge


def ratio_figure(rows: Sequence[Judged]) -> "Figure":
    """Ratios of the final models by instrument, with intervals over seeds, beside those they are compared with."""
    with style():
        figure = new_figure(8.6, 1.0 + 0.27 * len(rows))
        axes = figure.subplots()
        places = np.arange(len(rows))
        clip = lambda values: [min(value, WORST) for value in values]  # noqa: E731
        for name, (marker, colour) in RIVALS.items():
            values = clip([row.others.get(name, math.nan) for row in rows])
            thick = 2.0 if marker == "|" else 1.2
            axes.plot(values, places, marker, color=colour, label=name, markersize=6, markeredgewidth=thick)
        blue = SERIES[0]
        lows, highs = [max(0.0, row.low) for row in rows], clip([row.high for row in rows])
        axes.hlines(places, lows, highs, colors=blue, linewidth=1.4, zorder=1)
        axes.plot(clip([row.mean for row in rows]), places, "o", color=blue, markersize=7, label="model, mean of seeds")
        tests = clip([row.test for row in rows])
        axes.plot(tests, places, "o", color=blue, markerfacecolor="none", markersize=7, label="model, test titles")
        axes.axvline(1.0, color=INK, linestyle=(0, (4, 3)), linewidth=1, label=IDENTITY)
        axes.set_yticks(places, [row.label for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(-0.02, max([1.08, *(v + 0.05 for v in (axes.dataLim.x1,) if math.isfinite(v))]))
        axes.set_xlabel("ratio: loss / identity loss; smaller is better")
        axes.tick_params(axis="y", labelcolor=INK, labelsize=9)
        figure.legend(loc="outside lower center", ncols=4, columnspacing=1.4, handletextpad=0.4)
        return figure
