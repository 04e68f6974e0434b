"""Logarithmic vertical axes of losses and ratios: the reference network's leave room for the others."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS = ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 4, 6), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,))
FEWEST, MOST = 4, 8  # ticks


def log_axis(axes: "Axes", values: Sequence[float]) -> None:
    """Make the vertical axis logarithmic, with a margin around the values and round numbers at its ticks.

    Values at or below 0, which have no logarithm, are left out of the figure's limits.
    """
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    positive = [value for value in values if value > 0]
    axes.set_yscale("log", nonpositive="mask")
    if not positive:
        return
    low, high = min(positive), max(positive)
    margin = (high / low) ** 0.06 if high > low else 1.05
    low, high = low / margin, high * margin
    axes.set_ylim(low, high)
    ticks = log_ticks(low, high)
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
    axes.yaxis.set_minor_locator(NullLocator())


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, both above 0: the most that are not too many for a small figure.

    Where hardly any lie between them they are evenly spaced: there a logarithmic axis looks like a linear one.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in STEPS:
        found = [float(f"{step * 10.0**decade:.6g}") for decade in decades for step in steps]
        found = [tick for tick in found if low <= tick <= high]
        if FEWEST <= len(found) <= MOST:
            return found
    return _even_ticks(low, high)


def _even_ticks(low: float, high: float) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    ticks = [float(f"{tick:.6g}") for tick in MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(low, high)]
    return [tick for tick in ticks if low <= tick <= high]


def log_share(value: float, limits: tuple[float, float]) -> float:
    """Where a value lies between the limits of a logarithmic axis, 0 to 1."""
    low, high = limits
    return math.log(value / low) / math.log(high / low)
