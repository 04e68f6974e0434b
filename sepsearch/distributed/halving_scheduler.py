"""Asynchronous successive halving for any `tune.Tuner`, with rungs that survive a restart. See docs/ray-tune.md."""

import json
import math
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sepsearch.search.stopping.asha import Rungs
from sepsearch.utils.errors import UserError


class RungLog(Protocol):
    """Takes in the values of trials and says which stop, by rungs that follow from a log: `RungFile`, or another."""

    def stops(self, trial: str, time: int, value: float, result: Mapping[str, Any]) -> bool:
        """Whether a trial stops after a result; what that follows from is in the log before this returns.

        Args:
            trial: Ray Tune's id.
            time: of the result, a whole number that grows by 1.
            value: smaller is better; NaN for none.
            result: all that was reported.
        """


class RungFile:
    """Rungs in a file, to which every value at a rung is appended as a JSON object a line.

    Args:
        path: of the file, read at the first value; None keeps rungs in memory alone.
        max_t: the full budget; there is no rung at or above it, and a trial stops when it has reached it.
        grace_period: the first rung.
        reduction_factor: of trials from rung to rung, at least 2.

    Raises:
        ValueError: a number is out of range.
        UserError: the file holds something else.
    """

    def __init__(self, path: str | Path | None, *, max_t: int, grace_period: int = 1, reduction_factor: int = 3):
        if not 1 <= grace_period <= max_t or reduction_factor < 2:
            raise ValueError(
                f"grace_period {grace_period}, max_t {max_t}, reduction_factor {reduction_factor}:"
                " expected 1 <= grace_period <= max_t, reduction_factor >= 2"
            )
        self._settings = grace_period, reduction_factor, max_t
        self._path = None if path is None else Path(path).absolute()
        # Read from the file at the first value: Tuner.restore unpickles a scheduler as it was before the first trial.
        self._rungs: Rungs | None = None

    def stops(self, trial: str, time: int, value: float, result: Mapping[str, Any]) -> bool:
        """Whether a trial stops: at a rung, or once `max_t` is reached. See `RungLog`."""
        if time >= self._settings[2]:
            return True
        if self._rungs is None:
            self._rungs = self._read()
        stops = self._rungs.report(trial, time, value) is not None
        if time in self._rungs.values and math.isfinite(value):
            self._append({"trial": trial, "time": time, "value": value})
        return stops

    def __str__(self) -> str:
        """The rungs, and how many trials were recorded at each."""
        rungs = self._rungs or Rungs(*self._settings)
        return ", ".join(f"rung {rung}: {len(values)}" for rung, values in rungs.values.items())

    def _read(self) -> Rungs:
        rungs = Rungs(*self._settings)
        if self._path is None or not self._path.exists():
            return rungs
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # the process died while it wrote the last line
            os.truncate(self._path, len(whole))
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                event = json.loads(line)
                rungs.report(event["trial"], event["time"], event["value"])
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(
                    f"{self._path}: line {number}: {type(error).__name__}, expected a value at a rung: restore the file"
                ) from error
        return rungs

    def _append(self, event: dict[str, Any]) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def __getstate__(self) -> dict[str, Any]:
        """Without the rungs where a file has them: what is unpickled reads it."""
        return {**self.__dict__, "_rungs": self._rungs if self._path is None else None}


class AsyncHalvingScheduler(FIFOScheduler):
    """Ray Tune scheduler: asynchronous successive halving (ASHA), stopping variant.

    At a rung a trial stops unless its value is among the best 1/`reduction_factor` of all values recorded there so far.
    Beside `ray.tune.schedulers.ASHAScheduler`:

    - A value that is not finite (NaN, too) counts as the worst: its trial stops at that rung. It is not recorded.
    - Rungs follow from a log, so that `Tuner.restore` goes on with them; Ray's scheduler begins with empty rungs
      (ray#30838). sepsearch's own search has its journal as the log.
    - The next trial is found at once, however many there were.

    Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", arXiv 1810.05934.

    Args:
        rungs: `RungFile`, or another `RungLog`.
        metric: key of the value in results; that of `TuneConfig` if None.
        mode: "min" or "max"; that of `TuneConfig` if None.
        time_attr: key of a whole number in results that grows by 1; a result without it decides nothing.

    Raises:
        ValueError: another mode.
    """

    def __init__(
        self,
        rungs: RungLog,
        metric: str | None = None,
        mode: str | None = None,
        *,
        time_attr: str = "training_iteration",
    ):
        if mode not in (None, "min", "max"):
            raise ValueError(f"mode {mode!r}: expected min or max")
        super().__init__()
        self.rungs, self._metric, self._mode, self._time_attr = rungs, metric, mode, time_attr
        self._pending: deque[Trial] = deque()

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take metric and mode from `TuneConfig`; False where they were given here, too."""
        if (self._metric and metric) or (self._mode and mode):
            return False
        self._mode = self._mode or mode
        return bool(super().set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Put a trial at the end of those that wait for a worker."""
        self._pending.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The first that waits, as in `FIFOScheduler`, which looks for it among all there ever were."""
        while self._pending and self._pending[0].status != Trial.PENDING:
            self._pending.popleft()
        return self._pending[0] if self._pending else None

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """CONTINUE, or STOP where the rungs say so."""
        if self._time_attr not in result:
            return str(TrialScheduler.CONTINUE)
        value = float(result.get(str(self._metric), math.nan))
        value = -value if self._mode == "max" else value
        stops = self.rungs.stops(trial.trial_id, result[self._time_attr], value, result)
        return str(TrialScheduler.STOP if stops else TrialScheduler.CONTINUE)

    def debug_string(self) -> str:
        """What Ray Tune shows of the scheduler: the rungs."""
        return f"Async halving: {self.rungs}"
