"""The throughput of `sepsearch.training.loop.fit` beside a bare PyTorch loop. Needs torch and numpy alone."""

from collections.abc import Iterator
from statistics import median

import numpy as np
import torch
from bench_table import Figure, Part, Settings, clock
from torch import Tensor, nn

from sepsearch.data.dataset import Dataset, Pairs, Rows
from sepsearch.models.families import Config, make_config, make_network
from sepsearch.training.loop import fit
from sepsearch.training.members import Member

ROUNDS = 7
SHARDS = 31
SHARD_ROWS = 32
EPOCH_EXAMPLES = 256  # of every member
VALIDATION_EXAMPLES = 64
EVALUATION_BATCH = 64
AIM = 0.95
HOW = f"""\
Training examples per second of whole epochs, validation included: the reference network with the mask head
(random rows can kill a ReLU head, and `fit` gives up on dead networks), Adam,
{EPOCH_EXAMPLES} examples an epoch (or one batch, where that is more) and {VALIDATION_EXAMPLES} validation examples for
each of the bank's members. One CPU thread and its CPU seconds, which other processes disturb less than wall time; on a
GPU wall time.

- *sepsearch*: `sepsearch.training.loop.fit` over {SHARDS} shards, as a worker calls it: draws by piece, gradient norms,
  a validation in which every piece counts alike, share of zeros, discontinuities.
- *Beside it*: the loop without any of this, member after member, on the same rows in one float16 tensor: draw numbers,
  index, forward, mean squared error, backward, Adam; the mean loss is read once an epoch; validation is the mean
  squared error.

Epochs of the two alternate, {ROUNDS} rounds after one outside the clock. Aim: at least {AIM:g} of its throughput.
"""


def measure(settings: Settings) -> Part:
    """All batch sizes and numbers of members that were asked for."""
    torch.set_num_threads(1)
    shards, data = make_data(settings.device)
    rows = torch.from_numpy(np.concatenate(shards)).to(settings.device)
    figures, notes = [], []
    for batch in settings.batches:
        for members in settings.members:
            figure, losses = compare(data, rows, batch, members, settings)
            figures.append(figure)
            notes.append(f"batch {batch}, {members} members: training loss of the last epoch {losses}")
    return Part("fit", HOW, figures, notes)


def compare(data: Dataset, rows: Tensor, batch: int, members: int, settings: Settings) -> tuple[Figure, str]:
    """One figure, and both losses at the end."""
    config = make_config({"head": "mask", "batch_size": batch})
    batches = max(1, EPOCH_EXAMPLES // batch)
    bank = [Member("vn", seed) for seed in range(members)]
    ours = (
        (result.members[0].train_loss, result.members[0].val_loss)
        for result in fit(config, data, bank, epochs=10**6, batches_per_epoch=batches)
    )
    bare = bare_loop(config, rows, data.examples["vn"], members, batches)
    examples = members * batches * batch
    speeds: tuple[list[float], list[float]] = ([], [])
    losses = [next(ours)[0], next(bare)[0]]  # outside the clock
    for turn in range(settings.repeats or ROUNDS):
        # Who goes first changes from round to round.
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            begin = clock(settings.device)
            losses[which] = next((ours, bare)[which])[0]
            speeds[which].append(examples / (clock(settings.device) - begin))
    name = f"fit on {settings.device}, batch {batch}, {members} members"
    figure = Figure(name, "examples/s", *speeds, "bare loop", True, least_ratio=AIM, digits=0)
    return figure, f"{losses[0]:.4f} beside {losses[1]:.4f}; medians {' and '.join(f'{median(s):.0f}' for s in speeds)}"


def make_data(device: str) -> tuple[list[np.ndarray], Dataset]:
    """Random shards and examples between their rows; the target is half the mixture, so that there is a lesson."""
    rng = np.random.default_rng(0)
    shards = []
    for _ in range(SHARDS):
        rows = rng.random((SHARD_ROWS, 128, 128), dtype=np.float32)
        rows[1::2] = rows[::2] / 2
        shards.append(rows.astype(np.float16))
    mixture = np.arange(0, SHARDS * SHARD_ROWS, 2)
    pairs = Pairs(mixture, mixture + 1, mixture // SHARD_ROWS)
    order = rng.permutation(len(pairs))
    examples = {"train": pairs.pick(order[VALIDATION_EXAMPLES:]), "validation": pairs.pick(order[:VALIDATION_EXAMPLES])}
    return shards, Dataset(Rows(shards, device), {"vn": examples}, {"vn": 1.0})


def bare_loop(
    config: Config, rows: Tensor, examples: dict[str, Pairs], members: int, batches: int
) -> Iterator[tuple[float, float]]:
    """Train `members` networks, one after the other in every epoch; yields the first one's losses."""
    device = rows.device
    train, validation = (
        [torch.from_numpy(n).to(device) for n in (pairs.mixture, pairs.target)]
        for pairs in (examples["train"], examples["validation"])
    )
    networks = [make_network(config).to(device) for _ in range(members)]
    optimizers = [torch.optim.Adam(network.parameters(), lr=config.training.learning_rate) for network in networks]
    while True:
        results = []
        for network, optimizer in zip(networks, optimizers, strict=True):
            total = torch.zeros((), device=device)
            for _ in range(batches):
                pick = torch.randint(len(train[0]), (config.training.batch_size,), device=device)
                optimizer.zero_grad()
                # Without names, so that a batch is freed before the next one is made: the loop is faster for it.
                loss = nn.functional.mse_loss(network(take(rows, train[0][pick])), take(rows, train[1][pick]))
                loss.backward()
                optimizer.step()
                total += loss.detach()
            results.append((float(total) / batches, bare_validation(network, rows, validation)))
        yield results[0]


def take(rows: Tensor, numbers: Tensor) -> Tensor:
    """Float32 (row, 1, frame, bin)."""
    return rows[numbers].unsqueeze(1).float()


@torch.inference_mode()
def bare_validation(network: nn.Module, rows: Tensor, numbers: list[Tensor]) -> float:
    """Mean squared error over all validation examples."""
    total = torch.zeros((), device=rows.device)
    for begin in range(0, len(numbers[0]), EVALUATION_BATCH):
        mixture, target = (side[begin : begin + EVALUATION_BATCH] for side in numbers)
        total += nn.functional.mse_loss(network(take(rows, mixture)), take(rows, target)) * len(mixture)
    return float(total) / len(numbers[0])
