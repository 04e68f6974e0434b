"""Throughput of a run (epochs per second over the last minutes), and an estimate of the epochs left."""

from collections import deque
from collections.abc import Mapping
from math import sqrt
from typing import Any

from sepsearch.search.stopping.forecast import expected_epochs
from sepsearch.spaces.space import journal_space
from sepsearch.utils.errors import UserError

WINDOW_SECONDS = 300.0
FEW = 5  # epochs: fewer in a window are too few for an estimate
PRIOR = 5  # trials that the forecast counts for, beside those that have ended


class Throughput:
    """Epochs per second over the last minutes, and seconds that processes have worked.

    Times are seconds since 1970. "The last minutes" are WINDOW_SECONDS, or as far back as the last FEW epochs.
    """

    def __init__(self) -> None:
        self._epochs: deque[tuple[float, float, float]] = deque()  # time, seconds, examples per second
        self._begin = self._last = self._before = 0.0

    def begin(self, time: float) -> None:
        """A process begins; epochs of earlier ones do not count for its speed."""
        self._before += self._last - self._begin
        self._epochs.clear()
        self._begin = self._last = time

    def add(self, time: float, seconds: float = 0.0, examples_per_second: float = 0.0) -> None:
        """An epoch of a job was done: its seconds, and its training examples per second."""
        self._epochs.append((time, seconds, examples_per_second))
        self._last = time
        while len(self._epochs) > FEW + 1 and self._epochs[0][0] < time - WINDOW_SECONDS:
            self._epochs.popleft()

    def _recent(self, now: float) -> tuple[int, float]:
        """Epochs of the last minutes, and when that period began."""
        recent = sum(time > now - WINDOW_SECONDS for time, _, _ in self._epochs)
        if recent >= FEW:
            return recent, max(self._begin, now - WINDOW_SECONDS)
        start = self._epochs[-FEW - 1][0] if len(self._epochs) > FEW else self._begin
        return min(FEW, len(self._epochs)), start

    def rate(self, now: float) -> float | None:
        """Epochs per second of all jobs together; None before the first. It falls while no epoch ends."""
        count, start = self._recent(now)
        return count / max(now - start, 1e-3) if count else None

    def examples_per_second(self, now: float) -> float:
        """Training examples per second of one job: the mean over epochs, weighted by how long each took."""
        count, _ = self._recent(now)
        recent = list(self._epochs)[len(self._epochs) - count :]
        seconds = sum(took for _, took, _ in recent)
        return sum(took * speed for _, took, speed in recent) / seconds if seconds else 0.0

    def worked(self, now: float) -> float:
        """Seconds that all processes have worked so far, each up to its last epoch, the one at work up to now."""
        return self._before + now - self._begin


class SearchLength:
    """Estimate of the epochs that a search has still to do."""

    def __init__(self) -> None:
        self._settings: Mapping[str, Any] = {}
        self._space: Mapping[str, Any] = {}
        self._forecast: float | None = None
        self._epochs = self._ended = self._squares = 0

    def begin(self, settings: Mapping[str, Any], space: Mapping[str, Any]) -> None:
        """Take the run's settings and space, as in the journal's first event."""
        self._settings, self._space, self._forecast = settings, space, None

    def ended(self, epochs: int, trials: int = 1) -> None:
        """A trial has ended; with `trials` −1 and negative `epochs` that is taken back."""
        self._epochs += epochs
        self._squares += trials * epochs * epochs
        self._ended += trials

    @property
    def finalists(self) -> int:
        """Number of finalist runs, at most."""
        final = self._space.get("final", {})
        most = final.get("configurations", 0) + 1
        return int(min(most, self._settings.get("trials") or most) * final.get("seeds", 1))

    def left(self, epochs: int) -> float:
        """Expected epochs left of a trial that has done `epochs`.

        A new one runs as long as others do on average. One that has run longer has passed the rungs where most are
        stopped: it is taken to run to its end.
        """
        if self._forecast is None:
            self._forecast = self._expected()
        # As forecast before the first trial has ended, and more and more as those were that have.
        mean = (PRIOR * self._forecast + self._epochs) / (PRIOR + self._ended)
        return mean - epochs if epochs < mean else max(0.0, float(self._settings.get("epochs", 0)) - epochs)

    @property
    def spread(self) -> float:
        """Standard deviation of the epochs of a trial; that of an even draw up to the full budget while few ended."""
        if self._ended < PRIOR:
            return float(self._settings.get("epochs", 0)) / sqrt(12)
        return sqrt(max(0.0, self._squares / self._ended - (self._epochs / self._ended) ** 2))

    def _expected(self) -> float:
        """Expected epochs of a trial under the rungs; the full budget if the space cannot be read."""
        trials, full = int(self._settings.get("trials", 0)), int(self._settings.get("epochs", 0))
        try:
            space = journal_space(dict(self._space), "the journal")
        except UserError:
            return float(full)
        return expected_epochs(trials, full, space)[-1] / trials if trials and full else float(full)
