"""Training and listening that keep their results, so that the thousandth search of an exploration takes half a second.

Both follow from what they are given. An epoch is kept under the configuration, the members and the bank's state before
it; scores under the weights and the clips. A search that goes on from another state than it should is trained for real,
and gets other numbers.
"""

import copy
import hashlib
import json
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sepsearch.training.loop import EpochResult, fit
from sepsearch.training.members import BankState, Member

FOLDER, COUNTED = "CRASH_POINTS_RESULTS", "CRASH_POINTS_EPOCHS"  # environment: where results are kept, epochs counted
_known: dict[str, Any] = {}


def load_results() -> None:
    """Read what is kept into this process; processes forked from it have it, too."""
    for path in Path(os.environ[FOLDER]).iterdir():
        if not path.name.startswith("."):
            _known[path.name] = pickle.loads(path.read_bytes())


def remembered_fit(
    config: Any,
    data: Any,
    members: Sequence[Member],
    *,
    epochs: int,
    batches_per_epoch: int,
    state: BankState | None = None,
) -> Iterator[EpochResult]:
    """As `training.fit`; every epoch adds a byte to the file $CRASH_POINTS_EPOCHS."""
    from sepsearch.models.families import config_params

    epoch = state.epoch if state else 0
    while epoch < epochs:
        epoch += 1
        what = [config_params(config), [[m.instrument, m.seed] for m in members], batches_per_epoch, epoch]
        tensors = {}
        for network, before in (state.networks if state else {}).items():
            what.append([network, before.values])
            tensors |= {f"{network}/{name}": tensor for name, tensor in before.tensors.items()}

        def train(epoch: int = epoch, state: BankState | None = state) -> Any:
            epochs = fit(config, data, members, epochs=epoch, batches_per_epoch=batches_per_epoch, state=state)
            result = next(iter(epochs))
            return result.epoch, result.members, result.seconds, result.examples_per_second, result.state()

        *numbers, after = _remembered(_key(what, tensors), train)
        state = after
        with open(os.environ[COUNTED], "ab", buffering=0) as file:
            file.write(b".")
        yield EpochResult(*numbers, lambda after=after: after)


def remembering_listener(listen: Callable[..., Any]) -> Callable[..., Any]:
    """`scoring.TestTitles.listen` that keeps its results."""

    def remembered_listen(titles: Any, candidates: Sequence[Any], advance: Any = None) -> Any:
        what, tensors = [], {}
        for number, candidate in enumerate(candidates):
            what.append([number, [values.tolist() for values in vars(candidate.pairs).values()]])
            tensors |= {f"{number}/{name}": tensor for name, tensor in candidate.network.state_dict().items()}
        return _remembered(_key(what, tensors), lambda: listen(titles, candidates))

    return remembered_listen


def _key(what: Any, tensors: Mapping[str, Any]) -> str:
    found = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _remembered(key: str, make: Callable[[], Any]) -> Any:
    """A result out of memory; otherwise made, and kept in a file for processes to come."""
    if key not in _known:
        content = pickle.dumps(make())
        path = Path(os.environ[FOLDER], key)
        temporary = path.with_name(f".{key}.{os.getpid()}")
        temporary.write_bytes(content)
        os.replace(temporary, path)
        _known[key] = pickle.loads(content)
    return copy.deepcopy(_known[key])  # training goes on to change its tensors
