"""What a worker runs: a trial of the search, or a finalist's seed. Results go out through `ray.tune.report`."""

import contextlib
import dataclasses
import platform
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sepsearch.distributed.object_store import StoredData, resident_data
from sepsearch.distributed.worker_metrics import reported_memory
from sepsearch.models.families import Family, make_config, register_family
from sepsearch.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, save_weights
from sepsearch.training.loop import EpochResult, fit
from sepsearch.training.members import Member, TrainingFailed
from sepsearch.utils.errors import NodeUnfit, StorageFault, UserError
from sepsearch.utils.memory import trim_heap
from sepsearch.utils.storage import StorageFolder

MARK = "mark"
Fit = Callable[..., Iterator[EpochResult]]
Best = dict[Member, tuple[float, dict[str, Any]]]


@dataclass(frozen=True)
class Task:
    """What all jobs of a stage have in common.

    `examples_per_epoch` is per instrument. After every epoch a unit's checkpoint is at `checkpoints`, before the
    epoch is reported; None keeps none. A job that reaches its last epoch leaves every network as it was after its
    best epoch in `weights`/<job>/<instrument>.safetensors; None where they are not kept. Every node sees both places:
    where the file MARK of `checkpoints` does not hold `mark`, a node that came later has something else there.
    `search` is the run's name. `families` are those that were registered in the driver's process: workers have none.
    """

    data: StoredData
    instruments: tuple[str, ...]
    epochs: int
    examples_per_epoch: int
    threads: int
    gpu: bool
    checkpoints: StorageFolder | None = None
    weights: StorageFolder | None = None
    mark: str = ""
    fit: Fit = fit
    search: str = ""
    families: tuple[Family, ...] = ()

    def register_families(self) -> None:
        """Make the families known to this process; raises `UserError` where an installed one has the name."""
        for family in self.families:
            register_family(family)


def train_job(config: dict[str, Any], task: Task) -> None:
    """Train one bank over all instruments and report every epoch, going on from the unit's checkpoint if there is one.

    Args:
        config: "id", "params" (a configuration) and "seed"; "instruments" where they are not the task's.
        task: the stage's.

    A failure of training is reported ("failed": reason) instead of raised: the worker survives for the next trial,
    whose start it saves seconds. So is a fault of the storage ("storage": reason, "size": bytes).

    Raises:
        NodeUnfit: this node does not see the places of the task.
    """
    import ray
    import torch
    from ray import tune

    # The driver learns where the job runs, in case this worker dies.
    tune.report({"node": ray.get_runtime_context().get_node_id()})
    torch.set_num_threads(task.threads)
    try:
        task.register_families()
        _require_mark(task)
        # Closed here and not when it is collected: a stop raises SystemExit in `tune.report`, and the next job begins.
        with reported_memory(task.search, task.gpu), contextlib.closing(_epochs(config, task)) as reports:
            for report in reports:
                tune.report(report)
    except StorageFault as fault:
        # A report, so that the worker lives on: the driver finds out whether it is this node's trouble or everybody's.
        tune.report({"storage": f"node {platform.node()}: {fault}", "size": fault.size})
    except UserError as error:  # the network, or a mount
        raise NodeUnfit(f"node {platform.node()}: {error}") from error
    except TrainingFailed as failure:
        tune.report({"failed": str(failure)})
    except Exception as error:
        # Anything a configuration can bring about, out of memory on the GPU included.
        tune.report(
            {"failed": f"exception: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        )
    finally:
        # What the networks have freed stays with this process otherwise (TRIM_THRESHOLD in session.ENVIRONMENT), in
        # pieces that the next configuration does not fit in. In a thread: the driver is choosing the next job.
        threading.Thread(target=trim_heap, name="trim heap", daemon=True).start()


def _require_mark(task: Task) -> None:
    """Raise `UserError` unless this node sees what the driver sees."""
    if task.mark and task.checkpoints and task.checkpoints.read(MARK) != task.mark.encode():
        raise UserError(f"{task.checkpoints}: not seen here as the driver sees it: is the storage mounted?")


def _epochs(config: dict[str, Any], task: Task) -> Generator[dict[str, Any], None, None]:
    """The reports of a unit's epochs; each is given out when all that it stands for is on the disk."""
    data = resident_data(task.data, "cuda" if task.gpu else "cpu")
    instruments = config.get("instruments", task.instruments)
    members = [Member(code, config["seed"]) for code in instruments]
    configuration = make_config(config["params"])
    name, job = checkpoint_identity(config, task)
    batches = job["batches"]
    before = load_checkpoint(task.checkpoints, name, job) if task.checkpoints else None
    best: Best = {}
    if before:
        best = {member: (loss, dict(weights)) for member, (loss, weights) in before.best.items()}
        # The report may not have reached the search; if it has, the repeated one is ignored.
        yield _finish(before.report, before.state.epoch, best, task, config["id"])
    options = {"state": before.state} if before else {}
    for result in task.fit(configuration, data, members, epochs=task.epochs, batches_per_epoch=batches, **options):
        if task.weights:
            _keep_best(best, result)
        report = epoch_report(result)
        if task.checkpoints:
            save_checkpoint(task.checkpoints, name, job, Checkpoint(result.state(), report, best))
        yield _finish(report, result.epoch, best, task, config["id"])


def checkpoint_identity(config: Mapping[str, Any], task: Task) -> tuple[str, dict[str, Any]]:
    """Name of a job's checkpoint among the task's, and what was trained there, as `load_checkpoint` asks for it."""
    # An epoch is as many examples for every configuration, whatever its batch size: rungs compare equal effort.
    batches = max(1, round(task.examples_per_epoch / make_config(config["params"]).training.batch_size))
    identity = {key: config[key] for key in ("id", "params", "seed")}
    instruments = config.get("instruments", task.instruments)
    return f"{config['id']}.checkpoint", {
        **identity,
        "instruments": instruments,
        "batches": batches,
        "data": task.data.key,
    }


def _finish(report: Any, epoch: int, best: Best, task: Task, job: str) -> dict[str, Any]:
    """The report; after the last epoch the weights are on the disk first, and it names their checksums."""
    if task.weights and epoch >= task.epochs:
        by_instrument = {member.instrument: weights for member, (_, weights) in best.items()}
        checksums = save_weights(task.weights, job, by_instrument)
        return {**report, "weights": list(checksums.items())}  # Ray Tune would take a mapping apart
    return dict(report)


def epoch_report(result: EpochResult) -> dict[str, Any]:
    """An epoch's numbers as plain values, as the journal keeps them."""
    members = []
    for member in result.members:
        numbers = {
            f.name: getattr(member, f.name) for f in dataclasses.fields(member) if f.name not in ("member", "weights")
        }
        of = {"instrument": member.member.instrument, "seed": member.member.seed, "ratio": member.ratio}
        members.append({**of, **numbers})
    return {
        "epoch": result.epoch,
        "ratio": result.ratio,
        "seconds": result.seconds,
        "examples_per_second": result.examples_per_second,
        "members": members,
    }


def _keep_best(best: Best, result: EpochResult) -> None:
    for member in result.members:
        if member.member not in best or member.val_loss < best[member.member][0]:
            best[member.member] = (member.val_loss, {key: value.cpu() for key, value in member.weights().items()})
