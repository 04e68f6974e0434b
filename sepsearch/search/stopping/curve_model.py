"""Early stopping by a learning-curve model: a trial stops when it is unlikely to beat the best at the full budget."""

import math

from sepsearch.search.stopping.learning_curves import LearningCurveModel

COMPLETED = 3  # trials at the full budget before any is stopped
UNLIKELY = 0.05  # probability of beating the best below which a trial stops
SMALLEST = 1e-9  # of a value, whose logarithm is modelled


class CurveModelRule:
    """Stops a trial whose probability of ending below the best value of the full budget is less than `unlikely`.

    The probability is that of `LearningCurveModel`, fitted to the curves of all trials that have completed or were
    stopped by this rule. It is asked every `grace` epochs, and not before COMPLETED trials have reached the full
    budget.

    Args:
        grace: epochs between two decisions on a trial, and before the first.
        factor: not used; see `StoppingRule`.
        epochs: the full budget.
        unlikely: the probability.
    """

    def __init__(self, grace: int, factor: int, epochs: int, unlikely: float = UNLIKELY):
        self.factor, self._epochs, self._unlikely = factor, epochs, unlikely
        self.values: dict[int, dict[str, float]] = {check: {} for check in range(grace, epochs, grace)}
        self._curves: dict[str, list[float]] = {}
        self._ended: dict[str, float] = {}  # trial → value at the full budget; infinite for those that were stopped
        self._model: LearningCurveModel | None = None  # made for the first decision
        self._outdated = True  # whether a curve has ended since the model was fitted
        self._notes: dict[str, str] = {}

    def record(self, trial: str, epoch: int, value: float) -> None:
        """Record a trial's value after an epoch; a value that is not finite is not recorded."""
        if not math.isfinite(value):
            return
        curve = self._curves.setdefault(trial, [])
        del curve[epoch - 1 :]
        curve += [value] * (epoch - len(curve))  # an epoch that is missing has the value of the next one
        if epoch in self.values:
            self.values[epoch][trial] = value
        if epoch >= self._epochs:
            self._end(trial, value)

    def report(self, trial: str, epoch: int, value: float) -> int | None:
        """Record a trial's value after an epoch (smaller is better); the epoch at which it stops, or None to go on.

        A value that is not a number stops the trial where a decision is due.
        """
        self.record(trial, epoch, value)
        if epoch not in self.values:
            return None
        if not math.isfinite(value):
            return epoch
        completed = [end for end in self._ended.values() if math.isfinite(end)]
        if len(completed) < COMPLETED:
            return None
        best, model = min(completed), self._fitted()
        curve = _positive(self._curves[trial])
        probability = model.probability_below(curve, max(best, SMALLEST))
        mean, _ = model.predict(curve)
        self._notes[trial] = (
            f"expected to end at {math.exp(mean):.4g}, with probability {probability:.2g} to end below the best so far,"
            f" {best:.4g}"
        )
        if probability >= self._unlikely:
            return None
        self._end(trial, math.inf)
        return epoch

    def cutoff(self, rung: int) -> float | None:
        """None: whether a trial goes on depends on its whole curve."""
        return None

    def note(self, trial: str, rung: int) -> str:
        """What the model expected of a trial when it was asked last."""
        return self._notes.get(trial, "")

    def _end(self, trial: str, value: float) -> None:
        self._ended[trial] = value
        self._outdated = True

    def _fitted(self) -> LearningCurveModel:
        """The model, fitted to what has ended by now."""
        if self._model is None:
            self._model = LearningCurveModel(self._epochs)
        if self._outdated:
            self._model.fit([_positive(self._curves[trial]) for trial in self._ended])
            self._outdated = False
        return self._model


def _positive(curve: list[float]) -> list[float]:
    return [max(value, SMALLEST) for value in curve]
