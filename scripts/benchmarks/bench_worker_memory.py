"""Memory of a worker over a hundred trials of different configurations, beside a process that trains the same."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import bench_trial_overhead as common
from bench_table import Figure, Part, Settings

REPEATS = 1
TRIALS = 100
AFTER = (1, 10, 25, 50, 100)  # trials
FROM, TO = 10, 100  # trials between which memory should not grow
EPOCHS, EXAMPLES = 2, 48
AIM_MB = 40.0
PATIENCE = 1800  # seconds for one side
LIMITS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "MALLOC_ARENA_MAX")  # of a worker's environment
SCRIPTS = Path(__file__).resolve().parent
HOW = f"""\
Memory of one worker (resident, without what it shares with others: `worker_metrics.memory_bytes`) between two trials,
MB. {TRIALS} trials of {EPOCHS} epochs of {EXAMPLES} examples of two instruments, of as many configurations of the space
`laptop` with the mask; the figure is what it gains from trial {FROM} to trial {TO}.

- *sepsearch*: `sepsearch.distributed.tune_runner.run_stage` with one worker.
- *Beside it*: a process that calls `sepsearch.training.loop.fit` for the same configurations on the same rows, one
  after the other in a thread each, with the thresholds of glibc that workers have, and does nothing for its memory.

Aim: at most {AIM_MB:g} MB.
"""


def measure(settings: Settings) -> Part:
    """Both in turn."""
    gains: dict[str, list[float]] = {"ours": [], "plain": []}
    notes = []
    for _ in range(settings.repeats or REPEATS):
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            folder = Path(name)
            common.write_rows(folder)
            write_configurations(folder)
            for side, found in gains.items():
                sizes = drive(side, folder)
                found.append(sizes[TO - 1] - sizes[FROM - 1])
                notes.append(f"{side}, MB after trial {', '.join(f'{n}: {sizes[n - 1]:.0f}' for n in AFTER)}")
    figure = Figure("gained by a worker", "MB", *gains.values(), "plain loop", False, most_ours=AIM_MB, digits=0)
    return Part("worker_memory", HOW, [figure], notes)


def write_configurations(folder: Path) -> None:
    """One more than there are trials: memory is looked at when the next trial begins."""
    from sepsearch.search.sampling.sampler import Sampler
    from sepsearch.spaces.space import load_space

    space = load_space(SCRIPTS.parents[1] / "search_spaces" / "laptop.yaml")
    search = space.search.model_copy(update={"sampler": "random"})
    sampler = Sampler(space.model_copy(update={"search": search}), None, "list", 0)
    asked = [{**(sampler.ask(f"t{n}") or {}), "head": "mask"} for n in range(TRIALS + 1)]
    (folder / "configurations.json").write_text(json.dumps(asked))


def drive(side: str, folder: Path) -> list[float]:
    """Run one side in a process of its own; MB after every trial."""
    from sepsearch.distributed.session import ENVIRONMENT

    trace = folder / f"{side}.jsonl"
    command = [sys.executable, str(SCRIPTS / "bench_worker_memory.py"), side, str(folder), str(trace)]
    environment = {**os.environ, **ENVIRONMENT}
    for name in LIMITS if side == "plain" else ():
        del environment[name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise RuntimeError(f"{side} failed:\n{done.stderr[-2000:]}")
    seen = [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()]
    if len(seen) != TRIALS + 1 or len({pid for pid, _ in seen}) != 1:
        raise RuntimeError(f"{side}: {len(seen)} trials of {len({pid for pid, _ in seen})} processes were seen")
    return [size / 1e6 for _, size in seen[1:]]


def noting_fit(trace: str, *arguments: Any, **options: Any) -> Iterator[Any]:
    """`fit`, with this process's memory before it in a file."""
    from sepsearch.distributed.worker_metrics import memory_bytes
    from sepsearch.training.loop import fit

    with Path(trace).open("a", encoding="utf-8") as file:
        file.write(json.dumps([os.getpid(), memory_bytes(False)["cpu"]]) + "\n")
    yield from fit(*arguments, **options)


class Listed:
    """A plan of the file's configurations; see `sepsearch.search.protocol.Plan`."""

    def __init__(self, folder: Path):
        self.left = list(enumerate(json.loads((folder / "configurations.json").read_text())))

    def next(self) -> tuple[str, dict[str, Any]] | None:
        """The next one."""
        if not self.left:
            return None
        number, params = self.left.pop(0)
        return f"t{number:04d}", {"params": params, "seed": 0}

    def finished(self) -> bool:
        """Whether there are no more."""
        return not self.left

    def result(self, job: str, result: dict[str, Any]) -> str | None:
        """End a trial after its last epoch."""
        return "full budget" if result.get("epoch") == EPOCHS else None

    def ended(self, job: str, outcome: Any) -> None:
        """Nothing to do."""

    def give_up(self, reason: str) -> None:
        """Nothing to do."""


def search_ours(folder: Path, trace: str) -> None:
    """All configurations in one worker."""
    from sepsearch.distributed.session import ray_session

    with ray_session(cpus=1, dashboard=False):
        from ray import tune

        from sepsearch.distributed.trainable import train_job
        from sepsearch.distributed.tune_runner import run_stage
        from sepsearch.search.protocol import StopSignal, Workers

        task = common.make_task(folder, EPOCHS, EXAMPLES, partial(noting_fit, trace))
        train = tune.with_parameters(train_job, task=task)
        run_stage("bench", Listed(folder), train, Workers(1, 1, 0), folder / "ray", StopSignal())


def train_plain(folder: Path, trace: str) -> None:
    """All configurations in this process."""
    from threading import Thread

    import torch

    from sepsearch.models.families import make_config
    from sepsearch.training.members import Member

    torch.set_num_threads(1)
    data = common.load_data(folder)
    members = [Member(code, 0) for code in common.INSTRUMENTS]

    def train(params: dict[str, Any]) -> None:
        config = make_config(params)
        batches = max(1, round(EXAMPLES / config.training.batch_size))
        for _ in noting_fit(trace, config, data, members, epochs=EPOCHS, batches_per_epoch=batches):
            pass

    for params in json.loads((folder / "configurations.json").read_text()):
        thread = Thread(target=train, args=(params,))
        thread.start()
        thread.join()


if __name__ == "__main__":
    {"ours": search_ours, "plain": train_plain}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
