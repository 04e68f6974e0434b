"""The task that all sides of the peers' benchmark search: data, space, and the training of one trial, with a trace."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sepsearch.data.dataset import Dataset
    from sepsearch.spaces.space import Space
    from sepsearch.training.members import BankState

ROOT = Path(__file__).resolve().parents[3]
SPACE = ROOT / "search_spaces" / "laptop.yaml"
CODES = ("vn", "vc")
DATA = "data.pt"
TRACE, SEED = "PEERS_TRACE", "PEERS_SEED"  # in the environment: folder of a side's trace, and the repeat's seed


def space() -> "Space":
    """The search space."""
    from sepsearch.spaces.space import load_space

    return load_space(SPACE)


def write_data(path: Path, seed: int) -> None:
    """What sepsearch trains on with this seed, in a file that the peers load: they read no recordings."""
    import torch

    from sepsearch.data.dataset import Rows
    from sepsearch.data.demo.rendering import demo_folder
    from sepsearch.data.preparation import prepare
    from sepsearch.data.prepared import gather_data

    used = space()
    recordings, shards = prepare(demo_folder(), used.front_end.resolve(), lambda *step: None)
    prepared = gather_data(recordings, shards, CODES, seed, used.split.fractions, used.search.validation_examples)
    data = prepared.training_data()
    assert isinstance(data.rows, Rows)
    torch.save(data, path)


def load_data(folder: Path) -> "Dataset":
    """The data of `write_data`."""
    import torch

    data: Dataset = torch.load(folder / DATA, weights_only=False)
    return data


def train(
    values: dict[str, Any],
    data: "Dataset",
    trial: str,
    report: Callable[[int, float, Callable[[], "BankState"]], None],
    state: "BankState | None" = None,
) -> None:
    """Train a trial with `sepsearch.training.loop.fit`, one thread; every epoch is traced and then reported.

    Args:
        values: sampled parameters.
        data: of `load_data`.
        trial: its name in the trace.
        report: called with epoch, ratio and the state to go on from; what it raises ends the trial.
        state: where to go on.
    """
    import torch

    from sepsearch.models.families import make_config
    from sepsearch.training.loop import fit
    from sepsearch.training.members import Member

    torch.set_num_threads(1)
    used, seed = space(), int(os.environ[SEED])
    config = make_config(used.complete(values))
    batches = max(1, round(used.search.examples_per_epoch / config.training.batch_size))
    members = [Member(code, seed) for code in CODES]
    for result in fit(config, data, members, epochs=used.search.epochs, batches_per_epoch=batches, state=state):
        trace(trial, result.epoch, result.ratio, result.seconds)
        report(result.epoch, result.ratio, result.state)


def trace(trial: str, epoch: int, ratio: float, seconds: float) -> None:
    """Write a line for an epoch that has just ended."""
    end = time.time()
    _write({"trial": trial, "epoch": epoch, "ratio": ratio, "begin": end - seconds, "end": end})


def trace_end(trial: str) -> None:
    """Write a line for a trial that is stopped or complete."""
    _write({"trial": trial, "ended": time.time()})


def _write(facts: dict[str, Any]) -> None:
    with Path(os.environ[TRACE], f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(facts) + "\n")
