"""Dry run: a batch of every corner configuration, in workers like those of the search."""

import contextlib
import ctypes
import dataclasses
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sepsearch.audio.spectrogram import BINS, FRAMES
from sepsearch.data.dataset import EVALUATION_BATCH, Dataset
from sepsearch.data.joint_examples import join_pairs
from sepsearch.distributed.nodes import death_reason
from sepsearch.distributed.object_store import resident_data
from sepsearch.models.families import count_parameters, make_config, make_network
from sepsearch.preflight.corner_configurations import corner_error
from sepsearch.preflight.estimates import NUMBER_BYTES, STATES, Measured
from sepsearch.search.protocol import Params
from sepsearch.training.members import Member, TrainingFailed
from sepsearch.utils.errors import UserError, reason_of

if TYPE_CHECKING:
    from sepsearch.distributed.trainable import Task
    from sepsearch.search.protocol import Workers

MOST_WORKERS = 4  # more would be waited for longer than they save
CORNER_SECONDS = 300.0  # for a worker to start, or for a corner
FEW = 4  # validation examples of an instrument that is not the first, on a CPU
ROUNDS = 2  # of a corner: the first pays for what is done once per shape
CUDA_CONTEXT_BYTES = 600 * 10**6  # of a process on a GPU, beside what torch's allocator holds


@dataclass(frozen=True)
class Trained:
    """A corner as measured, and the seconds of one epoch of it: of the clock and of the processor."""

    measured: Measured
    wall: float
    cpu: float


@dataclass(frozen=True)
class DryRun:
    """Result of a dry run: every corner in order.

    `startup` is the seconds from asking for workers until all were ready; `gpu_memory` that of the smallest GPU among
    theirs in bytes, 0 without one.
    """

    measured: tuple[Measured, ...]
    startup: float
    gpu_memory: int


def train_corners(
    task: "Task",
    configs: Sequence[Params],
    workers: "Workers",
    advance: Callable[[], object] = lambda: None,
    patience: float | None = None,
) -> DryRun:
    """Train every configuration for a batch or a few, on resident data, with a trial's resources and environment.

    As many workers as the search will have (at most MOST_WORKERS) share the configurations, so that times are those
    of workers beside others. A loss that is not finite is no error: such a trial fails by itself.

    Args:
        task: the search's.
        configs: complete configurations, the reference first.
        workers: resources of a trial.
        advance: called after every configuration.
        patience: seconds for a worker to start and for one configuration; CORNER_SECONDS by default.

    Raises:
        UserError: a configuration cannot be built or trained, its worker died, or nothing came in time.
    """
    import ray

    shared = ray.put(task)
    options: Any = {"num_cpus": workers.cpus, "num_gpus": workers.gpus, "max_restarts": 0, "max_task_retries": 0}
    worker: Any = ray.remote(**options)(Worker)
    actors = [worker.remote(shared) for _ in range(min(workers.concurrent, MOST_WORKERS, len(configs)))]
    try:
        return _share(configs, actors, advance, patience or CORNER_SECONDS)
    finally:
        for actor in actors:
            ray.kill(actor)


def _share(configs: Sequence[Params], actors: Sequence[Any], advance: Callable[[], object], patience: float) -> DryRun:
    """Have workers train configurations, each the next one as soon as it is free."""
    import ray

    begin = time.monotonic()
    waiting = list(enumerate(configs))
    running: dict[Any, tuple[Any, int]] = {actor.ready.remote(): (actor, -1) for actor in actors}
    trained: dict[int, Trained] = {}
    startup, gpus = 0.0, []
    while len(trained) < len(configs):
        done, _ = ray.wait(list(running), num_returns=1, timeout=patience)
        if not done:
            raise corner_late([configs[number] for _, number in running.values() if number >= 0], configs[0], patience)
        actor, number = running.pop(done[0])
        result = _result(done[0], configs[number] if number >= 0 else None, configs[0])
        if number < 0:
            startup = time.monotonic() - begin
            gpus.append(result)
        else:
            trained[number] = result
            advance()
        if waiting:
            number, params = waiting.pop(0)
            running[actor.measure.remote(params)] = (actor, number)
    return DryRun(steadied([trained[number] for number in range(len(configs))]), startup, min(gpus))


def _result(reference_to: Any, params: Params | None, reference: Params) -> Any:
    """What a worker answered; raises `UserError` if it answered with a problem or not at all."""
    import ray

    try:
        result = ray.get(reference_to)
    except ray.exceptions.RayError as error:
        reason = death_reason(error)
        if params is None:
            raise UserError(f"a worker could not be started: {reason}: repair that, then run again") from error
        raise corner_error(params, reference, reason) from error
    if isinstance(result, str):
        raise corner_error(params or reference, reference, result)
    return result


def corner_late(params: Sequence[Params], reference: Params, patience: float) -> UserError:
    """The error for corners without an answer in time; none where no worker was ready."""
    if not params:
        return UserError(
            f"no worker was ready within {patience:g} s: the cluster is busy, or has no room for a trial:"
            " wait, or lower --cpus-per-trial or --gpus-per-trial"
        )
    return corner_error(params[0], reference, f"one batch was not done within {patience:g} s")


class Worker:
    """A worker of a dry run; it answers with a reason, as text, where a configuration cannot be trained."""

    def __init__(self, task: "Task"):
        self.task = task

    def ready(self) -> int:
        """Bring the data here. Returns the bytes of memory of this worker's GPU, 0 without one."""
        self.task.register_families()
        torch.set_num_threads(self.task.threads)
        self.data = few_examples(resident_data(self.task.data, "cuda" if self.task.gpu else "cpu"), self.task.gpu)
        return int(torch.cuda.get_device_properties(0).total_memory) if self.task.gpu else 0

    def measure(self, params: Params) -> Trained | str:
        try:
            return measure(params, self.data, self.task.instruments, self.task.fit)
        except Exception as error:
            return reason_of(error)


def few_examples(data: Dataset, gpu: bool = False) -> Dataset:
    """The data set with one batch of validation examples: training is what is timed.

    On a GPU one of every instrument; on a CPU, where that takes longer than the training, of the first one alone,
    which is the one that trains there, and a few of the others.
    """
    examples = {}
    for number, (code, sides) in enumerate(data.examples.items()):
        validation = sides["validation"]
        most = EVALUATION_BATCH if gpu or not number else FEW
        examples[code] = {**sides, "validation": validation.pick(np.arange(min(most, len(validation))))}
    return dataclasses.replace(data, examples=examples)


def measure(
    params: Params, data: Dataset, instruments: Sequence[str], fit: Callable[..., Iterator[Any]], rounds: int = ROUNDS
) -> Trained:
    """Train a configuration for so many epochs of one batch each; times are medians without the first epoch.

    On a GPU all of the unit's networks are trained, and the one that all instruments share; otherwise, on a CPU, the
    first one, and what the others would hold is added.

    Raises:
        Exception: whatever building or training the network raises, but not `TrainingFailed`.
    """
    gpu = data.rows.device.type == "cuda"
    config = make_config(params)
    parameters = _check_shape(make_network(config).to(data.rows.device), data)
    shared = config.training.heads == "all"
    networks, trained = (1, 1) if shared else (len(instruments), len(instruments) if gpu else 1)
    members = [Member(code, 0) for code in (instruments if gpu or shared else instruments[:1])]
    # One batch an epoch; a network of several instruments would draw several to show each of them as many examples.
    batches = join_pairs([data.examples[member.instrument]["train"] for member in members]).targets_per_example
    batches = batches / len(members) if shared else 1.0
    examples = len(members) * batches * config.training.batch_size
    validation = sum(len(data.examples[member.instrument]["validation"]) for member in members)
    _forget_peak(gpu)
    times: list[tuple[float, float, float]] = []
    wall, busy = time.perf_counter(), time.process_time()
    try:
        for result in fit(config, data, members, epochs=rounds, batches_per_epoch=batches):
            training = examples / result.examples_per_second
            times.append((training, result.seconds - training, time.process_time() - busy))
            wall, busy = time.perf_counter(), time.process_time()
    except TrainingFailed:
        # It gives no times of its own; the way back through a network costs twice the way there.
        seconds = time.perf_counter() - wall
        share = 3 * examples / (3 * examples + validation)
        times.append((seconds * share, seconds * (1 - share), time.process_time() - busy))
    training, evaluation, cpu = (median(column) for column in zip(*(times[1:] or times), strict=True))
    state = parameters * STATES * NUMBER_BYTES
    measured = Measured(
        params,
        training=training / examples,
        evaluation=evaluation / validation,
        # What the networks beside the first hold, and a checkpoint of all, twice while it is put together.
        # So few examples do not fill what streamed rows may take; on a GPU one block of them is on its way in the host.
        host_bytes=_peak_host_bytes() + (3 * networks - trained) * state + data.rows.bytes_ahead,
        gpu_bytes=peak_bytes(gpu) + data.rows.bytes_ahead if gpu else 0,
    )
    return Trained(measured, training + evaluation, training + evaluation if gpu else cpu)


def steadied(trained: Sequence[Trained]) -> tuple[Measured, ...]:
    """What corners take while the machine is as busy as it was on average, from their processor times.

    A single batch may meet others at work and take twice its time; the time the processor spent on it does not change.
    """
    busy = sum(corner.wall for corner in trained) / sum(corner.cpu for corner in trained)
    found = []
    for corner in trained:
        factor = corner.cpu * busy / corner.wall
        measured = corner.measured
        found.append(
            dataclasses.replace(measured, training=measured.training * factor, evaluation=measured.evaluation * factor)
        )
    return tuple(found)


def _check_shape(network: torch.nn.Module, data: Dataset) -> int:
    """Refuse a network whose output is no spectrogram: the loss would stretch it to fit. Returns its size."""
    with torch.inference_mode():
        shape = tuple(network(torch.zeros(1, 1, FRAMES, BINS, device=data.rows.device)).shape)
    if shape != (1, 1, FRAMES, BINS):
        raise ValueError(f"the network's output is {shape}, expected {(1, 1, FRAMES, BINS)}")
    return count_parameters(network)


def _forget_peak(gpu: bool) -> None:
    """Let peaks of memory count from here, and give back what the allocators keep of what was freed."""
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError, AttributeError):  # another C library keeps it: then it counts, too
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):  # then the largest so far is what counts
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM, see proc(5)


def peak_bytes(gpu: bool) -> int:
    """The largest memory of this process: on its GPU, or on the host without what it shares with others."""
    return torch.cuda.max_memory_reserved() + CUDA_CONTEXT_BYTES if gpu else _peak_host_bytes()


def _peak_host_bytes() -> int:
    """The largest resident memory of this process, without what it shares with others (libraries, object store)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    fields = (line.partition(":") for line in lines)
    kilobytes = {key: int(value.split()[0]) for key, _, value in fields if value.endswith("kB")}
    return (kilobytes["VmHWM"] - kilobytes["RssFile"] - kilobytes["RssShmem"]) * 1024
