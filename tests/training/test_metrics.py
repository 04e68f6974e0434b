"""Discontinuities, mean, spread and confidence."""

import math

import pytest
from scipy import stats

from sepsearch.training.metrics import is_discontinuity, mean_and_sd, mean_interval


def test_a_jump_in_a_smooth_curve_is_a_discontinuity():
    assert is_discontinuity([1.0, 0.8, 0.7, 0.65, 0.62, 1.4])


@pytest.mark.parametrize(
    "curve",
    [[1.0, 0.8, 0.7, 0.65, 0.62, 0.6], [0.5, 0.5, 0.5, 0.5, 0.51], [0.5, 0.9, 0.4, 0.8, 0.5, 0.95], [0.2, 0.9], []],
    ids=["falling", "flat", "noisy", "too short", "empty"],
)
def test_an_ordinary_curve_has_no_discontinuity(curve):
    assert not is_discontinuity(curve)


def test_mean_and_sd_leave_out_what_is_no_number():
    assert mean_and_sd([1.0, math.nan, 3.0]) == pytest.approx((2.0, math.sqrt(2)))


def test_the_interval_of_a_mean_ratio_is_students_of_the_logarithms():
    values = [0.4, 0.5, 0.45, 0.48]
    logs = [math.log(value) for value in values]
    low, high = stats.t.interval(0.95, 3, loc=sum(logs) / 4, scale=stats.sem(logs))
    assert mean_interval([*values, math.nan]) == pytest.approx((math.exp(low), math.exp(high)))


def test_the_interval_of_a_mean_ratio_is_positive_however_far_seeds_are_apart():
    interval = mean_interval([0.02, 0.9, 0.3])
    assert interval is not None
    assert interval[0] > 0


@pytest.mark.parametrize("ratios", [[0.4, math.nan], [0.4, 0.5], [0.4, 0.5, 0.0]], ids=["one", "two", "zero"])
def test_one_or_two_seeds_have_no_interval_and_a_ratio_of_zero_has_none(ratios):
    assert mean_interval(ratios) is None
