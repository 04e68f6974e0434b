"""Numbers that judge networks: discontinuities of a learning curve, SI-SDR, mean and spread over seeds."""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray

RECENT = 5
JUMP_SPREADS = 6.0
JUMP_SHARE = 0.25
SILENT_DB = -60.0


def is_discontinuity(losses: Sequence[float]) -> bool:
    """Whether the last loss of a curve is a jump: the report's "large unexplained discontinuity".

    The last step up is larger than JUMP_SPREADS times the spread of the curve's RECENT steps (1.4826 · the median of
    their sizes, a robust standard deviation; Rousseeuw and Croux 1993) and than JUMP_SHARE of the loss before it, so
    that neither a noisy nor a flat curve has any. Needs 3 epochs before it.
    """
    recent = losses[-RECENT - 1 : -1]
    if len(recent) < 3:
        return False
    spread = 1.4826 * median(abs(after - before) for before, after in pairwise(recent))
    return losses[-1] - recent[-1] > max(JUMP_SPREADS * spread, JUMP_SHARE * recent[-1])


def si_sdr(estimate: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, eq. 3), of two (sample,) waveforms.

    NaN where it means nothing: the reference is silent, or the estimate lies more than 60 dB below the reference
    (an all-zero estimate would otherwise score 0 dB, above a loud mixture).
    """
    reference = reference.astype(np.float64) - reference.mean(dtype=np.float64)
    estimate = estimate.astype(np.float64) - estimate.mean(dtype=np.float64)
    power, estimated = float(reference @ reference), float(estimate @ estimate)
    if power == 0 or estimated <= power * 10 ** (SILENT_DB / 10):
        return math.nan
    target = (float(estimate @ reference) / power) * reference
    noise = estimate - target
    floor = np.finfo(np.float64).eps * power
    return 10 * math.log10((float(target @ target) + floor) / (float(noise @ noise) + floor))


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value) of the finite values; NaN for none."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return math.nan, math.nan
    centre = fmean(finite)
    spread = math.sqrt(sum((value - centre) ** 2 for value in finite) / (len(finite) - 1)) if len(finite) > 1 else 0.0
    return centre, spread
