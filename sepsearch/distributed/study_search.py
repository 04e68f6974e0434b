"""Optuna for any `tune.Tuner`, with stopped trials recorded as such. See docs/ray-tune.md."""

import math
import pickle
from pathlib import Path
from typing import Any, Protocol

from ray.tune.search import Searcher


class TrialStudy(Protocol):
    """Proposes configurations and takes in what comes of them, such as `search.sampling.optuna_study.OptunaStudy`.

    Trials are named by Ray Tune's ids.
    """

    def ask(self, trial: str) -> dict[str, Any] | str | None:
        """A configuration for a trial; None when there is none now, `Searcher.FINISHED` when no more will come."""

    def report(self, trial: str, time: int, value: float) -> None:
        """Take in a value of a running trial."""

    def tell(self, trial: str, state: str, value: float | None) -> None:
        """Take in the end of a trial: "completed" with its value, "stopped" by a scheduler, or "failed"."""


class StudySearch(Searcher):
    """Ray Tune searcher over a study, which is given every value and, exactly once, the end of every trial.

    Beside `ray.tune.search.optuna.OptunaSearch`:

    - A trial that a scheduler stopped before `max_t` is no completed one; the study decides by name what samplers see
      of it (`OptunaStudy`: "pruned", "last" or "extrapolated"). Its last value is an intermediate value, too.
    - A value that is not finite makes a trial fail instead of leaving it RUNNING in the study.
    - The study is the caller's: any sampler, storage and space of Optuna's.

    Args:
        study: an `OptunaStudy`, or another `TrialStudy`.
        metric: key of the value in results. (Ray Tune gives that of `TuneConfig` only to searchers with a
            `param_space`.) The study says whether it is minimised.
        max_t: the full budget, in units of `time_attr`: a trial that reached it has completed.
        time_attr: key of a number in results.
    """

    def __init__(self, study: TrialStudy, metric: str, *, max_t: float, time_attr: str = "training_iteration"):
        super().__init__(metric=metric)
        self.study, self._max_t, self._time_attr = study, max_t, time_attr
        self._open: dict[str, float] = {}  # trials that run, with the time of the last value that was reported

    def suggest(self, trial_id: str) -> Any:
        """A configuration; None when there is none now, FINISHED when no more will come."""
        config = self.study.ask(trial_id)
        if isinstance(config, dict):
            self._open[trial_id] = -math.inf
        return config

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report an intermediate value; a function's last result, which Ray Tune repeats, counts once."""
        value, time = result.get(self.metric), result.get(self._time_attr, -math.inf)
        if value is not None and math.isfinite(value) and time > self._open.get(trial_id, math.inf):
            self._open[trial_id] = time
            self.study.report(trial_id, time, value)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """End a trial, the first time this is called for it."""
        if trial_id not in self._open:
            return
        last = result or {}
        self.on_trial_result(trial_id, last)  # Ray Tune leaves it out where a scheduler stops the trial by it
        del self._open[trial_id]
        value = last.get(self.metric)
        if error or value is None or not math.isfinite(value):
            self.study.tell(trial_id, "failed", None)
        else:
            whole = last.get(self._time_attr, -math.inf) >= self._max_t
            self.study.tell(trial_id, "completed" if whole else "stopped", value)

    def save(self, checkpoint_path: str) -> None:
        """Write the study and the trials that run; for `Tuner.restore`."""
        Path(checkpoint_path).write_bytes(pickle.dumps(self.__dict__))

    def restore(self, checkpoint_path: str) -> None:
        """Read what `save` has written."""
        self.__dict__.update(pickle.loads(Path(checkpoint_path).read_bytes()))
