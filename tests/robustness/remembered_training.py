"""`training.fit` that keeps every epoch it has trained, so that the thousandth search of an exploration takes no longer
than reading them.

An epoch follows from the configuration, the members, and the bank's state before it. That is what it is kept under: a
search that goes on from another state than it should is trained for real, and gets other numbers.
"""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sepsearch.training import BankState, EpochResult, Member, fit

FOLDER, COUNTED = "CRASH_POINTS_EPOCHS", "CRASH_POINTS_COUNT"  # environment: where epochs are kept, and counted


def remembered_fit(
    config: Any, data: Any, members: Sequence[Member], *, epochs: int, batches_per_epoch: int,
    state: BankState | None = None,
) -> Iterator[EpochResult]:  # fmt: skip
    """As `training.fit`; every epoch adds a byte to the file $CRASH_POINTS_COUNT."""
    import torch

    from sepsearch.network import config_params

    # Low-level calls throughout: nothing here is an operation of the search's own, and the folder is not watched.
    folder = Path(os.environ[FOLDER])
    epoch = state.epoch if state else 0
    while epoch < epochs:
        epoch += 1
        what = [config_params(config), [[m.instrument, m.seed] for m in members], batches_per_epoch, epoch]
        path = folder / _key(json.dumps(what, sort_keys=True), state)
        if not path.exists():
            result = next(iter(fit(config, data, members, epochs=epoch, batches_per_epoch=batches_per_epoch, state=state)))
            content = io.BytesIO()
            after = result.state()
            torch.save([epoch, result.members, result.seconds, result.examples_per_second, after], content)
            _write(path, content.getvalue())
        number, results, seconds, speed, after = torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
        state = after
        with open(os.environ[COUNTED], "ab", buffering=0) as file:
            file.write(b".")
        yield EpochResult(number, results, seconds, speed, lambda after=after: after)


def _key(what: str, state: BankState | None) -> str:
    found = hashlib.sha256(what.encode())
    for member, values in (state.members if state else {}).items():
        found.update(json.dumps([member.instrument, member.seed, values.values], sort_keys=True).encode())
        for name, tensor in sorted(values.tensors.items()):
            found.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def _write(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.replace(name, path)
