"""One stage of a search run by Ray Tune: units of training, each on a worker that is reused.

A `Plan` chooses what to train next, judges every epoch and is given the outcome of each unit; `run_stage` fits it to
Ray Tune's searcher, scheduler and callbacks. Plans know nothing of Ray.
"""

import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sepsearch.distributed.storage_wait import StorageWait
from sepsearch.distributed.task_ending import task_ending
from sepsearch.distributed.watchdog import Watchdog
from sepsearch.search.protocol import INTERRUPTED, RETURNED, STORAGE, Ending, Params, Plan, StopSignal, Workers
from sepsearch.utils.errors import StorageFault, no_space

KEPT = 16  # trials that have ended and are not forgotten yet, beside as many as run at once


def run_stage(
    name: str,
    plan: Plan,
    train: Callable[[Params], None],
    workers: Workers,
    storage: Path,
    stop: StopSignal,
    tick: Callable[[], None] = lambda: None,
    storage_wait: StorageWait | None = None,
) -> None:
    """Run all units of a plan; returns when they have ended or `stop` has a reason.

    Args:
        name: of the experiment, a folder below `storage`.
        plan: what to train.
        train: a function trainable; gets {"id": …, **parameters} and calls `ray.tune.report` every epoch.
        workers: concurrency and resources.
        storage: folder of Ray Tune's own files.
        stop: ends the stage early.
        tick: called a few times a second from the driver's loop.
        storage_wait: asked where a worker could not write its files; None ends the stage there.

    A unit whose worker dies, or hangs (see `watchdog`), is handed to the plan, and if the plan hands it out again it
    runs on another node where there is one.

    Raises:
        StorageFault: journal, checkpoints or weights cannot be written; units that had not ended are interrupted.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are told by the plan
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "inf")  # no snapshots on the way: the journal is what counts
    bridge = _Bridge(plan, stop, tick, workers, storage_wait)
    trainable = tune.with_resources(train, lambda config: _resources(workers, config.get("avoid")))
    # What an earlier process left: Ray Tune's view of a search is not the one that counts.
    shutil.rmtree(storage / name, ignore_errors=True)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            num_samples=-1,
            search_alg=_Source(bridge),
            scheduler=_Judge(bridge),
            max_concurrent_trials=workers.concurrent,
            reuse_actors=True,
            trial_name_creator=_unit_id,
            trial_dirname_creator=lambda trial: f"{_unit_id(trial)}-{trial.trial_id}",  # a unit may come twice
        ),
        run_config=tune.RunConfig(
            name=name, storage_path=str(storage.absolute()), verbose=0, callbacks=[_Watcher(bridge), _Silence()]
        ),
    )
    try:
        tuner.fit()
    except Exception as error:
        # Ray Tune's table of results stumbles over a trial that was stopped before it had a folder; we do not read it.
        unread = isinstance(error, RuntimeError) and "trial_dir_name" in str(error)
        bridge.error = bridge.error or (None if unread else _as_fault(error, storage))
    finally:
        bridge.end_all(Ending("halted", bridge.reason or INTERRUPTED))
        bridge.call(lambda: plan.give_up(bridge.reason or INTERRUPTED))
    if bridge.error is not None:
        raise bridge.error


def _resources(workers: Workers, avoid: str | None) -> tune.PlacementGroupFactory:
    """What a unit gets; not on the node `avoid`, where its worker died before."""
    bundle = {"CPU": workers.cpus, **({"GPU": workers.gpus} if workers.gpus else {})}
    elsewhere: dict[str, Any] = {"bundle_label_selector": [{"ray.io/node-id": f"!{avoid}"}]} if avoid else {}
    return tune.PlacementGroupFactory([bundle], **elsewhere)


def _unit_id(trial: Trial) -> str:
    return str(trial.config["id"])


def _as_fault(error: Exception, where: object) -> Exception:
    """An error of the file system as a fault of the storage; any other as it is."""
    if isinstance(error, OSError) and error.errno:  # without a number it is a timeout, or a connection of Ray's
        return no_space(error, error.filename or where)
    return error


class _Bridge:
    """Between Ray Tune's ids and the plan's; tells the plan of every end exactly once.

    Ray Tune copies and pickles searcher, scheduler and callbacks for restores of its own. Ours come from the journal:
    a copy is the same object, and a pickle holds nothing.
    """

    def __deepcopy__(self, memo: object) -> "_Bridge":
        return self

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return (object, ())

    def __init__(
        self, plan: Plan, stop: StopSignal, tick: Callable[[], None], workers: Workers, wait: StorageWait | None
    ):
        self.plan, self.stop, self._tick, self._workers, self._wait = plan, stop, tick, workers, wait
        self.concurrent = workers.concurrent
        self.error: Exception | None = None  # the first of the plan's: nothing is trained any more
        self.open: dict[str, str] = {}  # Ray Tune's id → the plan's
        self.watchdog = Watchdog()
        self._node: dict[str, str] = {}  # the plan's id → the node where it runs or ran last
        self._died: set[str] = set()
        self._faults: dict[str, tuple[str, int]] = {}  # Ray Tune's id → what its worker could not write, and its bytes

    @property
    def reason(self) -> str:
        """Why everything must stop; "" while it need not."""
        return self.stop.check() or (INTERRUPTED if self.error else "")

    def call(self, work: Callable[[], Any]) -> Any:
        """What `work` returns; an exception is kept, as Ray Tune would make a text of it and go on."""
        try:
            return work()
        except Exception as error:
            if self.error is None:
                self.error = _as_fault(error, "a file of this run")
            return None

    def tick(self) -> None:
        """To be called often: look after the storage, and do what the caller of the stage wants done."""
        self.call(self._tick)
        if self._wait:
            self.call(self._wait.check)

    def begin(self, trial: str) -> Params | str | None:
        """What to run; "FINISHED" when no more will come, None when there is nothing now."""
        waits = self._wait is not None and self._wait.waiting
        if waits:
            self.tick()  # with no trial at work Ray Tune asks for one, and does nothing else
        unit = None if self.reason or waits else self.call(self.plan.next)
        if unit is None:
            return Searcher.FINISHED if self.reason or self.call(self.plan.finished) else None
        self.open[trial] = unit[0]
        config = {**unit[1], "id": unit[0]}
        if unit[0] in self._died and (node := self._node.get(unit[0])) and self._fits_elsewhere(node):
            config["avoid"] = node
        return config

    def _fits_elsewhere(self, node: str) -> bool:
        import ray

        return any(
            other["Alive"] and other["NodeID"] != node and self._workers.fit(other["Resources"])
            for other in ray.nodes()
        )

    def result(self, trial: str, result: Params) -> str | None:
        if trial not in self.open:
            return None
        unit = self.open[trial]
        self.watchdog.report(trial, "epoch" in result)
        if "node" in result:
            self._node[unit] = result["node"]
        if "storage" in result:
            self._faults[trial] = result["storage"], result["size"]
            return None
        reason: str | None = self.call(lambda: self.plan.result(unit, result))
        return reason

    def end(self, trial: str, ending: Ending) -> None:
        """Tell the plan of an end, the first time it is called for a trial."""
        unit = self.open.pop(trial, None)
        self.watchdog.forget(trial)
        fault = self._faults.pop(trial, None)
        if unit is None or (self.error and ending.how != "halted"):
            return
        if fault and ending.how == "returned":
            ending = self._storage_ending(*fault)
        if ending.how == "died":
            self._died.add(unit)
        self.call(lambda: self.plan.ended(unit, ending))

    def _storage_ending(self, reason: str, size: int) -> Ending:
        """The end of a unit whose worker could not write its files: put off while the driver cannot either."""
        if self._wait is None:
            self.error = self.error or StorageFault(reason)
            return Ending("deferred", reason, STORAGE)
        return Ending("deferred" if self._wait.begin(reason, size) else "died", reason, STORAGE)

    def end_all(self, ending: Ending) -> None:
        for trial in list(self.open):
            self.end(trial, ending)


class _Source(Searcher):
    """Ray Tune's searcher: hands out the plan's units one by one."""

    def __init__(self, bridge: _Bridge):
        super().__init__(metric="ratio", mode="min")
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        """The next unit's parameters, that there is none now, or that there are no more."""
        return self._bridge.begin(trial_id)

    def on_trial_complete(self, trial_id: str, result: Params | None = None, error: bool = False) -> None:
        """Ends are handled by `_Watcher`, which gets all of them."""

    def save(self, checkpoint_path: str) -> None:
        """The journal holds what matters."""

    def restore(self, checkpoint_path: str) -> None:
        """The journal holds what matters."""


class _Judge(FIFOScheduler):
    """Ray Tune's scheduler: stops a trial when the plan has a reason to, and all of them on a stop signal."""

    def __init__(self, bridge: _Bridge):
        super().__init__()
        self._bridge = bridge
        self._pending: deque[Trial] = deque()

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """It waits for a worker."""
        self._pending.append(trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Params) -> str:
        """Continue, or stop for the plan's reason."""
        reason = self._bridge.result(trial.trial_id, result)
        return TrialScheduler.STOP if reason else TrialScheduler.CONTINUE

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Called in every round of the controller's loop, so this is where a stop signal takes effect."""
        self._bridge.tick()
        _forget_ended(getattr(tune_controller, "_tune_controller", tune_controller), self._bridge.concurrent)
        if hung := self._bridge.watchdog.hung():
            self._end_hung(tune_controller, hung)
        if reason := self._bridge.reason:
            for trial in list(tune_controller.get_live_trials()):
                self._bridge.end(trial.trial_id, Ending("halted", reason))
                tune_controller.stop_trial(trial)
            return None
        # The first that waits, as Ray Tune's own scheduler has it, which looks for it among all there ever were.
        while self._pending and self._pending[0].status != Trial.PENDING:
            self._pending.popleft()
        return self._pending[0] if self._pending else None

    def _end_hung(self, tune_controller: Any, hung: Mapping[str, str]) -> None:
        """Kill workers that hang: they do not answer the request to stop that Ray Tune sends."""
        import ray

        for trial in tune_controller.get_live_trials():
            if trial.trial_id in hung:
                self._bridge.end(trial.trial_id, Ending("died", f"worker died: {hung[trial.trial_id]}"))
                if actor := trial.temporary_state.ray_actor:
                    ray.kill(actor, no_restart=True)


def _forget_ended(controller: Any, concurrent: int) -> None:
    """Take trials that have ended out of a controller of Ray Tune's, many at a time.

    It keeps every one with its last result and goes through all of them again and again; its ids of eight digits also
    come twice among many. They are not read from there. Where another version of Ray names its tables otherwise, they
    stay.
    """
    trials: list[Trial] = getattr(controller, "_trials", [])
    if len(trials) <= 2 * concurrent + KEPT:
        return
    busy = getattr(controller, "_trial_to_actor", {})
    ended = {trial for trial in trials if trial.is_finished() and trial not in busy}
    trials[:] = [trial for trial in trials if trial not in ended]
    for name in ("_live_trials", "_stopped_trials", "_failed_trials", "_trials_to_cache"):
        getattr(controller, name, set()).difference_update(ended)
    for trial in ended:
        getattr(controller, "_trial_metadata", {}).pop(trial.trial_id, None)


class _Watcher(tune.Callback):
    """Shows trials under their own id in the dashboard, and passes their ends on."""

    def __init__(self, bridge: _Bridge):
        self._bridge = bridge

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Name the worker's training tasks after the trial: a reused actor's own name would be its first trial's."""
        actor: Any = trial.temporary_state.ray_actor
        actor.__dict__.pop("train", None)
        actor.train = actor.train.options(name=_unit_id(trial))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """It returned, or was stopped."""
        self._bridge.end(trial.trial_id, RETURNED)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """It raised, or its worker died."""
        self._bridge.end(trial.trial_id, task_ending(trial.error_file))


class _Silence(TrialProgressCallback):
    """Instead of Ray Tune's own callback, which prints a line for a trial that is stopped before its first result."""

    def on_trial_result(self, *arguments: Any, **options: Any) -> None:
        """Say nothing."""

    def on_trial_error(self, *arguments: Any, **options: Any) -> None:
        """Say nothing."""

    def on_trial_complete(self, *arguments: Any, **options: Any) -> None:
        """Say nothing."""
