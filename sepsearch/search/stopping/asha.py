"""Asynchronous successive halving, stopping variant: which trials are worth going on with.

Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", section 3 (arXiv 1810.05934).
"""

import bisect
import math


class Rungs:
    """Values of trials at epochs grace · factor^k below the full budget, and which trials go on.

    At a rung a trial stops unless its value is among the best 1/factor of all values recorded there so far, its own
    included: no waiting for others. The first factor − 1 to arrive pass: there is too little to judge them by.
    The rungs are plain numbers, so they can be rebuilt from the epochs of a journal.

    Args:
        grace: first rung, in epochs.
        factor: reduction factor, at least 2.
        epochs: the full budget; there is no rung at or above it.
    """

    def __init__(self, grace: int, factor: int, epochs: int):
        self.factor = factor
        self.values: dict[int, dict[str, float]] = {}
        rung = grace
        while rung < epochs:
            self.values[rung] = {}
            rung *= factor
        self._sorted: dict[int, list[float]] = {rung: [] for rung in self.values}

    def record(self, trial: str, epoch: int, value: float) -> None:
        """Record a trial's value after an epoch, if there is a rung; a value that is not finite is not recorded."""
        recorded = self.values.get(epoch)
        if recorded is None or not math.isfinite(value):
            return
        ranked = self._sorted[epoch]
        if trial in recorded:
            ranked.remove(recorded[trial])
        recorded[trial] = value
        bisect.insort(ranked, value)

    def report(self, trial: str, epoch: int, value: float) -> int | None:
        """Record a trial's value after an epoch (smaller is better); the rung at which it stops, or None to go on.

        A value that is not a number stops the trial at any rung: it compares with nothing.
        """
        if epoch not in self.values:
            return None
        if not math.isfinite(value):
            return epoch
        self.record(trial, epoch, value)
        cutoff = self.cutoff(epoch)
        return None if cutoff is None or value <= cutoff else epoch

    def cutoff(self, rung: int) -> float | None:
        """The value that is good enough at a rung now; None where there are too few values to judge by."""
        ranked = self._sorted[rung]
        passing = len(ranked) // self.factor
        return ranked[passing - 1] if passing else None

    def note(self, trial: str, rung: int) -> str:
        """What a decision followed from beside the values at the rung: nothing."""
        return ""
