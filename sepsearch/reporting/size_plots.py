"""Ratio of trials against the size of their networks and against their speed, with the Pareto front."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sepsearch.reporting.hover import Trace
from sepsearch.reporting.plots import set_limits
from sepsearch.reporting.style import INK, MUTED, PALE, SERIES, new_figure, style
from sepsearch.runs.job import RUNNING, Job
from sepsearch.spaces.constraints import rate, violation
from sepsearch.utils.formatting import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORST = 1.5  # ratios of trials that did not run to their end are drawn at the edge beyond this, or the worst other
STEPS = ((1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9), (1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,))
MOST_TICKS = 7
LEAST_RANGE = 0.2  # powers of ten
MANY = 40  # trials: then the names of the front are small


@dataclass(frozen=True)
class SizePoint:
    """A trial: its number of parameters, its examples a second (None if not known), its ratio, and how it ended.

    `state`: "completed" (the ratio counts), "stopped" (that of an earlier epoch) or "infeasible" (a constraint is
    violated).
    """

    name: str
    parameters: int | None
    speed: float | None
    ratio: float
    state: str
    colour: str = MUTED


@dataclass(frozen=True)
class Measure:
    """What ratios are drawn against: `least` is whether less of it is better; `limit` is the space's, if it has one."""

    label: str
    least: bool
    limit: float | None = None

    def value(self, point: SizePoint) -> float | None:
        """Of a trial; None where it is not known."""
        found = point.parameters if self.least else point.speed
        return float(found) if found and found > 0 else None


def measures(limits: Mapping[str, float]) -> tuple[Measure, Measure]:
    """Parameters and examples a second; `limits` are the constraints of a space file."""
    return (
        Measure("parameters", True, limits.get("parameters")),
        Measure("training examples per second", False, limits.get("examples_per_second")),
    )


def size_points(
    jobs: Mapping[str, Job], limits: Mapping[str, float], names: Mapping[str, str], colours: Mapping[str, str]
) -> list[SizePoint]:
    """The trials that have a ratio and have ended.

    Args:
        jobs: trials by id.
        limits: the constraints of the space file.
        names: other names of some trials, such as "t0003 (c0)".
        colours: of some trials; the others are grey.
    """
    points = []
    for job in jobs.values():
        if job.ratio is None or not math.isfinite(job.ratio) or job.state in (RUNNING, "failed"):
            continue
        broken = job.reason.startswith("infeasible") or bool(violation(limits, job.size, None))
        state = "infeasible" if broken else job.state
        colour = colours.get(job.id, MUTED)
        points.append(SizePoint(names.get(job.id, job.id), job.size, job.speed, job.ratio, state, colour))
    return points


def front(points: Sequence[SizePoint], measure: Measure) -> list[SizePoint]:
    """The Pareto front of completed trials: no other has both a better ratio and a better value; the best ratio first.

    Of equal ones it is the first.
    """
    known = [point for point in points if point.state == "completed" and measure.value(point) is not None]
    sign = 1.0 if measure.least else -1.0
    found: list[SizePoint] = []
    for point in sorted(known, key=lambda point: (point.ratio, sign * (measure.value(point) or 0.0))):
        if not found or sign * (measure.value(point) or 0.0) < sign * (measure.value(found[-1]) or 0.0):
            found.append(point)
    return found


def size_figure(points: Sequence[SizePoint], measure: Measure) -> "Figure":
    """Ratio against a measure on a logarithmic axis; the front as a line, whose points are named.

    A dot is a trial that ran to its end, a hollow one was stopped earlier, a cross violates a constraint. The
    horizontal axis of the figure is the common logarithm of the measure.
    """
    with style():
        figure = new_figure(5.4, 3.5, (0.62, 0.5, 0.12, 0.27))
        axes = figure.subplots()
        best, worst = front(points, measure), worst_shown(points)
        for point in points:
            if (place := _place(point, measure)) is not None:
                _draw_point(axes, point, place, worst)
        line = [(place, point.ratio) for point in best if (place := _place(point, measure)) is not None]
        if line:
            axes.plot(*zip(*line, strict=True), color=SERIES[0], linewidth=1.3, zorder=2)
        if measure.limit is not None:
            axes.axvline(math.log10(measure.limit), color=INK, linestyle=(0, (4, 3)), linewidth=1)
        set_limits(axes, [min(point.ratio, worst) for point in points if _place(point, measure) is not None])
        low, high = axes.get_ylim()
        axes.set_ylim(low - 0.06 * (high - low), high)  # for the name of the best
        _log_ticks(axes, measure)
        _name_front(axes, best, measure, small=len(points) > MANY)
        axes.set_xlabel(f"{measure.label}{' (dashed: the limit)' if measure.limit is not None else ''}")
        axes.set_ylabel("ratio: loss / identity loss")
        axes.set_title(f"ratio against {measure.label}")
        return figure


def worst_shown(points: Sequence[SizePoint]) -> float:
    """The largest ratio that is drawn as it is."""
    return max([WORST, *(point.ratio for point in points if point.state == "completed")])


def _place(point: SizePoint, measure: Measure) -> float | None:
    value = measure.value(point)
    return None if value is None else math.log10(value)


def _draw_point(axes: "Axes", point: SizePoint, place: float, worst: float) -> None:
    marker = "x" if point.state == "infeasible" else "o"
    colour = PALE if point.colour == MUTED and point.state != "completed" else point.colour
    filled, order = (colour, 3) if point.state == "completed" else ("none", 1)
    axes.plot(
        [place], [min(point.ratio, worst)], marker, color=colour, markersize=5, zorder=order, markerfacecolor=filled
    )


def _name_front(axes: "Axes", best: Sequence[SizePoint], measure: Measure, small: bool) -> None:
    """Write the names of the front's points; of those that are close to each other the first alone."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    named: list[tuple[float, float]] = []
    for point in best:
        place, ratio = _place(point, measure), point.ratio
        if place is None:
            continue
        near = any(abs(place - x) < 0.14 * (right - left) and abs(ratio - y) < 0.06 * (high - low) for x, y in named)
        if near:
            continue
        named.append((place, ratio))
        # On the side of the front where no trial can lie.
        axes.annotate(
            point.name,
            (place, ratio),
            (-5 if measure.least else 5, -3),
            textcoords="offset points",
            ha="right" if measure.least else "left",
            va="top",
            color=INK if point.colour == MUTED else point.colour,
            fontsize=7 if small else 8,
            zorder=8,
        )


def _log_ticks(axes: "Axes", measure: Measure) -> None:
    """Ticks of an axis of common logarithms at round values, the fewer per power of ten the more powers there are.

    There is room for the names of the front at its end.
    """
    low, high = axes.get_xlim()
    more = max(0.0, LEAST_RANGE - (high - low)) / 2
    low, high = low - more, high + more
    narrow, wide = 0.03 * (high - low), 0.2 * (high - low)
    low, high = (low - wide, high + narrow) if measure.least else (low - narrow, high + wide)
    axes.set_xlim(low, high)
    for steps in STEPS:
        powers = range(math.floor(low) - 1, math.ceil(high) + 1)
        shown = [value for power in powers for step in steps if low <= math.log10(value := step * 10.0**power) <= high]
        if len(shown) <= MOST_TICKS:
            break
    shown = shown[:: math.ceil(len(shown) / MOST_TICKS)]
    axes.set_xticks([math.log10(value) for value in shown], [_short(value) for value in shown])


def _short(value: float) -> str:
    """A value in three digits: "54.7k", "1.2M"."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


def size_traces(points: Sequence[SizePoint], measure: Measure) -> list[Trace]:
    """What the points of `size_figure` are called and say under the pointer."""
    traces, worst = [], worst_shown(points)
    for point in sorted(points, key=lambda point: _place(point, measure) or 0.0):
        place = _place(point, measure)
        if place is None:
            continue
        parts = [f"{point.parameters:,} parameters"] if point.parameters else []
        parts += [f"{rate(point.speed)} examples/s"] if point.speed else []
        late = {"stopped": " at its last epoch", "infeasible": ", a constraint is violated"}.get(point.state, "")
        text = ", ".join([*parts, f"ratio {number(point.ratio, 3)}{late}"])
        traces.append(Trace(point.name, [place], [min(point.ratio, worst)], text))
    return traces
