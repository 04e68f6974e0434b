"""Callbacks of Ray Tune: names of training tasks in Ray's dashboard, and silence on the terminal."""

from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback

from sepsearch.distributed.ray_internals import name_training_tasks
from sepsearch.search.protocol import Plan
from sepsearch.utils.formatting import number

RATIO, EPOCH = "ratio", "epoch"  # of a worker's reports: the value (smaller is better) and its time


def job_id(trial: Trial) -> str:
    """The plan's id of a job."""
    return str(trial.config["id"])


class TaskNames(tune.Callback):
    """Names training tasks in the dashboard: "t0003 epoch 2/4, ratio 0.385", the epoch that runs and the last ratio."""

    def __init__(self, plan: Callable[[], Plan]):
        """`plan`: that of the stage which runs now; a pool of workers has one after the other."""
        self._plan = plan

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Name the worker's first training task."""
        name_training_tasks(trial, task_name(job_id(trial), 1, self._epochs()))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Name the next one, which Ray Tune has not sent yet."""
        if EPOCH in result:
            name_training_tasks(trial, task_name(job_id(trial), result[EPOCH] + 1, self._epochs(), result.get(RATIO)))

    def _epochs(self) -> int:
        return int(getattr(self._plan(), "epochs", 0))


def task_name(job: str, epoch: int, epochs: int, ratio: float | None = None) -> str:
    """Name of a training task; without the budget where it is not known. The task after the last epoch writes files."""
    of = f"/{epochs}" if epochs else ""
    what = "ends" if epochs and epoch > epochs else f"epoch {epoch}{of}"
    return f"{job} {what}" + (f", ratio {number(ratio)}" if ratio is not None else "")


class Silence(TrialProgressCallback):
    """Instead of Ray Tune's own callback, which prints a line for a trial that is stopped before its first result."""

    def _say_nothing(self, *arguments: Any, **options: Any) -> None:
        pass

    on_trial_result = on_trial_error = on_trial_complete = _say_nothing
