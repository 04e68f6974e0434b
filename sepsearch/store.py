"""Shards in the Ray object store, and the data set a worker keeps from trial to trial."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sepsearch.examples import Dataset, Pairs, Rows
from sepsearch.shards import ShardSet, spectrograms

if TYPE_CHECKING:
    import ray


@dataclass(frozen=True)
class StoredData:
    """A data set as references into the object store: small, and sent to every worker.

    `key` names its content; workers keep the last data set they opened under it.
    """

    key: str
    shards: "tuple[ray.ObjectRef, ...]"
    examples: Mapping[str, Mapping[str, Pairs]]
    identity: Mapping[str, float]


def put_shards(shards: ShardSet) -> "tuple[ray.ObjectRef, ...]":
    """One object per shard. Arrow tables come out of the store as views: workers of a node share one copy."""
    import ray

    return tuple(ray.put(table.combine_chunks()) for table in shards.tables())


_resident: dict[tuple[str, str], Dataset] = {}


def resident_data(stored: StoredData, device: str) -> Dataset:
    """The data set in this worker: views of the object store on a CPU, a copy made once per worker on a GPU."""
    import ray

    key = (stored.key, device)
    if key not in _resident:
        _resident.clear()
        tables: list[Any] = ray.get(list(stored.shards))
        rows = Rows([spectrograms(table) for table in tables], device)
        _resident[key] = Dataset(rows, stored.examples, stored.identity)
    return _resident[key]
