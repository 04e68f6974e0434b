"""Numbers that judge networks: discontinuities of a learning curve, mean, spread and confidence over seeds."""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median

RECENT = 5
JUMP_SPREADS = 6.0
JUMP_SHARE = 0.25


def is_discontinuity(losses: Sequence[float]) -> bool:
    """Whether the last loss of a curve is a jump: the reference's "large unexplained discontinuity".

    The last step up is larger than JUMP_SPREADS times the spread of the curve's RECENT steps (1.4826 · the median of
    their sizes, a robust standard deviation; Rousseeuw and Croux 1993) and than JUMP_SHARE of the loss before it, so
    that neither a noisy nor a flat curve has any. Needs 3 epochs before it.
    """
    recent = losses[-RECENT - 1 : -1]
    if len(recent) < 3:
        return False
    spread = 1.4826 * median(abs(after - before) for before, after in pairwise(recent))
    return losses[-1] - recent[-1] > max(JUMP_SPREADS * spread, JUMP_SHARE * recent[-1])


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value) of the finite values; NaN for none."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return math.nan, math.nan
    centre = fmean(finite)
    spread = math.sqrt(sum((value - centre) ** 2 for value in finite) / (len(finite) - 1)) if len(finite) > 1 else 0.0
    return centre, spread


def t_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t distribution with `freedom` degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def mean_interval(ratios: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Confidence interval of the geometric mean of ratios: Student's, of their logarithms; both ends are positive.

    None for fewer than three finite values, as that of two says nothing, and where one is not positive.
    """
    finite = [ratio for ratio in ratios if math.isfinite(ratio)]
    if len(finite) < 3 or min(finite) <= 0:
        return None
    mean, sd = mean_and_sd([math.log(ratio) for ratio in finite])
    half = t_quantile((1 + confidence) / 2, len(finite) - 1) * sd / math.sqrt(len(finite))
    return math.exp(mean - half), math.exp(mean + half)
