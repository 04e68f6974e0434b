"""Optuna for any `tune.Tuner`, with stopped trials recorded as such. See docs/ray-tune.md."""

import math
from typing import Any, Literal

from optuna.trial import TrialState
from ray.tune.search.optuna import OptunaSearch


class StudySearch(OptunaSearch):
    """Ray Tune searcher over an Optuna study that says what happened to each trial.

    Beside `ray.tune.search.optuna.OptunaSearch`:

    - A trial that a scheduler stopped before `max_t` is no completed one: it is "pruned" (PRUNED with its intermediate
      values; samplers rank it behind those that ended) or, with `stopped="last"`, completed with its last value.
    - A value that is not a number makes a trial FAIL instead of leaving it RUNNING in the study.

    Every trial ends exactly once. Intermediate values are reported as in `OptunaSearch`.

    Args:
        *arguments: as of `OptunaSearch`.
        max_t: the full budget, in units of `time_attr`: a trial that reached it has completed.
        stopped: how a trial that was stopped before is recorded.
        time_attr: key of a number in results.
        **options: as of `OptunaSearch`, such as `metric`, `mode`, `sampler`, `storage`, `study_name`.
    """

    def __init__(
        self,
        *arguments: Any,
        max_t: int,
        stopped: Literal["pruned", "last"] = "pruned",
        time_attr: str = "training_iteration",
        **options: Any,
    ):
        if stopped not in ("pruned", "last"):
            raise ValueError(f"stopped {stopped!r}: expected pruned or last")
        super().__init__(*arguments, **options)
        self._max_t, self._stopped, self._time_attr = max_t, stopped, time_attr

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """End a trial of the study: COMPLETE, PRUNED or FAIL."""
        if trial_id in self._completed_trials:
            return
        self._completed_trials.add(trial_id)
        value = (result or {}).get(self.metric)
        trial, study = self._ot_trials[trial_id], self._ot_study
        assert study is not None  # it is there since the first suggestion
        if error or value is None or not math.isfinite(value):
            study.tell(trial, state=TrialState.FAIL)
        elif (result or {})[self._time_attr] < self._max_t and self._stopped == "pruned":
            study.tell(trial, state=TrialState.PRUNED)  # Optuna gives it its last intermediate value
        else:
            study.tell(trial, value)
