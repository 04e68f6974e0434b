"""One stage of a search run by Ray Tune: units of training, each on a worker that is reused.

A `Plan` says what to train next, judges every epoch and hears how each unit ended; `run_stage` fits it to Ray Tune's
searcher, scheduler and callbacks. Plans know nothing of Ray.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sepsearch.plan import Params, Plan, StopSignal, Workers


def run_stage(
    name: str,
    plan: Plan,
    train: Callable[[Params], None],
    workers: Workers,
    storage: Path,
    stop: StopSignal,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Run all units of a plan; returns when they have ended or `stop` has a reason.

    Args:
        name: of the experiment, a folder below `storage`.
        plan: what to train.
        train: a function trainable; gets {"id": …, **parameters} and calls `ray.tune.report` every epoch.
        workers: concurrency and resources.
        storage: folder of Ray Tune's own files and of checkpoints.
        stop: ends the stage early.
        tick: called a few times a second from the driver's loop.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are told by the plan
    bridge = _Bridge(plan, stop, tick)
    trainable = tune.with_resources(train, {"CPU": workers.cpus, "GPU": workers.gpus})
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            num_samples=-1,
            search_alg=_Source(bridge),
            scheduler=_Judge(bridge),
            max_concurrent_trials=workers.concurrent,
            reuse_actors=True,
            trial_name_creator=_unit_id,
            trial_dirname_creator=_unit_id,
        ),
        run_config=tune.RunConfig(
            name=name, storage_path=str(storage.absolute()), verbose=0, callbacks=[_Watcher(bridge), _Silence()]
        ),
    )
    try:
        tuner.fit()
    finally:
        bridge.end_all(stop.reason or "interrupted")


def _unit_id(trial: Trial) -> str:
    return str(trial.config["id"])


class _Bridge:
    """Between Ray Tune's ids and the plan's; tells the plan of every end exactly once.

    Ray Tune copies and pickles searcher, scheduler and callbacks for restores of its own. Ours come from the journal:
    a copy is the same object, and a pickle holds nothing.
    """

    def __deepcopy__(self, memo: object) -> "_Bridge":
        return self

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return (object, ())

    def __init__(self, plan: Plan, stop: StopSignal, tick: Callable[[], None]):
        self.plan, self.stop, self.tick = plan, stop, tick
        self.open: dict[str, str] = {}  # Ray Tune's id → the plan's
        self.checkpoints: dict[str, Path] = {}

    def begin(self, trial: str) -> Params | None:
        unit = self.plan.next()
        if unit is None:
            return None
        self.open[trial] = unit[0]
        return {**unit[1], "id": unit[0]}

    def result(self, trial: str, result: Params) -> str | None:
        return self.plan.result(self.open[trial], result) if trial in self.open else None

    def end(self, trial: str, problem: str | None) -> None:
        unit = self.open.pop(trial, None)
        if unit is not None:
            self.plan.ended(unit, problem, self.checkpoints.pop(trial, None))

    def end_all(self, problem: str) -> None:
        for trial in list(self.open):
            self.end(trial, problem)


class _Source(Searcher):
    """Ray Tune's searcher: hands out the plan's units one by one."""

    def __init__(self, bridge: _Bridge):
        super().__init__(metric="ratio", mode="min")
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        """The next unit's parameters, or that there are no more."""
        config = None if self._bridge.stop.check() else self._bridge.begin(trial_id)
        return config if config is not None else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: Params | None = None, error: bool = False) -> None:
        """Ends are told by `_Watcher`, which hears of all of them."""

    def save(self, checkpoint_path: str) -> None:
        """The journal holds what matters."""

    def restore(self, checkpoint_path: str) -> None:
        """The journal holds what matters."""


class _Judge(FIFOScheduler):
    """Ray Tune's scheduler: stops a trial when the plan has a reason to, and all of them on a stop signal."""

    def __init__(self, bridge: _Bridge):
        super().__init__()
        self._bridge = bridge

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Params) -> str:
        """Continue, or stop for the plan's reason."""
        reason = self._bridge.result(trial.trial_id, result)
        return TrialScheduler.STOP if reason else TrialScheduler.CONTINUE

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Called in every round of the controller's loop, so this is where a stop signal takes effect."""
        self._bridge.tick()
        if reason := self._bridge.stop.check():
            for trial in list(tune_controller.get_live_trials()):
                self._bridge.end(trial.trial_id, reason)
                tune_controller.stop_trial(trial)
            return None
        return super().choose_trial_to_run(tune_controller)


class _Watcher(tune.Callback):
    """Shows trials under their own id in the dashboard, and hears of checkpoints and ends."""

    def __init__(self, bridge: _Bridge):
        self._bridge = bridge

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Name the worker's training tasks after the trial: a reused actor's own name would be its first trial's."""
        actor: Any = trial.temporary_state.ray_actor
        actor.__dict__.pop("train", None)
        actor.train = actor.train.options(name=_unit_id(trial))

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: tune.Checkpoint, **info: Any
    ) -> None:
        """Remember where the trial's last checkpoint is."""
        self._bridge.checkpoints[trial.trial_id] = Path(checkpoint.path)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """It returned, or was stopped."""
        self._bridge.end(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """It raised, or its worker died."""
        self._bridge.end(trial.trial_id, _error_reason(trial))


class _Silence(TrialProgressCallback):
    """Instead of Ray Tune's own callback, which prints a line for a trial that is stopped before its first result."""

    def on_trial_result(self, *arguments: Any, **options: Any) -> None:
        """Say nothing."""

    def on_trial_error(self, *arguments: Any, **options: Any) -> None:
        """Say nothing."""

    def on_trial_complete(self, *arguments: Any, **options: Any) -> None:
        """Say nothing."""


def _error_reason(trial: Trial) -> str:
    """Why a trial's task failed, from the text that Ray Tune keeps of it: the exception, or the death of the worker."""
    path = trial.error_file
    text = Path(path).read_text() if path and Path(path).exists() else ""
    # The file begins with a line of Tune's own ("Failure # 1 (occurred at …)").
    lines = [line.strip() for line in text.splitlines()[1:] if line.strip()]
    if not lines:
        return "exception: unknown"
    if "actor died" in text:
        detail = next((line for line in lines if "exit detail:" in line), "")
        return f"worker died: {detail.partition('exit detail:')[2].strip()[:120] or 'no reason known'}"
    return f"exception: {lines[-1][:200]}"
