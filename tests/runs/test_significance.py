"""Welch's t test of log ratios, and Holm's correction."""

import math

import numpy as np
import pytest
from scipy import stats

from sepsearch.runs.comparison.significance import holm, sample_problem, welch_test

FIRST, SECOND = (0.50, 0.52, 0.49, 0.53), (0.44, 0.47, 0.45)


def test_the_test_is_scipys_on_logarithms():
    found = welch_test(FIRST, SECOND)
    expected = stats.ttest_ind(np.log(SECOND), np.log(FIRST), equal_var=False)
    low, high = np.exp(expected.confidence_interval(0.95))
    assert found is not None
    assert found.ratio == pytest.approx(math.exp(np.log(SECOND).mean() - np.log(FIRST).mean()))
    assert (found.p, found.freedom) == (pytest.approx(expected.pvalue), pytest.approx(expected.df))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_the_test_the_other_way_round_has_the_inverse_ratio_and_the_same_p():
    one, other = welch_test(FIRST, SECOND), welch_test(SECOND, FIRST)
    assert one is not None
    assert other is not None
    assert one.ratio * other.ratio == pytest.approx(1)
    assert one.p == pytest.approx(other.p)


def test_one_sample_without_spread_is_compared_all_the_same():
    found = welch_test((0.5, 0.5, 0.5), SECOND)
    assert found is not None
    assert 0 < found.p < 1


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ((0.5, 0.6), SECOND, "too few seeds: 2 and 3, expected 3 or more of each"),
        ((0.5, 0.6, math.nan), SECOND, "a ratio is not a positive number"),
        ((0.5, 0.6, 0.0), SECOND, "a ratio is not a positive number"),
        ((0.5, 0.5, 0.5), (0.4, 0.4, 0.4), "the seeds of neither run differ from each other"),
    ],
)
def test_samples_that_cannot_be_tested_have_a_reason_and_no_test(first, second, problem):
    assert sample_problem(first, second) == problem
    assert welch_test(first, second) is None


def test_holm_multiplies_the_smallest_by_their_number_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_holm_never_exceeds_one_and_leaves_a_single_value_as_it_is():
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
