"""Logarithmic axes: which ticks they have, and what they do with values that have no logarithm."""

import pytest

from sepsearch.reporting.log_axis import log_axis, log_share, log_ticks
from sepsearch.reporting.style import new_figure, style


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.3, 1.1, [0.3, 0.4, 0.5, 0.6, 0.8, 1.0]),
        (0.05, 1.5, [0.05, 0.1, 0.2, 0.3, 0.5, 1.0]),
        (0.00012, 9.0, [0.001, 0.01, 0.1, 1.0]),
        (0.341, 0.358, [0.345, 0.35, 0.355]),
        (0.33, 0.6, [0.35, 0.4, 0.45, 0.5, 0.55, 0.6]),
    ],
)
def test_ticks_are_round_numbers_within_the_limits(low, high, ticks):
    assert log_ticks(low, high) == ticks


@pytest.mark.parametrize("factor", [1.0001, 1.01, 1.3, 2, 5, 17, 100, 1e4, 1e9])
@pytest.mark.parametrize("low", [1e-6, 0.0123, 0.34, 1.0, 7.7])
def test_every_range_has_some_ticks_and_not_too_many(low, factor):
    ticks = log_ticks(low, low * factor)
    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))
    assert low <= ticks[0]
    assert ticks[-1] <= low * factor


@pytest.mark.parametrize("values", [[0.5, 0.0, 0.25], [0.5, -1.0], [0.0], [], [0.4]])
def test_values_without_a_logarithm_are_left_out_of_the_limits(values):
    with style():
        axes = new_figure(4, 3).subplots()
        log_axis(axes, values)
    low, high = axes.get_ylim()
    assert 0 < low < high
    assert all(low < value < high for value in values if value > 0)


def test_the_share_of_an_axis_is_that_of_the_logarithm():
    assert log_share(1.0, (0.1, 10.0)) == pytest.approx(0.5)
