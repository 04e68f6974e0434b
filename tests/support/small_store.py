"""Two workers train on shards three times as large as the object store; prints what became of it as JSON.

Run by cluster/test_small_object_store.py.
"""

import json
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
from synthetic import synthetic_index, synthetic_rows

from sepsearch.audio.spectrogram import ROW_BYTES
from sepsearch.data.baselines import all_baselines
from sepsearch.data.dataset import Dataset, Rows, sample_pairs
from sepsearch.data.shards import ShardSet, spectrograms
from sepsearch.data.split_examples import split_pairs
from sepsearch.data.splits import split_titles
from sepsearch.distributed import object_store
from sepsearch.distributed.object_store import store_shards
from sepsearch.distributed.session import ENVIRONMENT
from sepsearch.models.families import make_config
from sepsearch.search.protocol import Workers
from sepsearch.training.loop import fit
from sepsearch.training.members import Member

STORE = 80 * 10**6  # Ray takes no less than 75 MB
PIECES, CLIPS = 15, 70
EPOCHS, BATCHES = 2, 8


def write_shards(folder, rows, pieces):
    """A shard file per piece, and as much of a manifest as the object store needs."""
    facts = []
    for number, part in enumerate(np.array_split(rows, pieces)):
        table = pa.table({"spectrogram": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(part))})
        path = folder / f"shard-{number:04d}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        facts.append({"shard": {"file": path.name, "rows": len(part)}})
    return ShardSet(folder, {"pieces": facts})


def train(data, seed):
    """Every number of a short training."""
    config = make_config({"filters": 2, "head": "mask", "batch_size": 16})
    members = [Member("vn", seed), Member("vc", seed)]
    numbers = []
    for result in fit(config, data, members, epochs=EPOCHS, batches_per_epoch=BATCHES):
        numbers += [[m.train_loss, m.val_loss, m.gradient_norm, m.zero_share] for m in result.members]
    return numbers


def work(stored, seed):
    """What a worker does: the numbers, and the kind of rows it has."""
    import torch

    from sepsearch.distributed.object_store import resident_data

    torch.set_num_threads(1)
    data = resident_data(stored, "cpu")
    return train(data, seed), type(data.rows).__name__


class Watch(threading.Thread):
    """Looks at the object store ten times a second until it is told to end."""

    def __init__(self):
        import ray
        from ray._private.internal_api import get_memory_info_reply, get_state_from_address

        super().__init__(daemon=True)
        state = get_state_from_address(ray.get_runtime_context().gcs_address)
        self._look = lambda: get_memory_info_reply(state).store_stats
        self._end = threading.Event()
        self.used = self.beside = self.restored = self.spilled = 0

    def run(self):
        while not self._end.wait(0.1):
            stats = self._look()
            self.used = max(self.used, stats.object_store_bytes_used)
            self.beside = max(self.beside, stats.object_store_bytes_fallback)
            self.restored, self.spilled = stats.restored_bytes_total, stats.spilled_bytes_total

    def end(self):
        self._end.set()
        self.join()


def main(folder: Path) -> None:
    """Store, train in two workers at once, train here with all rows at hand."""
    os.environ.update(ENVIRONMENT, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")  # on loopback alone
    import ray
    import torch

    torch.set_num_threads(1)
    index = synthetic_index({f"p{n:02d}": ("vn", "vc", "fl") for n in range(PIECES)}, clips=CLIPS)
    shards = write_shards(folder, synthetic_rows(index), PIECES)
    rows = Rows([spectrograms(table) for table in shards.tables()])
    examples, _ = split_pairs(index, split_titles(index.title_facts(), seed=0), ["vn", "vc"])
    examples = {
        code: {**sides, "validation": sample_pairs(sides["validation"], 64, 0)} for code, sides in examples.items()
    }
    few = {code: {"validation": sides["validation"], "train": sides["validation"]} for code, sides in examples.items()}
    identity = all_baselines(rows, few)["validation"]["identity"]
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=STORE, log_to_driver=False)
    watch = Watch()
    watch.start()
    told = []
    data = Dataset(rows, examples, identity)
    stored = store_shards("small", shards, data, Workers(2, 1.0, 0.0), lambda *step: told.append(step))
    run = ray.remote(num_cpus=1)(work)
    answers = ray.get([run.remote(stored, seed) for seed in (0, 1)])
    watch.end()
    on_disk = sum(path.stat().st_size for path in object_store.spill_folder().glob("ray_spilled_objects*/*"))
    ray.shutdown()
    print(
        json.dumps(
            {
                "data": len(rows) * ROW_BYTES,
                "store": STORE,
                "parts": len(stored.shards),
                "notes": stored.notes,
                "on_disk": on_disk,
                "told": [told[0], told[-1]],
                "kinds": [kind for _, kind in answers],
                "windowed": [numbers for numbers, _ in answers],
                "resident": [train(data, seed) for seed in (0, 1)],
                **{name: getattr(watch, name) for name in ("used", "beside", "restored", "spilled")},
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
