"""The real task of the benchmark of tells: one instrument of the demo ensemble, tiny epochs, training without Ray."""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sepsearch.data.dataset import Dataset
    from sepsearch.spaces.space import Space

INSTRUMENT = "vn"  # unless another is asked for
EXAMPLES = 96  # an epoch of the recorded table
SMALL = 64  # an epoch of the searches that train
VALIDATION_EXAMPLES = 48
# The space of search_spaces/laptop.yaml, with room for what goes wrong: slower and faster learning rates, ReLU.
SPACE: dict[str, Any] = {
    "parameters": {
        "filters": [8, 16],
        "preparer_kernel_1": [3, 5],
        "activation": ["relu", "elu", "gelu", "silu"],
        "detector_kernel_frequency": {"low": 8, "high": 24, "step": 8},
        "detector_layers": [1, 2],
        "detector_width": {"choices": [32, 64, 128], "when": {"detector_layers": 2}},
        "head": ["relu", "mask"],
        "learning_rate": {"low": 3e-4, "high": 2e-2, "log": True},
        "l2": [0.0, 1e-6, 1e-4],
        "batch_size": [16, 32],
    },
    "front_end": {"preset": "mel"},
    "search": {"validation_examples": VALIDATION_EXAMPLES, "startup_trials": 5},
}


@dataclass(frozen=True)
class Step:
    """An epoch of training. `ratio` is the objective, `seconds` its wall time."""

    epoch: int
    ratio: float
    seconds: float


def task_space(**search: Any) -> "Space":
    """The task's space with its search settings changed."""
    return parse({**SPACE, "search": {**SPACE["search"], **search}})


def parse(space: dict[str, Any]) -> "Space":
    """A space as a table of curves has it."""
    from sepsearch.spaces.space import parse_space

    return parse_space(space, "stopped_values_task.SPACE")


def task_data(instrument: str, threads: int = 1) -> "Dataset":
    """What the task's networks learn from: the demo ensemble's shards, made on first use."""
    import torch

    from sepsearch.data.demo.rendering import demo_folder
    from sepsearch.data.preparation import prepare
    from sepsearch.data.prepared import gather_data

    torch.set_num_threads(threads)
    space = task_space()
    recordings, shards = prepare(demo_folder(), space.front_end.resolve(), lambda *_: None)
    prepared = gather_data(
        recordings, shards, (instrument,), 0, space.split.fractions, space.search.validation_examples
    )
    return prepared.training_data()


def train(params: dict[str, Any], data: "Dataset", seed: int, epochs: int, examples: int) -> Iterator[Step]:
    """Train one configuration and yield its epochs; raises `sepsearch.training.loop.TrainingFailed`."""
    from sepsearch.models.families import make_config
    from sepsearch.training.loop import fit
    from sepsearch.training.members import Member

    config = make_config(params)
    members = [Member(code, seed) for code in data.identity]
    batches = max(1, round(examples / config.training.batch_size))
    for result in fit(config, data, members, epochs=epochs, batches_per_epoch=batches):
        yield Step(result.epoch, result.ratio, result.seconds)


_worker: dict[str, Any] = {}


def start_worker(instrument: str = INSTRUMENT) -> None:
    """Make a process ready to train."""
    os.nice(5)
    _worker["data"] = task_data(instrument)


def worker_data() -> "Dataset":
    """What this process has to learn from."""
    data: Dataset = _worker["data"]
    return data


def record(params: dict[str, Any], seed: int, epochs: int) -> dict[str, Any]:
    """One recorded trial: its configuration, curve, mean seconds an epoch and, where it failed, why."""
    from sepsearch.training.members import TrainingFailed

    steps, failed = [], ""
    begin = time.perf_counter()
    try:
        for step in train(params, worker_data(), seed, epochs, EXAMPLES):
            steps.append(step)
    except TrainingFailed as failure:
        failed = str(failure)
    seconds = fmean(step.seconds for step in steps) if steps else time.perf_counter() - begin
    return {
        "params": params,
        "ratios": [round(step.ratio, 5) for step in steps],
        "seconds": round(seconds, 3),
        **({"failed": failed} if failed else {}),
    }


def record_table(
    path: Path, configurations: int, epochs: int, seed: int = 0, sampler_seed: int = 1000, instrument: str = INSTRUMENT
) -> None:
    """Train random configurations, a process a core, and write their curves; the reference is the first of them."""
    from sepsearch.search.sampling.sampler import Sampler

    sampler = Sampler(task_space(sampler="random"), None, "table", sampler_seed)
    asked = [sampler.ask(f"c{number}") for number in range(configurations)]
    wanted = [params for params in asked if params is not None]
    curves = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, start_worker, (instrument,)) as processes:
        for curve in processes.map(record, wanted, [seed] * len(wanted), [epochs] * len(wanted)):
            curves.append(curve)
            print(f"{len(curves)} of {len(wanted)}", file=sys.stderr, flush=True)
    write_table(path, curves, epochs, seed, sampler_seed, instrument)


def write_table(
    path: Path, curves: list[dict[str, Any]], epochs: int, seed: int, sampler_seed: int, instrument: str
) -> None:
    """Write a table file of curves, one to a line, with how they were recorded."""
    about = {
        "recorded": f"{len(curves)} configurations of the random sampler (seed {sampler_seed}; the reference first), "
        f"{epochs} epochs of {EXAMPLES} examples each, networks' and split's seed {seed} and 0, "
        f"{VALIDATION_EXAMPLES} validation examples, demo ensemble, {instrument}, one CPU thread",
        "space": SPACE,
    }
    lines = ",\n".join(json.dumps(curve, separators=(",", ":")) for curve in curves)
    path.write_text(json.dumps(about, separators=(",", ":"))[:-1] + ',"curves":[\n' + lines + "\n]}\n")
