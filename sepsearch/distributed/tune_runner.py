"""One stage of a search run by Ray Tune: jobs of training, each on a worker that is reused.

A `Plan` chooses what to train next, decides after every epoch and is given the outcome of each job; `run_stage` runs
it in a `tune.Tuner` with `StudySearch` and `AsyncHalvingScheduler`. Plans know nothing of Ray.
"""

import logging
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from sepsearch.distributed.halving_scheduler import AsyncHalvingScheduler
from sepsearch.distributed.ray_internals import UNREAD_TRIAL, forget_ended, kill_worker
from sepsearch.distributed.storage_wait import StorageWait
from sepsearch.distributed.study_search import StudySearch
from sepsearch.distributed.task_outcome import task_outcome
from sepsearch.distributed.tune_callbacks import EPOCH, RATIO, Silence, TaskNames, job_id
from sepsearch.distributed.watchdog import Watchdog
from sepsearch.search.protocol import INTERRUPTED, RETURNED, STORAGE, JobOutcome, Params, Plan, StopSignal, Workers
from sepsearch.utils.errors import StorageFault, no_space
from sepsearch.utils.output import library_level

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
    """Run all jobs of a plan; returns when they have ended or `stop` has a reason.

    Args:
        name: of the experiment, a folder below `storage`.
        plan: what to train.
        train: a function trainable; gets {"id": …, **parameters} and calls `ray.tune.report` every epoch.
        workers: concurrency and resources.
        storage: folder of Ray Tune's own files.
        stop: ends the stage early.
        tick: called a few times a second from the driver's loop.
        storage_wait: asked where a worker could not write its files; None ends the stage there.

    A job whose worker dies, or hangs (see `watchdog`), is handed to the plan, and if the plan hands it out again it
    runs on another node where there is one.

    Raises:
        StorageFault: journal, checkpoints or weights cannot be written; jobs that had not ended are interrupted.
    """
    bridge = Bridge(plan, stop, tick, workers, storage_wait)
    tuner = make_tuner(name, bridge, train, storage, StageScheduler(bridge))
    try:
        tuner.fit()
    except Exception as error:
        # Ray Tune's table of results stumbles over a trial that was stopped before it had a folder; we do not read it.
        unread = isinstance(error, RuntimeError) and UNREAD_TRIAL in str(error)
        bridge.error = bridge.error or (None if unread else as_fault(error, storage))
    finally:
        bridge.end_all(JobOutcome("halted", bridge.reason or INTERRUPTED))
        bridge.call(lambda: plan.give_up(bridge.reason or INTERRUPTED))
    if bridge.error is not None:
        raise bridge.error


def make_tuner(
    name: str, bridge: "Bridge", train: Callable[[Params], None], storage: Path, scheduler: "StageScheduler"
) -> tune.Tuner:
    """A Tuner whose searcher and scheduler ask the bridge; arguments as `run_stage` has them."""
    logging.getLogger("ray.tune").setLevel(library_level(logging.CRITICAL))  # the plan reports failures
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "inf")  # no snapshots on the way: the journal is what counts
    workers = bridge.workers  # of its own: the function is pickled, and a bridge is not
    trainable = tune.with_resources(train, lambda config: job_resources(workers, config.get("avoid")))
    # What an earlier process left: Ray Tune's view of a search is not the one that counts.
    shutil.rmtree(storage / name, ignore_errors=True)
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            num_samples=-1,
            search_alg=StudySearch(bridge, RATIO, max_t=math.inf, time_attr=EPOCH),
            scheduler=scheduler,
            max_concurrent_trials=workers.concurrent,
            reuse_actors=True,
            trial_name_creator=job_id,
            trial_dirname_creator=lambda trial: f"{job_id(trial)}-{trial.trial_id}",  # a job may come twice
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(storage.absolute()),
            verbose=0,
            callbacks=[TaskNames(lambda: bridge.plan), Silence()],
            progress_reporter=tune.CLIReporter(),  # the default's of a notebook clears the cell's output
        ),
    )


def job_resources(workers: Workers, avoid: str | None) -> tune.PlacementGroupFactory:
    """What a job gets; not on the node `avoid`, where its worker died before."""
    bundle = {"CPU": workers.cpus, **({"GPU": workers.gpus} if workers.gpus else {})}
    elsewhere: dict[str, Any] = {"bundle_label_selector": [{"ray.io/node-id": f"!{avoid}"}]} if avoid else {}
    return tune.PlacementGroupFactory([bundle], **elsewhere)


def as_fault(error: Exception, where: object) -> Exception:
    """An error of the file system as a fault of the storage; any other as it is."""
    if isinstance(error, OSError) and error.errno:  # without a number it is a timeout, or a connection of Ray's
        return no_space(error, error.filename or where)
    return error


class Bridge:
    """A plan as Ray Tune's searcher and scheduler use it, by Ray Tune's ids: a `TrialStudy` and a `RungLog`.

    The plan's journal is the log of its rungs. Every end is given to the plan exactly once.

    Ray Tune copies and pickles searcher and scheduler for restores of its own. Ours come from the journal: a copy is
    the same object, and a pickle holds nothing.
    """

    def __deepcopy__(self, memo: object) -> "Bridge":
        return self

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return (object, ())

    def __init__(
        self, plan: Plan, stop: StopSignal, tick: Callable[[], None], workers: Workers, wait: StorageWait | None
    ):
        self.plan, self.stop, self._tick, self.workers, self._wait = plan, stop, tick, workers, wait
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
                self.error = as_fault(error, "a file of this run")
            return None

    def tick(self) -> None:
        """To be called often: look after the storage, and do what the caller of the stage wants done."""
        self.call(self._tick)
        if self._wait:
            self.call(self._wait.check)

    def ask(self, trial: str) -> Params | str | None:
        """What to run; FINISHED when no more will come, None when there is nothing now."""
        waits = self._wait is not None and self._wait.waiting
        if waits:
            self.tick()  # with no trial at work Ray Tune asks for one, and does nothing else
        job = None if self.reason or waits else self.call(self.plan.next)
        if job is None:
            return Searcher.FINISHED if self.reason or self.call(self.plan.finished) else None
        self.open[trial] = job[0]
        config = {**job[1], "id": job[0]}
        if job[0] in self._died and (node := self._node.get(job[0])) and self._fits_elsewhere(node):
            config["avoid"] = node
        return config

    def _fits_elsewhere(self, node: str) -> bool:
        import ray

        return any(
            other["Alive"] and other["NodeID"] != node and self.workers.fit(other["Resources"]) for other in ray.nodes()
        )

    def result(self, trial: str, result: Mapping[str, Any]) -> str | None:
        """Take in a report of a worker; the plan's reason if its job must stop."""
        if trial not in self.open:
            return None
        job = self.open[trial]
        self.watchdog.report(trial, EPOCH in result)
        if "node" in result:
            self._node[job] = result["node"]
        if "storage" in result:
            self._faults[trial] = result["storage"], result["size"]
            return None
        reason: str | None = self.call(lambda: self.plan.result(job, dict(result)))
        return reason

    def stops(self, trial: str, time: int, value: float, result: Mapping[str, Any]) -> bool:
        """Whether a trial stops after an epoch, which the plan has in its journal when this returns."""
        return bool(self.result(trial, result))

    def report(self, trial: str, time: int, value: float) -> None:
        """The plan has had it from `stops`, which Ray Tune's scheduler is asked first."""

    def tell(self, trial: str, state: str, value: float | None) -> None:
        """A trial returned, or was stopped by the plan, which knows its state and value."""
        self.end(trial, RETURNED)

    def end(self, trial: str, outcome: JobOutcome) -> None:
        """Give an end to the plan, the first time this is called for a trial."""
        job = self.open.pop(trial, None)
        self.watchdog.forget(trial)
        fault = self._faults.pop(trial, None)
        if job is None or (self.error and outcome.how != "halted"):
            return
        if fault and outcome.how == "returned":
            outcome = self._storage_ending(*fault)
        if outcome.how == "died":
            self._died.add(job)
        self.call(lambda: self.plan.ended(job, outcome))

    def _storage_ending(self, reason: str, size: int) -> JobOutcome:
        """The end of a job whose worker could not write its files: put off while the driver cannot either."""
        if self._wait is None:
            self.error = self.error or StorageFault(reason)
            return JobOutcome("deferred", reason, STORAGE)
        return JobOutcome("deferred" if self._wait.begin(reason, size) else "died", reason, STORAGE)

    def end_all(self, outcome: JobOutcome) -> None:
        for trial in list(self.open):
            self.end(trial, outcome)


class StageScheduler(AsyncHalvingScheduler):
    """`AsyncHalvingScheduler` whose log is the plan's; it also ends trials on a stop signal, and those that hang."""

    def __init__(self, bridge: Bridge):
        super().__init__(bridge, RATIO, "min", time_attr=EPOCH)
        self._bridge = bridge

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Params) -> str:
        """Continue, or stop for the plan's reason; also take in what is no epoch: where a trial runs, why it failed."""
        if EPOCH not in result:
            self._bridge.result(trial.trial_id, result)
        return super().on_trial_result(tune_controller, trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """It raised, or its worker died."""
        self._bridge.end(trial.trial_id, task_outcome(trial.error_file))

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Called in every round of the controller's loop, so this is where a stop signal takes effect."""
        bridge = self._bridge
        bridge.tick()
        forget_ended(tune_controller, 2 * bridge.workers.concurrent + KEPT)
        hung = bridge.watchdog.hung()
        for trial in tune_controller.get_live_trials() if hung else ():
            if trial.trial_id in hung:
                bridge.end(trial.trial_id, JobOutcome("died", f"worker died: {hung[trial.trial_id]}"))
                kill_worker(trial)
        if not (reason := bridge.reason):
            return super().choose_trial_to_run(tune_controller)
        for trial in list(tune_controller.get_live_trials()):
            bridge.end(trial.trial_id, JobOutcome("halted", reason))
            tune_controller.stop_trial(trial)
        return None
