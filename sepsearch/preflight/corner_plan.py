"""Dry run in the workers of the search: a few corner configurations first, others where they cost or matter."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from sepsearch.preflight.corner_configurations import corner_error
from sepsearch.preflight.dry_run import CORNER_SECONDS, DryRun, Trained, Worker, corner_late, steadied
from sepsearch.preflight.estimates import Measured
from sepsearch.search.protocol import JobOutcome, Params, StopSignal

if TYPE_CHECKING:
    from sepsearch.distributed.trainable import Task
    from sepsearch.distributed.worker_pool import WorkerPool
    from sepsearch.search.protocol import Workers

FIRST = 3  # corners that are always tried: the reference, and all numbers at their largest, of two families or one
SLOW = 0.1  # share of the patience that a corner may take before all others are tried


def try_corners(
    pool: "WorkerPool",
    task: "Task",
    configs: Sequence[Params],
    workers: "Workers",
    is_near: Callable[[Sequence[Measured], int], bool],
    report: Callable[[int, int], object] = lambda done, total: None,
    patience: float | None = None,
) -> DryRun:
    """As `train_corners` in the pool's workers, which stay for the search; not all corners are tried (`CornerPlan`).

    Args:
        pool: of the search.
        task: the search's.
        configs: complete configurations, the reference first, then those at all ends of the space at once.
        workers: resources of a trial.
        is_near: whether a corner's memory is near a limit; gets those measured and the bytes of their smallest GPU.
        report: called with the corners done and those that are to be tried, as far as is known.
        patience: seconds for a worker to start and for one configuration; CORNER_SECONDS by default.

    Raises:
        UserError: a configuration cannot be built or trained, its worker died, or nothing came in time.
    """
    patience = patience or CORNER_SECONDS
    plan = CornerPlan(configs, workers.concurrent, is_near, report, patience)
    pool.run(plan, partial(train_corner, task=task), StopSignal(), plan.check_time)
    return plan.outcome()


def train_corner(config: Params, task: "Task") -> None:
    """What a worker runs for a corner: reports how it went, as a text where it cannot be trained."""
    from ray import tune

    worker = Worker(task)
    tune.report({"gpu_memory": worker.ready()})
    found = worker.measure(config["params"])
    tune.report({"failed": found} if isinstance(found, str) else {"trained": list(_numbers(found))})


def _numbers(found: Trained) -> tuple[float, ...]:
    m = found.measured
    return (m.training, m.evaluation, m.host_bytes, m.gpu_bytes, found.wall, found.cpu)


class CornerPlan:
    """Corners of a space, a `protocol.Plan`: the first few, as many as there are workers, and then only if need be.

    Those that come later in a search that fails by them are that trial's failure.

    Args:
        configs: the reference first.
        concurrent: workers.
        is_near: see `try_corners`.
        report: see `try_corners`.
        patience: seconds without any news.
    """

    def __init__(
        self,
        configs: Sequence[Params],
        concurrent: int,
        is_near: Callable[[Sequence[Measured], int], bool],
        report: Callable[[int, int], object],
        patience: float,
    ):
        self._configs, self._is_near, self._report, self._patience = configs, is_near, report, patience
        # A worker that has nothing else to do tries one more.
        self._wanted = min(len(configs), max(FIRST, concurrent))
        self._begun = 0
        self._open: dict[str, int] = {}
        self._trained: dict[int, Trained] = {}
        self._gpus: list[int] = []
        self._news = time.monotonic()
        report(0, self._wanted)

    def next(self) -> tuple[str, Params] | None:
        """The next corner, as long as more are wanted."""
        if self._begun >= self._wanted:
            return None
        number, self._begun = self._begun, self._begun + 1
        job = f"corner-{number}"
        self._open[job] = number
        return job, {"params": self._configs[number]}

    def finished(self) -> bool:
        """Whether all corners that are wanted have been tried."""
        return self._begun >= self._wanted and not self._open

    def result(self, job: str, result: Params) -> None:
        """Take in what a worker reports. Raises `UserError` if the corner cannot be trained."""
        number = self._open.get(job)
        if number is None or number in self._trained:  # a function's last result is repeated
            return
        self._news = time.monotonic()
        if "gpu_memory" in result:
            self._gpus.append(int(result["gpu_memory"]))
        if "failed" in result:
            raise corner_error(self._configs[number], self._configs[0], result["failed"])
        if "trained" in result:
            training, evaluation, host, gpu, wall, cpu = result["trained"]
            measured = Measured(self._configs[number], training, evaluation, int(host), int(gpu))
            self._trained[number] = Trained(measured, wall, cpu)
            self._report(len(self._trained), self._wanted)

    def ended(self, job: str, outcome: JobOutcome) -> None:
        """Its worker goes on to another. Raises `UserError` if it died."""
        number = self._open.pop(job)
        if outcome.how == "halted":
            return
        if number not in self._trained:
            raise corner_error(self._configs[number], self._configs[0], outcome.reason or "its worker returned early")
        if not self._open and self._begun >= self._wanted and self._must_go_on():
            self._wanted = len(self._configs)

    def _must_go_on(self) -> bool:
        tried = list(self._trained.values())
        slow = max(corner.wall for corner in tried) > SLOW * self._patience
        return slow or self._is_near([corner.measured for corner in tried], min(self._gpus))

    def give_up(self, reason: str) -> None:
        """Nothing is kept of corners."""
        self._open.clear()

    def check_time(self) -> None:
        """Raise `UserError` if nothing has come for too long."""
        if time.monotonic() - self._news > self._patience:
            begun = [self._configs[number] for number in self._open.values()] if self._gpus else []
            raise corner_late(begun, self._configs[0], self._patience)

    def outcome(self) -> DryRun:
        """What was measured; the workers are there already, so they take no time to start."""
        return DryRun(steadied([self._trained[number] for number in sorted(self._trained)]), 0.0, min(self._gpus))
