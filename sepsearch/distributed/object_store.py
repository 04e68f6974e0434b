"""Shards in the Ray object store, and the data set a worker keeps from trial to trial."""

import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from sepsearch.audio.spectrogram import BINS, FRAMES, ROW_BYTES
from sepsearch.data.dataset import Dataset, Pairs, Rows
from sepsearch.data.prefetch import BLOCK_BYTES, BLOCKS, WindowedRows
from sepsearch.data.shards import Progress, ShardSet, spectrograms
from sepsearch.distributed.ray_internals import spill_folder
from sepsearch.utils.errors import UserError, one_line
from sepsearch.utils.formatting import size
from sepsearch.utils.progress import Steps

if TYPE_CHECKING:
    import ray

    from sepsearch.search.protocol import Workers

STAYING = 0.6  # share of a node's object store that shards may fill and stay in view; the rest is Ray's and Tune's
VIEWED = 0.3  # share of it that all windows on a node hold together; what is brought needs as much, in one piece
MOST_WINDOW = 256 * 10**6  # bytes; more would be waited for longer before it is of use
PART_ROWS = 64  # 2 MB: below it Ray's time per object counts, above it rows are read that are not needed
GPU_SHARE = 0.5  # of a trial's part of a GPU, which shards may fill; the rest is for the networks
KEPT_FREE = 0.05  # share of a disk that Ray does not fill (its local_fs_capacity_threshold)
ELSEWHERE = "choose another folder (RAY_object_spilling_directory, ray start --object-spilling-directory)"


@dataclass(frozen=True)
class StoredData:
    """A data set as references into the object store: small, and sent to every worker.

    `key` names its content; workers keep the last data set they opened under it. `rows` of every object and what a
    trial gets (`workers`) are what a worker decides by whether it has all rows in view, or on its GPU; without them it
    has. `notes` say what the driver expects of that, if there is anything to say. `shared` and `following` are those of
    `Dataset`.
    """

    key: str
    shards: "tuple[ray.ObjectRef, ...]"
    examples: Mapping[str, Mapping[str, Pairs]]
    identity: Mapping[str, float]
    rows: tuple[int, ...] = ()
    workers: "Workers | None" = None
    notes: tuple[str, ...] = ()
    shared: Mapping[str, Mapping[str, Pairs]] = field(default_factory=dict)
    following: NDArray[np.int64] | None = None

    @property
    def bytes(self) -> int:
        """Bytes of all rows."""
        return sum(self.rows) * ROW_BYTES

    def gpu_room(self, total: float, free: float = math.inf) -> float:
        """Bytes that shards may fill of a GPU with so many bytes."""
        return GPU_SHARE * min(free, total * (min(1.0, self.workers.gpus) if self.workers else 1.0))

    def gpu_notes(self, total: int) -> list[str]:
        """What there is to say if a trial's GPU has so many bytes; 0 without one."""
        if not total or self.bytes <= (room := self.gpu_room(total)):
            return []
        parts = f"streamed in blocks of {size(_block(room))}"
        return [f"the shards ({size(self.bytes)}) are larger than what may fill a trial's GPU ({size(room)}): {parts}"]


@dataclass(frozen=True)
class Store:
    """The object store of a node, in bytes, and how many trials run on the node at once."""

    node: str
    size: int
    trials: int

    def window(self, data: int) -> int | None:
        """Bytes of so much data that a trial may view at once; None where all of it may stay in view."""
        if data <= STAYING * self.size:
            return None
        return min(int(VIEWED * self.size / self.trials), MOST_WINDOW)


def store_shards(
    key: str, shards: ShardSet, data: Dataset, workers: "Workers", progress: Progress = lambda stage, done, total: None
) -> StoredData:
    """Put shards into the object store: whole where every node has room for all of them, otherwise in small parts.

    What does not fit is spilled to the disk by Ray; that is long work, reported to `progress` (stage, steps done,
    steps in all).

    Args:
        key: names the content.
        shards: what is put there.
        data: what is trained on; its rows are those of the shards, and are not looked at.
        workers: resources of a trial.
        progress: see above.

    Raises:
        UserError: an object store is too small even for parts, or the disk is too full.
    """
    import ray

    total = shards.rows * ROW_BYTES
    of: dict[str, Any] = {
        "examples": data.examples,
        "identity": data.identity,
        "shared": data.shared,
        "following": data.following,
    }
    windows = [
        (window, store) for store in node_stores(workers, ray.nodes()) if (window := store.window(total)) is not None
    ]
    if not windows:
        counts = tuple(int(piece["shard"]["rows"]) for piece in shards.manifest["pieces"])
        return StoredData(key, put_shards(shards), rows=counts, workers=workers, **of)
    window, store = min(windows, key=lambda found: found[0])
    rows = min(PART_ROWS, window // ROW_BYTES)
    if rows < 1:
        raise UserError(
            f"node {store.node}: {store.trials} trials at once view {window / 1e6:.2g} MB of its object store each,"
            f" expected at least {ROW_BYTES / 1e6:.2g} MB (found a store of {size(store.size)}):"
            " lower --workers, or give Ray more (ray start --object-store-memory)"
        )
    _require_disk(total)
    references, counts = _put_parts(map(spectrograms, shards.tables()), rows, progress)
    note = (
        f"the shards ({size(total)}) are larger than what may stay of them in the object store of node {store.node}"
        f" ({size(STAYING * store.size)}): streamed in windows of {size(window)}"
    )
    return StoredData(key, references, rows=counts, workers=workers, notes=(note,), **of)


def put_shards(shards: ShardSet) -> "tuple[ray.ObjectRef, ...]":
    """One object per shard. Arrow tables come out of the store as views: workers of a node share one copy."""
    return tuple(_put(table.combine_chunks()) for table in shards.tables())


def _put_parts(
    shards: Iterable[NDArray[np.float16]], rows: int, progress: Progress
) -> "tuple[tuple[ray.ObjectRef, ...], tuple[int, ...]]":
    """The spectrograms in objects of at most so many rows, and the rows of each."""
    parts = [(view, begin) for view in shards for begin in range(0, len(view), rows)]
    advance = Steps(partial(progress, "storing the shards"), len(parts))
    references = []
    for view, begin in parts:
        references.append(_put(view[begin : begin + rows]))
        advance()
    return tuple(references), tuple(min(rows, len(view) - begin) for view, begin in parts)


def _put(value: Any) -> "ray.ObjectRef":
    import ray

    try:
        return ray.put(value)
    except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError) as error:
        raise UserError(
            "Ray's object store: no room for another part of the shards, expected that Ray spills to its disk"
            f" (found: {one_line(error)}): free some space there, or {ELSEWHERE}"
        ) from error


def node_stores(workers: "Workers", nodes: Iterable[Mapping[str, Any]]) -> list[Store]:
    """The object stores of those of Ray's nodes (`ray.nodes()`) that trials run on."""
    stores = []
    for node in nodes:
        has = node["Resources"]
        if node["Alive"] and (trials := workers.fit(has)):
            stores.append(Store(node["NodeManagerHostname"], int(has["object_store_memory"]), trials))
    return stores


def _require_disk(data: int) -> None:
    """Raise `UserError` unless the disk that this node's object store spills to has room for so many bytes."""
    folder = spill_folder()
    if folder is None:
        return
    disk = shutil.disk_usage(folder)
    if (found := disk.free - KEPT_FREE * disk.total) < data:
        raise UserError(
            f"{folder}: the shards are larger than Ray's object store and need {size(data)} on this disk, found"
            f" {size(max(0, found))} that Ray may fill: free some space, or {ELSEWHERE}"
        )


_resident: dict[tuple[str, str], Dataset] = {}


def resident_data(stored: StoredData, device: str) -> Dataset:
    """The data set in this worker, opened once.

    On a CPU it is views of the object store, on a GPU a copy; where either has too little room, rows are streamed.
    """
    key = (stored.key, device)
    if key not in _resident:
        _resident.clear()
        _resident[key] = Dataset(
            _open(stored, device), stored.examples, stored.identity, stored.shared, stored.following
        )
    return _resident[key]


def _open(stored: StoredData, device: str) -> Rows:
    window = _own_window(stored)
    room = math.inf
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        room = stored.gpu_room(total, free)
    fits = stored.bytes <= room
    if window is None and fits:
        return Rows(_views(stored.shards), device)
    block = _block(room)
    if window is None:
        views = _views(stored.shards)  # they stay: only the GPU has no room for them
        return WindowedRows(lambda numbers: [views[n] for n in numbers], stored.rows, None, block, device)
    rows = WindowedRows(lambda numbers: _views([stored.shards[n] for n in numbers]), stored.rows, window, block, device)
    if device == "cuda" and fits:
        everything = torch.empty(len(rows), FRAMES, BINS, dtype=torch.float16, device=device)
        rows.bring(everything)
        return Rows([everything], device)
    return rows


def _views(references: "Sequence[ray.ObjectRef]") -> list[NDArray[np.float16]]:
    """Views of stored shards or parts of them, float16 (row, frame, bin)."""
    import ray

    objects: list[Any] = ray.get(list(references))
    return [part if isinstance(part, np.ndarray) else spectrograms(part) for part in objects]


def _own_window(stored: StoredData) -> int | None:
    """The window of this worker's node, which may have come later than the driver looked; None for no windows."""
    if stored.workers is None or not stored.rows:
        return None
    import ray

    here = ray.get_runtime_context().get_node_id()
    found = [
        store.window(stored.bytes)
        for store in node_stores(stored.workers, (node for node in ray.nodes() if node["NodeID"] == here))
    ]
    return found[0] if found else None


def _block(room: float) -> int:
    """Bytes of the blocks that are streamed to a device with so much room."""
    return int(min(BLOCK_BYTES, room / BLOCKS))
