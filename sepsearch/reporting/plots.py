"""Curves, ratios and parameters of a run as figures of matplotlib."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sepsearch.reporting.style import INK, MUTED, PALE, PAPER, REFERENCE, SERIES, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

JUMP = "↯"
IDENTITY = "identity: doing nothing"
MANY = 20  # points of one choice would hide each other


@dataclass(frozen=True)
class Curve:
    """Values by epoch of one network or trial. `jumps` are the epochs of discontinuities, `mark` the chosen epoch."""

    epochs: Sequence[int]
    values: Sequence[float]
    colour: str
    bold: bool = False
    jumps: Sequence[int] = ()
    mark: int | None = None

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
        _limit(axes, values)
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
        _limit(axes, [min(value, 1.5) for value in values] + [1.0])
        axes.set_xlim(0.8 if epochs > 1 else 0.5, max(epochs, 1) + 0.2 * (epochs > 1) + 0.5 * (epochs <= 1))
        axes.set_xlabel("epoch")
        axes.set_ylabel("ratio: loss / identity loss")
        _whole_epochs(axes)
        return figure


def _limit(axes: "Axes", values: Sequence[float]) -> None:
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


@dataclass(frozen=True)
class Point:
    """A trial among its parameters: the value it was judged by, and how it is drawn."""

    params: Mapping[str, Any]
    value: float
    colour: str
    hollow: bool = False  # it was stopped: its value is that of its last epoch


@dataclass(frozen=True)
class Axis:
    """A parameter: its choices, or the ends of its range."""

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    def place(self, value: Any) -> float:
        """Where a value lies, from 0 to 1; NaN for one that the parameter cannot take."""
        if self.choices:
            if value not in self.choices:
                return math.nan
            return (self.choices.index(value) + 0.5) / len(self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return math.nan
        scale = math.log if self.log else float
        if self.log and value <= 0:
            return math.nan
        return (scale(value) - scale(self.low)) / ((scale(self.high) - scale(self.low)) or 1)

    def ticks(self) -> list[tuple[float, str]]:
        """(place, label) of some values."""
        values: Sequence[Any] = self.choices
        if not values and self.log:
            values = [self.low, math.sqrt(self.low * self.high), self.high]
        elif not values:
            values = [self.low, (self.low + self.high) / 2, self.high]
        return [(self.place(value), short(value)) for value in values]


def short(value: Any, longest: int = 24) -> str:
    """A parameter's value or name for people, in at most so many characters."""
    if isinstance(value, float):
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
    text = str(value)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def slice_figure(axis: Axis, points: Sequence[Point]) -> "Figure":
    """Ratios of trials against one parameter; those that do not have it are left out."""
    with style():
        figure = new_figure(2.6, 1.9, (0.55, 0.28, 0.12, 0.27))
        axes = figure.subplots()
        spread = 0.5 / len(axis.choices) if axis.choices and len(points) > MANY else 0.0
        for number, point in enumerate(points):
            if axis.name in point.params:
                aside = (number * 0.618 % 1 - 0.5) * spread
                axes.plot(
                    [axis.place(point.params[axis.name]) + aside],
                    [point.value],
                    "o",
                    color=point.colour,
                    markersize=5 if len(points) <= MANY else 4,
                    zorder=2 if point.colour == MUTED else 3,
                    markerfacecolor="none" if point.hollow else point.colour,
                )
        ticks = axis.ticks()
        axes.set_xticks([place for place, _ in ticks], [label for _, label in ticks])
        axes.set_xlim(-0.06, 1.06)
        _limit(axes, [point.value for point in points])
        axes.set_title(short(axis.name, 28))
        axes.set_ylabel("ratio")
        return figure


def parallel_figure(axes_of: Sequence[Axis], points: Sequence[Point]) -> "Figure":
    """Every trial as a line through its parameters to its ratio; the better, the stronger. None: it has it not."""
    with style():
        columns = len(axes_of) + 1
        figure = new_figure(max(6.0, 1.05 * columns), 3.6, (0.1, 0.05, 0.1, 0.05))
        axes = figure.subplots()
        axes.set_axis_off()
        ranked = sorted(points, key=lambda point: -point.value)
        best, worst = ranked[-1].value, ranked[0].value
        power, faint = 2 + min(6.0, len(ranked) / 15), max(0.1, 0.4 - len(ranked) / 200)
        for number, point in enumerate(ranked):
            heights = [axis.place(point.params.get(axis.name)) for axis in axes_of]
            heights = [height if math.isfinite(height) else -0.1 for height in heights]
            heights.append((point.value - best) / ((worst - best) or 1))
            strength = ((number + 1) / len(ranked)) ** power
            axes.plot(
                range(columns),
                heights,
                color=point.colour,
                alpha=faint + (1 - faint) * strength,
                linewidth=0.8 + 1.6 * strength,
                linestyle=(0, (3, 2)) if point.hollow else "-",
            )
        result = Axis("ratio", low=best, high=worst if worst > best else best + 1)
        for column, axis in enumerate([*axes_of, result]):
            axes.plot([column, column], [0, 1], color=MUTED, linewidth=0.9, zorder=0)
            name = short(axis.name, 30).replace("_", "_\n") if len(axis.name) > 12 else axis.name
            axes.annotate(name, (column, 1.05), ha="center", va="bottom", fontsize=8, color=INK)
            for place, label in axis.ticks():
                axes.annotate(
                    label,
                    (column, place),
                    (4, 0),
                    textcoords="offset points",
                    fontsize=8,
                    color=MUTED,
                    va="center",
                    bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
                )
        if any(axis.name not in point.params for axis in axes_of for point in points):
            axes.annotate("none", (-0.08, -0.1), ha="right", va="center", fontsize=8, color=MUTED)
        axes.set_xlim(-0.3, columns - 0.4)
        axes.set_ylim(-0.16, 1.3)
        return figure
