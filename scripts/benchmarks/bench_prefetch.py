"""What it costs to train on shards that are larger than the object store, beside shards that stay in view."""

import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from bench_table import Figure, Part, Settings

REPEATS = 3
STORE = 80 * 10**6  # Ray takes no less than 75 MB
SHARDS, SHARD_ROWS = 15, 500
SMALL = 1000  # rows of the data set that stays in view: any number of them costs the same
BATCH, BATCHES, VALIDATION = 32, 64, 512
FRAMES = BINS = 128
HOW = f"""\
In one worker of a Ray whose object store has {STORE / 1e6:.0f} MB: examples per second of wall time of `fit` (the
report's network with a mask, one member, {BATCHES} batches of {BATCH} an epoch, {VALIDATION} validation examples, which
count as time), and of the rows of as many training batches alone, without a network. Both by turns; of two epochs in a
row the second one counts, as the first one finds its rows read while the other worker had its turn.

- *sepsearch*: `sepsearch.distributed.object_store.store_shards` of {SHARDS} shards of {SHARD_ROWS} random rows,
  {SHARDS * SHARD_ROWS * 2**15 / 1e6:.0f} MB; Ray spills most of them to its disk, and workers stream them in windows.
- *Beside it*: {SMALL:,} rows, which stay in view.

Examples are drawn evenly from all rows of the set, each with the row beside it as its target, as the members of a clip
lie. What Ray spilled is in the page cache as far as that has room: a slow disk, and data sets larger than the machine's
memory, cost more.
"""


class Worker:
    """Trains on a data set, epoch by epoch."""

    def __init__(self, stored: Any, seed: int):
        import torch

        from sepsearch.distributed.object_store import resident_data
        from sepsearch.models.families import make_config
        from sepsearch.training.loop import fit
        from sepsearch.training.members import Member

        torch.set_num_threads(1)
        self.data = resident_data(stored, "cpu")
        self.brought = 0
        if hasattr(self.data.rows, "_fetch"):
            self._count(self.data.rows)
        config = make_config({"batch_size": BATCH, "head": "mask"})  # on noise the other head dies
        self._epochs = fit(config, self.data, [Member("vn", seed)], epochs=10**6, batches_per_epoch=BATCHES)

    def _count(self, rows: Any) -> None:
        fetch = rows._fetch

        def counted(numbers: Any) -> Any:
            views = fetch(numbers)
            self.brought += sum(view.nbytes for view in views)
            return views

        rows._fetch = counted

    def epoch(self) -> tuple[float, int]:
        """Examples per second of the second of two epochs, and the bytes of the parts brought meanwhile."""
        next(self._epochs)
        before, begin = self.brought, time.perf_counter()
        next(self._epochs)
        return BATCH * BATCHES / (time.perf_counter() - begin), self.brought - before

    def read(self) -> float:
        """Examples per second of the rows alone."""
        from sepsearch.data.dataset import Batches

        batches = Batches(self.data.examples["vn"]["train"], BATCH, 1)
        begin = time.perf_counter()
        for _ in self.data.rows.stream(batches.draw(BATCHES)):
            pass
        return BATCH * BATCHES / (time.perf_counter() - begin)

    def kind(self) -> str:
        """Of the rows."""
        return type(self.data.rows).__name__


def measure(settings: Settings) -> Part:
    """One worker for each data set, in turn."""
    from sepsearch.distributed.session import ENVIRONMENT

    os.environ.update(ENVIRONMENT, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")
    import ray

    repeats = settings.repeats or REPEATS
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=STORE, log_to_driver=False)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            large = _worker(Path(name, "large"), SHARDS, SHARD_ROWS, "WindowedRows")
            small = _worker(Path(name, "small"), 1, SMALL, "Rows")
            trained: list[list[float]] = [[], []]
            read: list[list[float]] = [[], []]
            brought = []
            for _ in range(repeats):
                for number, worker in enumerate((large, small)):
                    speed, size = ray.get(worker.epoch.remote())
                    trained[number].append(speed)
                    brought += [size] if size else []
                    ray.get(worker.read.remote())  # what the epochs have begun to read is read by now
                    read[number].append(ray.get(worker.read.remote()))
    finally:
        ray.shutdown()
    figures = [
        Figure("fit of streamed rows", "examples/s", *trained, "in view", True, digits=0),
        Figure("streamed rows alone", "examples/s", *read, "in view", True, digits=0),
    ]
    data = SHARDS * SHARD_ROWS * 2**15
    note = f"brought in an epoch: {median(brought) / 1e6:.0f} MB, data set {data / 1e6:.0f} MB"
    return Part("windows", HOW, figures, [note])


def _worker(folder: Path, shards: int, rows: int, kind: str) -> Any:
    import ray

    from sepsearch.data.dataset import Dataset, Pairs, Rows
    from sepsearch.distributed.object_store import store_shards
    from sepsearch.search.protocol import Workers

    rng = np.random.default_rng(0)
    count = shards * rows

    def pairs(size: int) -> Pairs:
        mixture = rng.permutation(count)[:size]
        return Pairs(mixture, np.minimum(mixture + 1, count - 1), mixture // rows)

    examples = {"vn": {"train": pairs(count), "validation": pairs(VALIDATION)}}
    data = Dataset(Rows([]), examples, {"vn": 1.0})
    stored = store_shards(str(folder), _write_shards(folder, shards, rows), data, Workers(2, 1.0, 0.0))
    worker = ray.remote(num_cpus=1)(Worker).remote(stored, 0)
    if (found := ray.get(worker.kind.remote())) != kind:
        raise RuntimeError(f"the worker has {found}, expected {kind}")
    return worker


def _write_shards(folder: Path, shards: int, rows: int) -> Any:
    """A shard set with the parts that the object store needs."""
    import pyarrow as pa

    from sepsearch.data.shards import ShardSet

    folder.mkdir()
    rng = np.random.default_rng(0)
    pieces = []
    for number in range(shards):
        values = rng.random((rows, FRAMES, BINS), dtype=np.float32).astype(np.float16)
        table = pa.table({"spectrogram": pa.FixedShapeTensorArray.from_numpy_ndarray(values)})
        path = folder / f"shard-{number:04d}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        pieces.append({"shard": {"file": path.name, "rows": rows}})
    return ShardSet(folder, {"pieces": pieces})
