"""Workers that are started once and run all stages of a run: one `tune.Tuner`, in a thread of its own.

A new Tuner starts its workers anew, and each imports torch: 3 CPU seconds a worker and stage. So one Tuner goes on
until the run ends, and `WorkerPool.run` hands it the plan of one stage after another.
"""

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from sepsearch.distributed.pooled_job import STAGE, run_pooled
from sepsearch.distributed.ray_internals import keep_starting_workers, keep_workers
from sepsearch.distributed.storage_wait import StorageWait
from sepsearch.distributed.tune_runner import Bridge, StageScheduler, as_fault, job_resources, make_tuner
from sepsearch.distributed.watchdog import Watchdog
from sepsearch.search.protocol import INTERRUPTED, JobOutcome, Params, Plan, StopSignal, Workers

LOOK_SECONDS = 0.1  # between two looks of the waiting driver at its stop signal
CLOSE_SECONDS = 30.0  # for workers to end
CLOSED = "closed"


class WorkerPool:
    """Workers for all stages of a run.

    Plans are called in the pool's thread while the caller of `run` waits, under a lock: never two of them at once.

    Args:
        workers: concurrency and resources.
        storage: folder of Ray Tune's own files.
        ready: how many workers are started at once, before there is a stage.
    """

    def __init__(self, workers: Workers, storage: Path, ready: int = 0):
        self._bridge = _PoolBridge(workers, ready)
        self._storage = storage
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._fit, name="worker pool", daemon=True)
        self._thread.start()

    def run(
        self,
        plan: Plan,
        train: Callable[[Params], None],
        stop: StopSignal,
        tick: Callable[[], None] = lambda: None,
        storage_wait: StorageWait | None = None,
    ) -> None:
        """Run all jobs of a plan; arguments, end and errors as `tune_runner.run_stage` has them."""
        import ray

        bridge, shared = self._bridge, ray.put(train)
        bridge.begin_stage(plan, shared, stop, tick, storage_wait)
        try:
            with bridge.changed:
                while not self._failure and (bridge.open or not (bridge.reason or plan.finished())):
                    bridge.changed.wait(LOOK_SECONDS)
        finally:
            error = bridge.end_stage()
        if error := error or self._failure:
            raise error

    def close(self) -> None:
        """End all workers."""
        self._bridge.close()
        self._thread.join(CLOSE_SECONDS)

    def _fit(self) -> None:
        bridge = self._bridge
        failure: Exception = RuntimeError("Ray Tune has ended although the run goes on")
        try:
            with keep_starting_workers():
                make_tuner("jobs", bridge, run_pooled, self._storage, _PoolScheduler(bridge)).fit()
        except Exception as error:
            failure = as_fault(error, self._storage)
        with bridge.changed:
            if not bridge.closing:
                self._failure = failure
            bridge.changed.notify_all()


class _NoPlan:
    """Between two stages."""

    def next(self) -> None:
        return None

    def finished(self) -> bool:
        return False

    def result(self, job: str, result: Params) -> None:
        return None

    def ended(self, job: str, outcome: JobOutcome) -> None:
        pass

    def give_up(self, reason: str) -> None:
        pass


class _PoolBridge(Bridge):
    """A `Bridge` whose plan is that of the present stage; every call holds the lock of `changed`."""

    def __init__(self, workers: Workers, ready: int):
        super().__init__(_NoPlan(), StopSignal(), lambda: None, workers, None)
        self.changed = threading.Condition(threading.RLock())
        self.closing = False
        self.avoiding: set[str] = set()  # trials that some node is not right for
        self._unready = ready  # how many are still to be started
        self._starting: set[str] = set()  # trials that start a worker
        self._shared: Any = None

    def begin_stage(
        self, plan: Plan, shared: Any, stop: StopSignal, tick: Callable[[], None], wait: StorageWait | None
    ) -> None:
        """Take jobs of this plan from now on."""
        with self.changed:
            self.plan, self._shared, self.stop, self._tick, self._wait = plan, shared, stop, tick, wait
            self.watchdog, self._node, self._died = Watchdog(), {}, set()
            self.changed.notify_all()

    def end_stage(self) -> Exception | None:
        """End the stage's jobs; gives the first error of its plan."""
        with self.changed:
            reason = self.reason or INTERRUPTED
            self.end_all(JobOutcome("halted", reason))
            self.call(lambda: self.plan.give_up(reason))
            error, self.error = self.error, None
            self.plan, self._shared, self.stop, self._wait = _NoPlan(), None, StopSignal(), None
            self._tick = lambda: None
            return error

    def close(self) -> None:
        """Let no more jobs come, and have those that run stopped."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()

    @property
    def reason(self) -> str:
        """Why all jobs must stop; "" while they need not."""
        with self.changed:
            return CLOSED if self.closing else super().reason

    def tick(self) -> None:
        """As `Bridge` has it."""
        with self.changed:
            super().tick()

    def ask(self, trial: str) -> Params | str | None:
        """What to run; with no job at work it waits for the next stage, as Ray Tune would sleep for a second."""
        with self.changed:
            while not self.closing:
                if self._unready:
                    self._unready -= 1
                    self._starting.add(trial)
                    return {"id": f"start-{self._unready}"}
                config = super().ask(trial)
                if isinstance(config, dict):
                    if "avoid" in config:
                        self.avoiding.add(trial)
                    return {**config, STAGE: self._shared}
                if self.open or self._starting:
                    return None
                self.changed.wait(LOOK_SECONDS)
            return Searcher.FINISHED

    def result(self, trial: str, result: Any) -> str | None:
        """As `Bridge` has it; a worker that has started is ready."""
        with self.changed:
            return "ready" if trial in self._starting else super().result(trial, result)

    def end(self, trial: str, outcome: JobOutcome) -> None:
        """As `Bridge` has it."""
        with self.changed:
            self._starting.discard(trial)
            self.avoiding.discard(trial)
            super().end(trial, outcome)
            self.changed.notify_all()


class _PoolScheduler(StageScheduler):
    """A `StageScheduler` that keeps workers which have nothing to do for the next stage."""

    def __init__(self, bridge: _PoolBridge):
        super().__init__(bridge)
        self._pool, self._kept = bridge, 0

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Called in every round of the controller's loop."""
        # One that waits for room on another node needs what an idle worker there holds.
        wanted = 0 if self._pool.avoiding or self._pool.closing else self._pool.workers.concurrent
        if wanted != self._kept:
            with contextlib.suppress(AttributeError):  # moved in another version of Ray: workers are started anew
                keep_workers(tune_controller, job_resources(self._pool.workers, None), wanted - self._kept)
            self._kept = wanted
        return super().choose_trial_to_run(tune_controller)
