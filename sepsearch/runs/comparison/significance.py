"""Significance of the difference between two final models: Welch's t test of log ratios over seeds, Holm's method."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sepsearch.training.metrics import mean_and_sd, t_quantile

LEAST_SEEDS = 3  # of each run, as for `mean_interval`: the spread of two says nothing
LEVEL = 0.05  # of the corrected p-values
CONFIDENCE = 0.95  # of each interval by itself


@dataclass(frozen=True)
class WelchTest:
    """Result of Welch's t test on the logarithms of two samples of ratios.

    Args:
        ratio: geometric mean of the second sample / that of the first; below 1, the second has the smaller loss.
        low: lower end of its CONFIDENCE interval; `high` the upper one.
        p: two-sided, before any correction for multiple comparisons.
        freedom: degrees of freedom after Welch and Satterthwaite.
    """

    ratio: float
    low: float
    high: float
    p: float
    freedom: float


def welch_test(first: Sequence[float], second: Sequence[float]) -> WelchTest | None:
    """Compare two samples of positive ratios; None where `sample_problem` has a reason.

    Source: B. L. Welch, "The generalization of 'Student's' problem when several different population variances are
    involved", Biometrika 34, 1947; of logarithms, so that the interval is one of the ratio of geometric means.
    """
    if sample_problem(first, second):
        return None
    from scipy.special import stdtr

    (mean_1, sd_1), (mean_2, sd_2) = (mean_and_sd([math.log(ratio) for ratio in of]) for of in (first, second))
    parts = (sd_1**2 / len(first), sd_2**2 / len(second))
    error, difference = math.sqrt(sum(parts)), mean_2 - mean_1
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(first) - 1) + parts[1] ** 2 / (len(second) - 1))
    half = t_quantile((1 + CONFIDENCE) / 2, freedom) * error
    p = 2 * float(stdtr(freedom, -abs(difference) / error))
    return WelchTest(math.exp(difference), math.exp(difference - half), math.exp(difference + half), p, freedom)


def sample_problem(first: Sequence[float], second: Sequence[float]) -> str:
    """Why two samples of ratios cannot be compared by `welch_test`; "" where they can."""
    if min(len(first), len(second)) < LEAST_SEEDS:
        return f"too few seeds: {len(first)} and {len(second)}, expected {LEAST_SEEDS} or more of each"
    if not all(math.isfinite(ratio) and ratio > 0 for ratio in (*first, *second)):
        return "a ratio is not a positive number"
    if len(set(first)) == len(set(second)) == 1:
        return "the seeds of neither run differ from each other"
    return ""


def holm(values: Sequence[float]) -> list[float]:
    """P-values corrected for their number, in the same order: the family-wise error stays below the level.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6,
    1979.
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    corrected, largest = [0.0] * len(values), 0.0
    for place, number in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - place) * values[number]))
        corrected[number] = largest
    return corrected
