"""Seconds between two trials on a worker: from the end of one's last epoch to the next one's first batch."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from bench_table import Figure, Part, Settings

if TYPE_CHECKING:
    from sepsearch.data.dataset import Dataset
    from sepsearch.distributed.trainable import Task
    from sepsearch.search.sampling.sampler import Sampler
    from sepsearch.spaces.space import Space

REPEATS = 3
TRIALS = 24
AT_ONCE = 2
EPOCHS, GRACE, FACTOR = 3, 1, 2
EXAMPLES, VALIDATION_EXAMPLES = 96, 32
SHARDS, SHARD_ROWS = 8, 64
SEED = 0
AIM = 1.0
PATIENCE = 600  # seconds for one search
INSTRUMENTS = ("vn", "vc")
Pauses = dict[str, list[float]]  # "trials": between two of a process, "epochs": between two of a trial, in seconds
SCRIPTS = Path(__file__).resolve().parent
HOW = f"""\
Seconds on a worker from the end of a trial's last epoch (its validation is done) to the beginning of the next trial's
first batch; the first trial of a worker is left out. Likewise between two epochs of a trial. {TRIALS} trials,
{AT_ONCE} at once, of at most {EPOCHS} epochs of {EXAMPLES} examples of two instruments, rungs at the first epoch with
reduction factor {FACTOR}; the space of the real task of `stopped_values` without what can die on random rows. A
repeat's value is the median over its pauses.

- *sepsearch*: `sepsearch.distributed.tune_runner.run_stage` with the search's own plan, TPE, journal and study on the
  disk, and a checkpoint on the disk after every epoch, in two workers of one Ray; without MLflow and console.
- *Beside it*: Optuna alone: two processes on one study (TPE, `SuccessiveHalvingPruner`) in
  `JournalStorage(JournalFileBackend(…))`, each of which calls `study.optimize`. It writes no checkpoint, so a process
  that dies loses its trial.

Both train with `sepsearch.training.loop.fit` on the same rows, with one thread a process; the configurations are a
fixed list (the sampler is asked, and its proposal replaced by the list's, on both sides). Aim: no more than Optuna's.
"""


def measure(settings: Settings) -> Part:
    """Both in turn, every search in processes of its own."""
    ours: list[Pauses] = []
    other: list[Pauses] = []
    for _ in range(settings.repeats or REPEATS):
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            folder = Path(name)
            write_inputs(folder)
            ours.append(drive("ours", folder, 1))
            make_study(folder)
            other.append(drive("optuna", folder, AT_ONCE))
    figures, notes = [], []
    for key, name, aim in (("trials", "between two trials", AIM), ("epochs", "between two epochs of a trial", None)):
        both = [[median(pauses[key]) for pauses in side] for side in (ours, other)]
        figures.append(Figure(name, "s", *both, "Optuna alone", False, least_ratio=aim, digits=3))
        counts = [sum(len(pauses[key]) for pauses in side) for side in (ours, other)]
        longest = [max(max(pauses[key]) for pauses in side) for side in (ours, other)]
        notes.append(f"{name}: n = {counts[0]} and {counts[1]}; the longest {longest[0]:.3f} and {longest[1]:.3f} s")
    return Part("trial_overhead", HOW, figures, notes)


def bench_space() -> "Space":
    """The space of both sides: that of the real task of `bench_stopped_values`, without what can die on random rows."""
    from stopped_values_task import SPACE, parse

    milder = {
        "activation": ["elu", "gelu"],
        "head": ["mask"],
        "learning_rate": {"low": 3e-4, "high": 3e-3, "log": True},
    }
    return parse({**SPACE, "parameters": {**SPACE["parameters"], **milder}})


def write_inputs(folder: Path) -> None:
    """Rows, and the configurations that both sides train."""
    write_rows(folder)
    from sepsearch.search.sampling.sampler import Sampler

    sampler = Sampler(bench_space(), None, "list", SEED)
    asked = [sampler.ask(f"t{n}") for n in range(TRIALS + 1)]
    (folder / "configurations.json").write_text(json.dumps(asked[1:]))  # the first is the reference, whose head can die


def write_rows(folder: Path) -> None:
    """Random rows; every second one is half the one before it."""
    rng = np.random.default_rng(SEED)
    rows = rng.random((SHARDS * SHARD_ROWS, 128, 128), dtype=np.float32)
    rows[1::2] = rows[::2] / 2
    np.save(folder / "rows.npy", rows.astype(np.float16))


def load_data(folder: Path) -> "Dataset":
    """The rows as a process alone has them."""
    from sepsearch.data.dataset import Dataset, Rows

    return Dataset(Rows(np.split(np.load(folder / "rows.npy"), SHARDS)), examples(), dict.fromkeys(INSTRUMENTS, 1.0))


def examples() -> dict[str, Any]:
    """Pairs of rows for both instruments."""
    from sepsearch.data.dataset import Pairs

    mixture = np.arange(0, SHARDS * SHARD_ROWS, 2)
    pairs = Pairs(mixture, mixture + 1, mixture // SHARD_ROWS)
    order = np.random.default_rng(SEED).permutation(len(pairs))
    sides = {"train": pairs.pick(order[VALIDATION_EXAMPLES:]), "validation": pairs.pick(order[:VALIDATION_EXAMPLES])}
    return dict.fromkeys(INSTRUMENTS, sides)


def timed_fit(trace: str, *arguments: Any, **options: Any) -> Iterator[Any]:
    """`fit`, with the clock at the begin and end of every epoch in a file of this process."""
    from sepsearch.training.loop import fit

    with Path(trace, f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
        for result in fit(*arguments, **options):
            end = time.time()
            line = {"epoch": result.epoch, "begin": end - result.seconds, "end": end}
            file.write(json.dumps(line) + "\n")
            file.flush()
            yield result


def read_pauses(trace: Path) -> Pauses:
    """Pauses of all processes."""
    pauses: Pauses = {"trials": [], "epochs": []}
    for path in trace.glob("*.jsonl"):
        epochs = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for before, after in pairwise(epochs):
            pauses["trials" if after["epoch"] == 1 else "epochs"].append(after["begin"] - before["end"])
    if len(found := pauses["trials"]) < TRIALS - 2 * AT_ONCE:
        raise RuntimeError(f"{len(found)} pauses between trials in the trace, expected about {TRIALS - AT_ONCE}")
    return pauses


def drive(side: str, folder: Path, processes: int) -> Pauses:
    """Run one side in processes of its own."""
    trace = folder / f"trace-{side}"
    trace.mkdir()
    command = [sys.executable, str(SCRIPTS / "bench_trial_overhead.py"), side, str(folder), str(trace)]
    running = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for process in running:
        _, error = process.communicate(timeout=PATIENCE)
        if process.returncode:
            raise RuntimeError(f"{side} failed:\n{error[-2000:]}")
    return read_pauses(trace)


def search_ours(folder: Path, trace: str) -> None:
    """A search's stage, as the pipeline runs it."""
    from sepsearch.distributed.session import ray_session

    with ray_session(cpus=AT_ONCE, dashboard=False):
        from ray import tune

        from sepsearch.distributed.trainable import train_job
        from sepsearch.distributed.tune_runner import run_stage
        from sepsearch.search.journal import Journal
        from sepsearch.search.protocol import StopSignal, Workers
        from sepsearch.search.scheduler import SearchPlan
        from sepsearch.search.stopping.asha import Rungs

        task = make_task(folder, EPOCHS, EXAMPLES, partial(timed_fit, trace))
        plan = SearchPlan(
            listed_sampler(folder),
            Rungs(GRACE, FACTOR, EPOCHS),
            Journal(folder / "journal.jsonl"),
            TRIALS,
            EPOCHS,
            SEED,
            checkpoints=task.checkpoints,
        )
        train = tune.with_parameters(train_job, task=task)
        run_stage("bench", plan, train, Workers(AT_ONCE, 1, 0), folder / "ray", StopSignal())
        assert plan.finished()


def make_task(folder: Path, epochs: int, examples_per_epoch: int, fit: Callable[..., Iterator[Any]]) -> "Task":
    """What workers train: the rows in Ray's object store, checkpoints on the disk."""
    import ray

    from sepsearch.distributed.object_store import StoredData
    from sepsearch.distributed.trainable import Task
    from sepsearch.utils.storage import open_storage

    shards = tuple(ray.put(shard) for shard in np.split(np.load(folder / "rows.npy"), SHARDS))
    return Task(
        data=StoredData("bench", shards, examples(), dict.fromkeys(INSTRUMENTS, 1.0)),
        instruments=INSTRUMENTS,
        epochs=epochs,
        examples_per_epoch=examples_per_epoch,
        threads=1,
        gpu=False,
        checkpoints=open_storage(folder / "checkpoints"),
        fit=fit,
    )


def listed_sampler(folder: Path) -> "Sampler":
    """TPE that is asked for every trial, and whose proposals the list's configurations replace after that."""
    from sepsearch.search.sampling.sampler import Sampler

    class Listed(Sampler):
        listed = iter(json.loads((folder / "configurations.json").read_text()))

        def ask(self, trial: str) -> dict[str, Any] | None:
            super().ask(trial)
            params: dict[str, Any] = next(self.listed)
            return params

    return Listed(bench_space(), folder / "study.log", "bench", SEED)


def make_study(folder: Path) -> None:
    """An empty study for both processes."""
    import optuna

    optuna.create_study(study_name="bench", storage=study_storage(folder))


def study_storage(folder: Path) -> Any:
    """Optuna's own storage in a file."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(folder / "optuna.log")))


def search_optuna(folder: Path, trace: str) -> None:
    """One of the processes of Optuna alone, as its documentation runs them."""
    import optuna
    import torch

    from sepsearch.models.families import make_config
    from sepsearch.search.sampling.optuna_space import suggest
    from sepsearch.training.members import Member

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data, space = load_data(folder), bench_space()
    configurations = json.loads((folder / "configurations.json").read_text())
    members = [Member(code, SEED) for code in INSTRUMENTS]

    def objective(trial: optuna.Trial) -> float:
        suggest(space, trial)
        if trial.number >= TRIALS:
            trial.study.stop()
            raise optuna.TrialPruned
        config = make_config(configurations[trial.number])
        batches = max(1, round(EXAMPLES / config.training.batch_size))
        ratio = float("nan")
        for result in timed_fit(trace, config, data, members, epochs=EPOCHS, batches_per_epoch=batches):
            ratio = result.ratio
            trial.report(ratio, result.epoch)
            if result.epoch < EPOCHS and trial.should_prune():
                raise optuna.TrialPruned
        return ratio

    study = optuna.load_study(
        study_name="bench",
        storage=study_storage(folder),
        sampler=optuna.samplers.TPESampler(n_startup_trials=5),
        pruner=optuna.pruners.SuccessiveHalvingPruner(GRACE, FACTOR),
    )
    study.optimize(objective, n_trials=TRIALS)


if __name__ == "__main__":
    {"ours": search_ours, "optuna": search_optuna}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
