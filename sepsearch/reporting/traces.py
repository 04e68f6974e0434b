"""What the figures' lines and points are called and say under the pointer: one function for every kind of figure."""

import math
from collections.abc import Sequence

from sepsearch.reporting.hover import Trace
from sepsearch.reporting.parameter_plots import Axis, Point, short, slice_places
from sepsearch.reporting.plots import RIVALS, WORST, Curve, Judged
from sepsearch.utils.formatting import number


def curve_traces(curves: Sequence[Curve]) -> list[Trace]:
    """Of learning curves and of the search's ratios by epoch."""
    return [Trace(curve.name, curve.epochs, curve.values) for curve in curves]


def ratio_traces(rows: Sequence[Judged]) -> list[Trace]:
    """Of `plots.ratio_figure`."""
    traces = []
    for place, row in enumerate(rows):
        interval = ""
        if math.isfinite(row.low) and math.isfinite(row.high):
            interval = f", 95 % interval {number(row.low, 3)} to {number(row.high, 3)}"
        values = {"model, mean of seeds": row.mean, "model, test titles": row.test}
        values |= {name: row.others.get(name, math.nan) for name in RIVALS}
        for name, value in values.items():
            if math.isfinite(value):
                text = f"{name} {number(value, 3)}{interval if name == 'model, mean of seeds' else ''}"
                traces.append(Trace(row.label, [min(value, WORST)], [place], text))
    return traces


def slice_traces(axis: Axis, points: Sequence[Point]) -> list[Trace]:
    """Of `plots.slice_figure`."""
    return [
        Trace(
            point.name, [place], [point.value], f"{axis.name} {short(point.params[axis.name])}, ratio {_ratio(point)}"
        )
        for place, point in slice_places(axis, points)
    ]


def parallel_traces(axes_of: Sequence[Axis], points: Sequence[Point]) -> list[Trace]:
    """Of `plots.parallel_figure`."""
    best, worst = min(point.value for point in points), max(point.value for point in points)
    traces = []
    for point in points:
        heights = [axis.place(point.params.get(axis.name)) for axis in axes_of]
        heights = [height if math.isfinite(height) else -0.1 for height in heights]
        heights.append((point.value - best) / ((worst - best) or 1))
        own = [f"{axis.name} {short(point.params[axis.name])}" for axis in axes_of if axis.name in point.params]
        text = ", ".join([*own, f"ratio {_ratio(point)}"])
        traces.append(Trace(point.name, range(len(heights)), heights, text))
    return traces


def _ratio(point: Point) -> str:
    return number(point.value, 3) + (" at its last epoch" if point.hollow else "")
