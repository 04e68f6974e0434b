"""PASHA: asynchronous successive halving whose largest rung grows only while the ranking of trials still changes.

Source: Bohdal et al. 2023, "PASHA: Efficient HPO and NAS with Progressive Resource Allocation" (arXiv 2207.06940).
"""

import itertools
import math
from collections.abc import Mapping

from sepsearch.search.stopping.promotion import PromotionRungs

PERCENTILE = 90.0  # of the differences between trials whose curves cross by noise: epsilon of the soft ranking


class PashaRungs(PromotionRungs):
    """Rungs with promotion, of which the lowest two are open at first.

    When a trial arrives at the largest open rung, the trials there are ranked by their values, and so are the same
    trials by their values one rung below. Where a trial has another rank, and its value below differs by more than
    epsilon from that of the trial with this rank, the next rung opens; the full budget is the last one. A search in
    which rankings agree ends with no trial at the full budget: its best are those that came furthest.

    Epsilon is the 90th percentile of the differences between two trials, over all pairs at the largest open rung whose
    curves cross at least twice up to there, each at the last epoch at which both are known. It is 0 before there is
    such a pair, and stays as it was where there is none any more.

    As in the paper, the underlying rungs promote; unlike in Syne Tune the check follows arrivals at the largest open
    rung alone (the paper's algorithm 1), and pairs are those that have arrived there.

    Args:
        grace: first rung, in epochs.
        factor: reduction factor, at least 2.
        epochs: the full budget.
    """

    def __init__(self, grace: int, factor: int, epochs: int):
        super().__init__(grace, factor, epochs)
        self._levels = [*self.values, epochs]
        self._top = min(1, len(self._levels) - 1)
        self._curves: dict[str, dict[int, float]] = {}
        self._paired: set[str] = set()  # trials at the largest open rung whose pairs were looked at
        self._crossings: list[float] = []  # last differences of those pairs that cross twice
        self.epsilon = 0.0

    @property
    def largest(self) -> int:
        """Largest open rung, in epochs: no trial is trained for longer now."""
        return self._levels[self._top]

    def record(self, trial: str, epoch: int, value: float) -> None:
        """Record a trial's value after an epoch; opens the next rung where it changes the ranking."""
        self._curves.setdefault(trial, {})[epoch] = value
        super().record(trial, epoch, value)
        if epoch == self.largest and epoch in self.values and math.isfinite(value):
            self._grow()

    def report(self, trial: str, epoch: int, value: float) -> int | None:
        """Record a trial's value after an epoch; the rung at which it pauses, or None to go on."""
        if epoch not in self.values:
            self.record(trial, epoch, value)
            return None
        return super().report(trial, epoch, value)

    def finishing(self) -> None:
        """None: to end before the full budget is what the method saves."""

    def _open_above(self, rung: int) -> bool:
        return rung < self.largest

    def cutoff(self, rung: int) -> float | None:
        """As `Rungs.cutoff`; None at the largest open rung and above, from which no trial is promoted."""
        return super().cutoff(rung) if self._open_above(rung) else None

    def note(self, trial: str, rung: int) -> str:
        """Which rung is the largest open one, where that is why a trial paused."""
        return "" if self._open_above(rung) else f"epoch {rung} was the largest open rung"

    def _grow(self) -> None:
        """Open the next rung where the rankings of the two largest open rungs disagree."""
        import numpy as np

        top, below = self.values[self.largest], self.values[self._levels[self._top - 1]]
        for trial in sorted(top.keys() - self._paired):
            pairs = (sorted((trial, other)) for other in self._paired)
            gaps = [crossing_gap(self._curves[one], self._curves[other]) for one, other in pairs]
            self._crossings += [gap for gap in gaps if gap is not None]
            self._paired.add(trial)
        if self._crossings:
            self.epsilon = float(np.percentile(self._crossings, PERCENTILE))
        if not same_ranking(top, below, self.epsilon):
            self._top += 1
            self._paired, self._crossings = set(), []


def same_ranking(top: Mapping[str, float], below: Mapping[str, float], epsilon: float) -> bool:
    """Whether trials rank alike at two rungs, by the soft ranking of section 4.1.

    Args:
        top: trial → value at the larger rung.
        below: trial → value at the smaller one, of at least the same trials.
        epsilon: differences at the smaller rung up to which the order of two trials is not judged.
    """
    before = sorted((trial for trial in top if trial in below), key=lambda trial: (below[trial], trial))
    now = sorted(before, key=lambda trial: (top[trial], trial))
    return all(abs(below[one] - below[other]) <= epsilon for one, other in zip(now, before, strict=True))


def crossing_gap(one: Mapping[int, float], other: Mapping[int, float]) -> float | None:
    """Absolute difference of two curves (epoch → value) at the last epoch of both; None unless they cross twice."""
    known = [one[epoch] - other[epoch] for epoch in sorted(one.keys() & other.keys())]
    gaps = [gap for gap in known if math.isfinite(gap)]
    crossings = sum((before > 0) != (after > 0) for before, after in itertools.pairwise(gaps))
    return abs(gaps[-1]) if crossings >= 2 else None
