"""What a worker runs: a trial of the search, or a finalist's seed. Results go out through `ray.tune.report`."""

import copy
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepsearch.network import make_config
from sepsearch.store import StoredData, resident_data
from sepsearch.training import EpochResult, Member, TrainingFailed, fit

Fit = Callable[..., Iterator[EpochResult]]


@dataclass(frozen=True)
class Task:
    """What all units of a stage have in common.

    `examples_per_epoch` is per instrument. `keep_weights` saves every network as it was after its best epoch, in the
    unit's last checkpoint: `<instrument>.safetensors` each.
    """

    data: StoredData
    instruments: tuple[str, ...]
    epochs: int
    examples_per_epoch: int
    threads: int
    gpu: bool
    keep_weights: bool = False
    fit: Fit = fit


def train_unit(config: dict[str, Any], task: Task) -> None:
    """Train one bank over all instruments and report every epoch.

    Args:
        config: "id", "params" (a configuration) and "seed".
        task: the stage's.

    A failure of training is reported ("failed": reason) instead of raised: the worker survives for the next trial,
    whose start it saves seconds.
    """
    import torch
    from ray import tune

    torch.set_num_threads(task.threads)
    best: dict[Member, tuple[float, dict[str, Any]]] = {}
    try:
        data = resident_data(task.data, "cuda" if task.gpu else "cpu")
        members = [Member(code, config["seed"]) for code in task.instruments]
        network = make_config(config["params"])
        # An epoch is as many examples for every configuration, whatever its batch size: rungs compare equal effort.
        batches = max(1, round(task.examples_per_epoch / network.batch_size))
        epochs = task.fit(network, data, members, epochs=task.epochs, batches_per_epoch=batches)
        for result in epochs:
            if task.keep_weights:
                _keep_best(best, result)
            last = task.keep_weights and result.epoch == task.epochs
            if last:
                with tempfile.TemporaryDirectory() as folder:
                    _save(best, Path(folder))
                    tune.report(epoch_report(result), checkpoint=tune.Checkpoint.from_directory(folder))
            else:
                tune.report(epoch_report(result))
    except TrainingFailed as failure:
        tune.report({"failed": str(failure)})
    except Exception as error:
        # Anything a configuration can bring about, out of memory on the GPU included.
        tune.report(
            {"failed": f"exception: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        )


def epoch_report(result: EpochResult) -> dict[str, Any]:
    """An epoch's numbers as plain values, as the journal keeps them."""
    members = []
    for member in result.members:
        numbers = {
            f.name: getattr(member, f.name) for f in dataclasses.fields(member) if f.name not in ("member", "network")
        }
        members.append(
            {"instrument": member.member.instrument, "seed": member.member.seed, "ratio": member.ratio, **numbers}
        )
    return {
        "epoch": result.epoch,
        "ratio": result.ratio,
        "seconds": result.seconds,
        "examples_per_second": result.examples_per_second,
        "members": members,
    }


def _keep_best(best: dict[Member, tuple[float, dict[str, Any]]], result: EpochResult) -> None:
    for member in result.members:
        if member.member not in best or member.val_loss < best[member.member][0]:
            weights = {key: value.cpu() for key, value in copy.deepcopy(member.network.state_dict()).items()}
            best[member.member] = (member.val_loss, weights)


def _save(best: dict[Member, tuple[float, dict[str, Any]]], folder: Path) -> None:
    from safetensors.torch import save_file

    for member, (_, weights) in best.items():
        save_file(weights, folder / f"{member.instrument}.safetensors")
