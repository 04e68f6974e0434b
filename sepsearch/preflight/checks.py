"""Preflight: checks what a run needs before it starts. Every problem is a `UserError` of one line."""

import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sepsearch.distributed.nodes import Node, check_nodes
from sepsearch.preflight.corner_configurations import corner_configs, difference, parameter_counts
from sepsearch.preflight.estimates import Disk, Forecast, Job, Measured, forecast_disk, forecast_times
from sepsearch.preflight.size_range import small_corners
from sepsearch.search.protocol import Params
from sepsearch.search.sampling.sampler_plugins import require_sampler
from sepsearch.spaces.plugins_in_use import plugin_versions
from sepsearch.tracking.access import check_access, registry_notes
from sepsearch.tracking.tracker import database_file, tracking_uri
from sepsearch.utils.errors import UserError, no_space
from sepsearch.utils.files import cache_folder
from sepsearch.utils.formatting import size
from sepsearch.utils.progress import Steps
from sepsearch.utils.storage import StorageFolder

if TYPE_CHECKING:
    from sepsearch.distributed.trainable import Task
    from sepsearch.distributed.worker_pool import WorkerPool
    from sepsearch.preflight.dry_run import DryRun
    from sepsearch.runs.record import Settings
    from sepsearch.search.protocol import Workers
    from sepsearch.spaces.space import Space

NEAR = 0.5  # share of memory; where corners need more, all of them are tried
Progress = Callable[[str, int, int], None]


def preflight(
    space: "Space",
    settings: "Settings",
    task: "Task",
    workers: "Workers",
    folder: Path,
    place: StorageFolder,
    *,
    time_budget: float | None = None,
    corners: bool = True,
    pool: "WorkerPool | None" = None,
    patience: float | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Forecast:
    """Check folders and disk, every node, and a batch of corners of the space; Ray runs already.

    Args:
        space: what will be searched.
        settings: of the run.
        task: of the search.
        workers: resources of a trial.
        folder: of the run; it need not exist, and is not left behind.
        place: of the run, as all nodes see it.
        time_budget: of the search, in seconds.
        corners: whether to try the corners; without them (to go on with a run) no times are forecast.
        pool: workers of the search, in which the first few corners are tried (see `corner_plan`); without it workers
            are started for all corners.
        patience: seconds for a worker to be ready and for one configuration; `train_corners`' own by default.
        progress: called with (stage, steps done, steps in all).

    Raises:
        UserError: something would stop the run.
    """
    require_sampler(space.search.sampler)
    configs = corner_configs(space)
    sizes = parameter_counts(configs)
    configs, of_sizes = small_corners(space, configs, sizes)
    job = _job(space, settings, task, workers)
    disk = forecast_disk(max(sizes), job)
    check_folders(folder, disk)
    nodes = check_nodes(place, workers, plugins=plugin_versions(space, workers_only=True))
    if not corners:
        return Forecast(disk, settings.trials)
    tried = _try(task, configs, nodes, workers, pool, patience, progress)
    notes = check_memory(tried.measured, nodes, workers, tried.gpu_memory)
    notes += task.data.gpu_notes(tried.gpu_memory)
    notes += registry_notes(settings.instruments)
    times = forecast_times(tried.measured, job, tried.startup, time_budget)
    needed = max(m.gpu_bytes or m.host_bytes for m in tried.measured)
    if times.fitting == 0:
        notes.append("the time budget may be over before the first trial has ended: give it more with --time-budget")
    corners_of = (len(tried.measured), len(configs))
    return Forecast(disk, settings.trials, corners_of, needed, times, (*of_sizes, *notes))


def _try(
    task: "Task",
    configs: Sequence[Params],
    nodes: Sequence[Node],
    workers: "Workers",
    pool: "WorkerPool | None",
    patience: float | None,
    progress: Progress,
) -> "DryRun":
    """Train corners, in the search's own workers where there are some."""
    from sepsearch.preflight.corner_plan import try_corners
    from sepsearch.preflight.dry_run import train_corners

    report = partial(progress, "trying the corners of the space")
    if pool is None:
        return train_corners(task, configs, workers, Steps(report, len(configs)), patience)

    def is_near(measured: Sequence[Measured], gpu_memory: int) -> bool:
        return near_memory(measured, nodes, workers, gpu_memory)

    return try_corners(pool, task, configs, workers, is_near, report, patience)


def near_memory(measured: Sequence[Measured], nodes: Sequence[Node], workers: "Workers", gpu_memory: int) -> bool:
    """Whether trials at the corner that needs most would fill more than NEAR of a node's free memory, or of a GPU."""
    host, gpu = max(m.host_bytes for m in measured), max(m.gpu_bytes for m in measured)
    beside = max(1, math.floor(1 / workers.gpus + 1e-9)) if gpu_memory else 0
    return beside * gpu > NEAR * gpu_memory or any(
        node.trials * host > NEAR * node.memory[1] for node in nodes if node.memory
    )


def _job(space: "Space", settings: "Settings", task: "Task", workers: "Workers") -> Job:
    validation = [len(sides["validation"]) for sides in task.data.examples.values()]
    return Job(
        space,
        trials=settings.trials,
        epochs=settings.epochs,
        final_epochs=settings.final_epochs,
        networks=len(task.instruments),
        training_examples=task.examples_per_epoch,
        validation_examples=math.ceil(sum(validation) / len(validation)),
        concurrent=workers.concurrent,
    )


def check_place(place: StorageFolder) -> None:
    """See that a run's place can be written; nothing is left there. Raises `UserError` if it cannot be."""
    if place.local is None:
        name = f"preflight-{secrets.token_hex(4)}"
        place.write(name, b"")
        place.remove(name)


def check_folders(folder: Path, disk: Disk | None = None) -> None:
    """See that all folders a run writes to can be written, and MLflow, and that what it writes has room.

    Args:
        folder: of the run.
        disk: what will be written; without it only whether one can write is looked at.

    Raises:
        UserError: a folder cannot be written, its disk is too full, or MLflow cannot be used (see `check_access`).
    """
    cache = cache_folder()
    database = database_file(tracking_uri())
    places = [(folder, disk.checkpoints + disk.journal if disk else 0, "another disk with --runs")]
    if database is not None:
        store = (database.parent, disk.tracking if disk else 0, "another store with MLFLOW_TRACKING_URI")
        places.append(store)
        if database.exists() and not os.access(database, os.W_OK):
            raise UserError(f"{database}: cannot be written, expected MLflow's database: choose {store[2]}")
    if disk is None:
        check_access()
    places.append((cache, 0, "another cache with SEPSEARCH_CACHE"))
    needed: dict[int, int] = {}
    for place, amount, choice in places:
        existing = _existing(place)
        try:
            tempfile.TemporaryFile(dir=existing).close()  # on Linux it has no name that a kill could leave behind
        except OSError as error:
            raise no_space(error, place, choice) from error
        device = existing.stat().st_dev
        needed[device] = needed.get(device, 0) + amount
        free = shutil.disk_usage(existing).free
        if free < needed[device]:
            raise UserError(
                f"{place}: checkpoints, models and records of this run need up to {size(needed[device])} on its disk,"
                f" found {size(free)} free: free some space, or choose {choice}"
            )


def _existing(place: Path) -> Path:
    """The nearest folder above a place that is there."""
    for existing in (place.absolute(), *place.absolute().parents):
        if os.path.exists(existing):  # Path.exists raises an exception below a folder that this user may not enter
            return existing
    return Path("/")


def check_memory(measured: Sequence[Measured], nodes: Sequence[Node], workers: "Workers", gpu_memory: int) -> list[str]:
    """See that as many trials as will run beside one another find memory, all of them at the corner that needs most.

    Args:
        measured: the reference first.
        nodes: that can be used.
        workers: resources of a trial.
        gpu_memory: of a GPU in bytes, 0 without one.

    Returns:
        Notes on memory that is there but not free now.

    Raises:
        UserError: there is less memory than that.
    """
    reference = measured[0].params
    notes = []
    worst = max(measured, key=lambda corner: corner.host_bytes)
    for node in nodes:
        total, free = node.memory or (math.inf, math.inf)
        needed = node.trials * worst.host_bytes
        if needed > free:
            each = f"{size(worst.host_bytes)} each at the corner {difference(worst.params, reference)}"
            text = f"node {node.name}: {node.trials} trials at once need up to {size(needed)} of memory ({each})"
            if needed > total:
                raise UserError(f"{text}, found {size(total)}: {_fewer(int(total // worst.host_bytes))}")
            notes.append(f"{text}, and {size(free)} are free now: lower --workers if trials die")
    if gpu_memory:
        worst = max(measured, key=lambda corner: corner.gpu_bytes)
        beside = max(1, math.floor(1 / workers.gpus + 1e-9))
        if beside * worst.gpu_bytes > gpu_memory:
            fit = gpu_memory // worst.gpu_bytes
            more = f"raise --gpus-per-trial to {math.ceil(100 / fit) / 100:g}, or " if fit else ""
            raise UserError(
                f"{beside} trials on a GPU need up to {size(beside * worst.gpu_bytes)} of its memory"
                f" ({size(worst.gpu_bytes)} each at the corner {difference(worst.params, reference)}),"
                f" found {size(gpu_memory)}: {more}narrow the space file"
            )
    return notes


def _fewer(fit: int) -> str:
    narrow = "narrow the space file"
    return f"lower --workers (to {fit} on such a node), raise --cpus-per-trial, or {narrow}" if fit else narrow
