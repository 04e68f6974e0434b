"""How many trials share a GPU: as many as fit into its memory and as still pay, measured before the search."""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sepsearch.models.families import make_config
from sepsearch.preflight.dry_run import CORNER_SECONDS, Worker, peak_bytes, train_corners
from sepsearch.search.protocol import Params
from sepsearch.training.members import Member, TrainingFailed
from sepsearch.utils.formatting import size

if TYPE_CHECKING:
    from sepsearch.distributed.trainable import Task
    from sepsearch.search.protocol import Workers

GAIN = 0.1  # share by which more trials at once must raise the throughput of all together
MOST = 32  # trials on a GPU
SECONDS = 4.0  # of training beside one another
BATCHES = 4  # of an epoch of that
HEAD_START = 0.5  # seconds from asking to beginning, so that all begin together


@dataclass(frozen=True)
class Beside:
    """Trials beside one another: training examples a second of all together, and the peak memory of one in bytes."""

    rate: float
    memory: int


@dataclass(frozen=True)
class Packing:
    """How many `trials` share a GPU; `line` has the reasons in one line."""

    trials: int
    line: str

    @property
    def gpus_per_trial(self) -> float:
        """Rounded down to the ten-thousandths that Ray counts in: as many must fit."""
        return math.floor(10_000 / self.trials) / 10_000


def pack(measure: Callable[[int], Beside | None], worst: int, capacity: int, most: int = MOST) -> Packing:
    """Try 1, 2, 4, … trials beside one another, as long as they fit and every step pays.

    Args:
        measure: trains so many for a moment; None where they did not come through, as without memory.
        worst: bytes that a trial needs at the corner of the space that needs most.
        capacity: bytes of the device.
        most: trials, such as there are CPUs for.
    """
    tried: dict[int, float] = {}
    count, chosen, why = 1, 1, ""
    while not why:
        found = measure(count)
        if found is None:
            why = f"{count} did not come through"
            break
        tried[count] = found.rate
        if count > chosen and found.rate < tried[chosen] * (1 + GAIN):
            why = f"{count} would not pay"
            break
        worst = max(worst, found.memory)
        room = capacity // max(1, worst)
        fit = max(1, min(most, room))
        chosen = min(count, fit)
        if count >= fit:
            why = "there are no CPUs for more" if most <= room else f"{size(capacity)} hold {fit} of {size(worst)} each"
        count = min(2 * count, fit)
    rates = ", ".join(f"{number} → {rate:.0f}" for number, rate in tried.items()) or "none"
    return Packing(chosen, f"{chosen} trial{'s' if chosen > 1 else ''} on a GPU: {why} (examples/s: {rates})")


def choose_packing(task: "Task", configs: Sequence[Params], workers: "Workers", wanted: int | None) -> Packing:
    """Measure how many trials share a GPU on this cluster.

    The memory counts of the smallest GPU there is, at the corner that needs most; the throughput is the reference's.

    Args:
        task: of the search.
        configs: complete configurations, the reference first.
        workers: a whole GPU each.
        wanted: trials at once that were asked for, if any were.

    Raises:
        UserError: a corner cannot be trained even alone on a GPU.
    """
    import ray

    tried = train_corners(task, configs, workers)
    worst = max(measured.gpu_bytes for measured in tried.measured)
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= 1]
    most = min(MOST, most_beside([node["Resources"] for node in nodes], workers.cpus, wanted))
    capacity = min([tried.gpu_memory, *_gpu_memories(nodes)])
    return pack(lambda count: train_beside(task, configs[0], count, workers.cpus), worst, capacity, most)


def most_beside(nodes: Sequence[Mapping[str, float]], cpus: float, wanted: int | None) -> int:
    """Trials on a GPU that there are CPUs for everywhere, and that are wanted: at least one.

    Args:
        nodes: resources of the nodes that have GPUs.
        cpus: of a trial.
        wanted: trials at once, altogether; None for as many as fit.
    """
    fits = [math.floor(has.get("CPU", 0.0) / cpus / has["GPU"] + 1e-9) for has in nodes]
    if wanted is not None:
        fits.append(math.ceil(wanted / max(1.0, sum(has["GPU"] for has in nodes))))
    return max(1, min(fits, default=1))


def _gpu_memories(nodes: Sequence[Mapping[str, Any]]) -> list[int]:
    """Bytes of memory of a GPU of every node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look: Any = ray.remote(num_cpus=0, num_gpus=0.01, max_retries=0)(_own_memory)
    asked = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
        for node in nodes
    ]
    done, _ = ray.wait(asked, num_returns=len(asked), timeout=CORNER_SECONDS) if asked else ([], [])
    return [int(ray.get(answer)) for answer in done]


def _own_memory() -> int:
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory)


def train_beside(
    task: "Task", params: Params, count: int, cpus: float, seconds: float = SECONDS, patience: float = CORNER_SECONDS
) -> Beside | None:
    """Train `count` jobs of one configuration for so many seconds on one GPU, or without one on as many CPUs.

    Every one in a process of its own, as trials are; None where one of them could not be started or died.
    """
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    # One bundle, so that Ray divides one GPU and not several.
    room = ray.util.placement_group([{"CPU": count * cpus, **({"GPU": 1.0} if task.gpu else {})}])
    strategy = PlacementGroupSchedulingStrategy(room)
    share = Packing(count, "").gpus_per_trial if task.gpu else 0.0
    options: Any = {"num_cpus": cpus, "num_gpus": share, "scheduling_strategy": strategy, "max_restarts": 0}
    actors: list[Any] = []
    try:
        if not room.wait(patience):
            return None
        trainer: Any = ray.remote(**options)(_Trainer)
        shared = ray.put(task)
        actors = [trainer.remote(shared, params) for _ in range(count)]
        ray.get([actor.ready.remote() for actor in actors], timeout=patience)
        start = time.monotonic() + HEAD_START  # of one machine's clock, which is the same in all its processes
        found = ray.get([actor.train.remote(start, seconds) for actor in actors], timeout=patience)
    except ray.exceptions.RayError:  # no memory, or no answer in time
        return None
    finally:
        for actor in actors:
            ray.kill(actor)
        ray.util.remove_placement_group(room)
    return Beside(sum(rate for rate, _ in found), max(memory for _, memory in found))


class _Trainer(Worker):
    """One of several workers that train beside one another."""

    def __init__(self, task: "Task", params: Params):
        super().__init__(task)
        task.register_families()
        self.config = make_config(params)

    def ready(self) -> int:
        """Also train an epoch, which pays for what is done once."""
        memory = super().ready()
        self._begin()
        self._epoch()
        return memory

    def _begin(self) -> None:
        members = [Member(code, 0) for code in self.task.instruments]
        self.epochs = self.task.fit(self.config, self.data, members, epochs=sys.maxsize, batches_per_epoch=BATCHES)

    def _epoch(self) -> int:
        """Train one; returns how many examples that are."""
        try:
            next(self.epochs)
        except TrainingFailed:
            self._begin()  # a loss that is not finite is as much work as any other
        return BATCHES * self.config.training.batch_size * len(self.task.instruments)

    def train(self, start: float, seconds: float) -> tuple[float, int]:
        """Train from `start` (of `time.monotonic`) for so many seconds: examples a second, and peak memory in bytes."""
        time.sleep(max(0.0, start - time.monotonic()))
        begin, examples = time.perf_counter(), 0
        while (passed := time.perf_counter() - begin) < seconds or not examples:
            examples += self._epoch()
        return examples / passed, peak_bytes(self.task.gpu)
