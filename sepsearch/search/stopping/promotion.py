"""Asynchronous successive halving, promotion variant: trials pause at rungs until they are among the best there.

Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2 (arXiv 1810.05934).
"""

import math

from sepsearch.search.stopping.asha import Rungs


class PromotionRungs(Rungs):
    """Rungs at which every trial pauses, and from which the best 1/factor are promoted to the next.

    A free worker takes the best paused trial of the highest rung at which one is among the best 1/factor of all values
    there, and begins a new trial where there is none. A trial that would be taken up at once does not pause. So no
    trial passes a rung unjudged, as the first factor − 1 do in the stopping variant; with fewer than factor trials
    none is promoted.

    Args:
        grace: first rung, in epochs.
        factor: reduction factor, at least 2.
        epochs: the full budget; there is no rung at or above it.
    """

    def __init__(self, grace: int, factor: int, epochs: int):
        super().__init__(grace, factor, epochs)
        self._promoted: dict[int, set[str]] = {rung: set() for rung in self.values}
        self._paused: dict[int, set[str]] = {rung: set() for rung in self.values}

    def report(self, trial: str, epoch: int, value: float) -> int | None:
        """Record a trial's value after an epoch (smaller is better); the rung at which it pauses, or None to go on.

        A value that is not a number pauses the trial for good.
        """
        if epoch not in self.values:
            return None
        self.record(trial, epoch, value)
        if not math.isfinite(value) or self._next({trial}) != (trial, epoch):
            return epoch
        self._promoted[epoch].add(trial)
        return None

    def paused(self, trial: str, rung: int) -> None:
        """A trial's worker is free: from now on it can be promoted; not where a resumed search has no such rung."""
        self._paused.setdefault(rung, set()).add(trial)

    def promotable(self) -> tuple[str, int] | None:
        """The best paused trial of the highest rung from which one can be promoted, and the rung."""
        return self._next(set())

    def finishing(self) -> tuple[str, int] | None:
        """The best paused trial of the highest rung where one waits, for a search in which no trial has completed.

        The algorithm begins new trials for ever; in a search of few ones none would get past the rungs.
        """
        for rung in reversed(self.values):
            waiting = self._paused[rung] & self.values[rung].keys()
            if waiting:
                return min(waiting, key=lambda trial: (self.values[rung][trial], trial)), rung
        return None

    def promoted(self, trial: str, rung: int) -> None:
        """A trial that was paused at a rung goes on."""
        self._paused.setdefault(rung, set()).discard(trial)
        self._promoted.setdefault(rung, set()).add(trial)

    def withdrawn(self, trial: str) -> None:
        """A paused trial has ended: it is not promoted any more, and its values stay."""
        for waiting in self._paused.values():
            waiting.discard(trial)

    def _next(self, arriving: set[str]) -> tuple[str, int] | None:
        """The trial to promote; those `arriving` count as paused wherever they have a value and were not promoted."""
        for rung in reversed(self.values):
            if not self._open_above(rung):
                continue
            values = self.values[rung]
            passing = len(values) // self.factor
            best = sorted(values, key=lambda trial: (values[trial], trial))[:passing]
            for trial in best:
                if trial not in self._promoted[rung] and (trial in self._paused[rung] or trial in arriving):
                    return trial, rung
        return None

    def _open_above(self, rung: int) -> bool:
        """Whether trials can be promoted from a rung."""
        return True
