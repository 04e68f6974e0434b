"""Values of figures as data for the page's script, which shows them under the pointer and by the arrow keys."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 72  # per inch: the unit of an SVG's view box


@dataclass(frozen=True)
class Trace:
    """A line or a point of a figure, in data coordinates.

    `text` is what there is to read of it, the same at all of its points; "": epoch and value of each point.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    text: str = ""


def hover_data(figure: "Figure", traces: Sequence[Trace]) -> str:
    """JSON of a figure's traces; call when the figure has been saved, since only then its layout is known.

    "map" is [a, b, c, d]: a point (x, y) lies at (a x + b, c y + d) in the view box, and where "log" is true at
    (a x + b, c log10(y) + d). Values that are not finite are null. Each of "traces" is [name, x's, y's, text].
    """
    (axes, *_) = figure.axes
    width, height = (POINTS * size for size in figure.get_size_inches())
    to_figure = axes.transData + figure.transFigure.inverted()
    logarithmic = axes.get_yscale() == "log"
    zero, one = (1.0, 10.0) if logarithmic else (0.0, 1.0)
    (left, low), (right, high) = to_figure.transform([(0.0, zero), (1.0, one)]).tolist()
    # y of an SVG grows downwards.
    place = [width * (right - left), width * left, height * (low - high), height * (1 - low)]
    values = [[t.name, [_plain(x) for x in t.x], [_plain(y) for y in t.y], t.text] for t in traces]
    data = {"map": [round(value, 3) for value in place], "log": logarithmic, "traces": values}
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def _plain(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) else float(f"{value:.4g}")
