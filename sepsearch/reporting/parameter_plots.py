"""Parameters of trials as figures of matplotlib: one at a time, and all as parallel coordinates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sepsearch.reporting.plots import set_limits
from sepsearch.reporting.style import INK, MUTED, PAPER, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANY = 20  # points of one choice would hide each other


@dataclass(frozen=True)
class Point:
    """A trial among its parameters: the value it was judged by, how it is drawn, and its id."""

    params: Mapping[str, Any]
    value: float
    colour: str
    hollow: bool = False  # it was stopped: its value is that of its last epoch
    name: str = ""


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


def slice_places(axis: Axis, points: Sequence[Point]) -> list[tuple[float, Point]]:
    """Where the trials that have a parameter lie on its axis; many of one choice are spread a little."""
    spread = 0.5 / len(axis.choices) if axis.choices and len(points) > MANY else 0.0
    return [
        (axis.place(point.params[axis.name]) + (number * 0.618 % 1 - 0.5) * spread, point)
        for number, point in enumerate(points)
        if axis.name in point.params
    ]


def slice_figure(axis: Axis, points: Sequence[Point]) -> "Figure":
    """Ratios of trials against one parameter; those that do not have it are left out."""
    with style():
        figure = new_figure(2.6, 1.9, (0.55, 0.28, 0.12, 0.27))
        axes = figure.subplots()
        for place, point in slice_places(axis, points):
            axes.plot(
                [place],
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
        set_limits(axes, [point.value for point in points])
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
