"""Asynchronous successive halving for any `tune.Tuner`, with rungs that survive a restart. See docs/ray-tune.md."""

import json
import math
import os
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sepsearch.search.asha import Rungs
from sepsearch.utils.errors import UserError


class AsyncHalvingScheduler(FIFOScheduler):
    """Ray Tune scheduler: asynchronous successive halving (ASHA), stopping variant.

    At a rung a trial stops unless its value is among the best 1/`reduction_factor` of all values recorded there so far.
    Beside `ray.tune.schedulers.ASHAScheduler`:

    - A value that is not finite (NaN, too) counts as the worst: its trial stops at that rung. It is not recorded.
    - Rungs follow from a log, so that `Tuner.restore` goes on with them; Ray's scheduler begins with empty rungs
      (ray#30838).

    Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", arXiv 1810.05934.

    Args:
        metric: key of the value in results; that of `TuneConfig` if None.
        mode: "min" or "max"; that of `TuneConfig` if None.
        max_t: the full budget, in units of `time_attr`; there is no rung at or above it.
        grace_period: the first rung.
        reduction_factor: of trials from rung to rung, at least 2.
        time_attr: key of a whole number in results that grows by 1.
        log: file to which every value at a rung is appended, as a JSON object a line; None keeps rungs in memory alone.

    Raises:
        ValueError: a number is out of range.
        UserError: the log holds something else.
    """

    def __init__(
        self,
        metric: str | None = None,
        mode: str | None = None,
        *,
        max_t: int,
        grace_period: int = 1,
        reduction_factor: int = 3,
        time_attr: str = "training_iteration",
        log: str | Path | None = None,
    ):
        if not 1 <= grace_period <= max_t or reduction_factor < 2:
            raise ValueError(
                f"grace_period {grace_period}, max_t {max_t}, reduction_factor {reduction_factor}:"
                " expected 1 <= grace_period <= max_t, reduction_factor >= 2"
            )
        if mode not in (None, "min", "max"):
            raise ValueError(f"mode {mode!r}: expected min or max")
        super().__init__()
        self._metric, self._mode = metric, mode
        self._settings = grace_period, reduction_factor, max_t
        self._time_attr, self._log = time_attr, None if log is None else Path(log).absolute()
        # Read from the log at the first result: Tuner.restore unpickles a scheduler as it was before the first trial.
        self._rungs: Rungs | None = None

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take metric and mode from `TuneConfig`; False where they were given here, too."""
        if (self._metric and metric) or (self._mode and mode):
            return False
        self._mode = self._mode or mode
        return bool(super().set_search_properties(metric, mode, **spec))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """CONTINUE, or STOP at a rung, or once `max_t` is reached."""
        time = result[self._time_attr]
        if time >= self._settings[2]:
            return str(TrialScheduler.STOP)
        value = float(result.get(str(self._metric), math.nan))
        value = -value if self._mode == "max" else value
        if self._rungs is None:
            self._rungs = self._read()
        stops = self._rungs.report(trial.trial_id, time, value)
        if time in self._rungs.values and math.isfinite(value):
            self._append({"trial": trial.trial_id, "time": time, "value": value})
        return str(TrialScheduler.CONTINUE if stops is None else TrialScheduler.STOP)

    def debug_string(self) -> str:
        """The rungs, and how many trials were recorded at each."""
        rungs = self._rungs or Rungs(*self._settings)
        return "Async halving: " + ", ".join(f"rung {rung}: {len(values)}" for rung, values in rungs.values.items())

    def _read(self) -> Rungs:
        rungs = Rungs(*self._settings)
        if self._log is None or not self._log.exists():
            return rungs
        content = self._log.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # the process died while it wrote the last line
            os.truncate(self._log, len(whole))
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                event = json.loads(line)
                rungs.report(event["trial"], event["time"], event["value"])
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(
                    f"{self._log}: line {number}: {type(error).__name__}, expected a value at a rung: restore the file"
                ) from error
        return rungs

    def _append(self, event: dict[str, Any]) -> None:
        if self._log is not None:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def __getstate__(self) -> dict[str, Any]:
        """Without the rungs where a log has them: what is unpickled reads it."""
        return {**self.__dict__, "_rungs": self._rungs if self._log is None else None}
