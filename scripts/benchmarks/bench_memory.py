"""What a data set costs a worker in memory of its own: Arrow shards beside torch tensors."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from bench_table import Figure, Part, Settings

REPEATS = 3
WORKERS = 2
SHARDS = 16
SHARD_ROWS = 1024
FRAMES = BINS = 128
BATCH = 32
AIM_PERCENT = 2.0
HOW = f"""\
Private memory (USS: pages that no other process maps) that a worker gains by opening a data set and reading every row
of it once, in batches of {BATCH}; the most that it holds at any time while reading, in percent of the data set.
{SHARDS} shards of {SHARD_ROWS:,} rows of 128 × 128 float16, random, {SHARDS * SHARD_ROWS * 2**15 / 1e6:.0f} MB.
{WORKERS} workers read at the same time, and every one counts; they have read a small data set in the same way before.

- *sepsearch*: Arrow files as `sepsearch.data.shards` writes,
  `sepsearch.distributed.object_store.put_shards`, `resident_data`, `Rows.take`.
- *Beside it*: the same rows as one torch tensor per shard, `ray.put`, `ray.get`, indexed for the same batches.

Both come to the same sum over all values. Aim: less than {AIM_PERCENT:g} % of the data set.
"""


def measure(settings: Settings) -> Part:
    """Fresh workers for every repeat and way."""
    from sepsearch.distributed.session import ray_session

    repeats = settings.repeats or REPEATS
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ray_session(cpus=WORKERS, dashboard=False):
        import ray

        size = SHARDS * SHARD_ROWS * FRAMES * BINS * 2
        store = ray.cluster_resources()["object_store_memory"]
        if store < 1.2 * size:
            raise RuntimeError(f"the object store has {store / 1e6:.0f} MB, expected {1.2 * size / 1e6:.0f}: free some")
        shards = write_shards(Path(name))
        arrow, arrow_sums = measure_arrow(shards, repeats)
        tensor, tensor_sums = measure_tensors(shards, repeats)
    if len(sums := set(arrow_sums + tensor_sums)) != 1:
        raise RuntimeError(f"the workers read different data: {sums}")
    percent = [[100 * gained / size for gained in values] for values in (arrow, tensor)]
    figure = Figure(
        "private memory a worker gains", "% of the data", *percent, "torch tensors", False, most_ours=AIM_PERCENT
    )
    most = f"{size / 1e6:.0f} MB of data: {median(arrow) / 1e6:.1f} MB private beside {median(tensor) / 1e6:.0f} MB"
    return Part("memory", HOW, [figure], [most])


def write_shards(folder: Path) -> Any:
    """A shard set with the parts that the object store needs: one Arrow file per shard and a short manifest."""
    import pyarrow as pa

    from sepsearch.data.shards import ShardSet

    rng = np.random.default_rng(0)
    pieces = []
    for number in range(SHARDS):
        rows = rng.random((SHARD_ROWS, FRAMES, BINS), dtype=np.float32).astype(np.float16)
        column = pa.FixedShapeTensorArray.from_numpy_ndarray(rows, dim_names=["frame", "bin"])
        table = pa.table({"subset": pa.array(range(SHARD_ROWS), pa.int64()), "spectrogram": column})
        path = folder / f"shard-{number:04d}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        pieces.append({"shard": {"file": path.name, "rows": SHARD_ROWS}})
    return ShardSet(folder, {"pieces": pieces})


def measure_arrow(shards: Any, repeats: int) -> tuple[list[float], list[float]]:
    """Bytes gained and sums, worker by worker, by way of `sepsearch.distributed.object_store`."""
    from sepsearch.distributed.object_store import StoredData, put_shards, resident_data

    references = put_shards(shards)
    sources = [StoredData("small", references[:1], {}, {}), StoredData("all", references, {}, {})]

    def read(stored: StoredData, seen: Callable[[], None]) -> float:
        import torch

        rows = resident_data(stored, "cpu").rows
        return read_batches((rows.take(torch.arange(i, i + BATCH)) for i in range(0, len(rows), BATCH)), seen)

    return in_workers(read, sources, repeats)


def measure_tensors(shards: Any, repeats: int) -> tuple[list[float], list[float]]:
    """Bytes gained and sums, worker by worker, with tensors in the object store."""
    import ray
    import torch

    from sepsearch.data.shards import spectrograms

    references = [ray.put(torch.from_numpy(spectrograms(table).copy())) for table in shards.tables()]

    def read(references: list[Any], seen: Callable[[], None]) -> float:
        tensors = ray.get(references)
        batches = (t[i : i + BATCH].unsqueeze(1).float() for t in tensors for i in range(0, len(t), BATCH))
        return read_batches(batches, seen)

    return in_workers(read, [references[:1], references], repeats)


def read_batches(batches: Iterable[Any], seen: Callable[[], None]) -> float:
    """The sum over all batches; `seen` is called now and then, and at the end."""
    import torch

    total = 0.0
    for number, batch in enumerate(batches):
        total += float(batch.sum(dtype=torch.float64))
        if number % 64 == 0:
            seen()
    seen()
    return total


class Reader:
    """A worker that reads a data set and watches its own memory."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)

    def private(self) -> int:
        """Bytes that belong to this process alone."""
        import psutil

        return int(psutil.Process().memory_full_info().uss)

    def measure(self, read: Callable[[Any, Callable[[], None]], float], sources: list[Any]) -> tuple[int, float]:
        """The most bytes gained while reading the second source, and its sum.

        The first is small: libraries, code pages and the allocator's reserves come with any data set.
        """
        read(sources[0], self.private)
        before, most = self.private(), 0

        def seen() -> None:
            nonlocal most
            most = max(most, self.private() - before)

        total = read(sources[1], seen)
        return most, total


def in_workers(
    read: Callable[[Any, Callable[[], None]], float], sources: list[Any], repeats: int
) -> tuple[list[float], list[float]]:
    """Have `WORKERS` fresh workers read the sources at the same time, `repeats` times."""
    import ray

    gained, sums = [], []
    for _ in range(repeats):
        workers = [ray.remote(Reader).options(num_cpus=1).remote() for _ in range(WORKERS)]
        # In a list, or Ray would get an object store's reference before the call.
        for most, total in ray.get([worker.measure.remote(read, sources) for worker in workers]):
            gained.append(float(most))
            sums.append(total)
        for worker in workers:
            ray.kill(worker)
    return gained, sums
