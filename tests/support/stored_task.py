"""A training task over synthetic rows in Ray's object store."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import ray
from synthetic import synthetic_data, synthetic_index, synthetic_rows

if TYPE_CHECKING:
    from sepsearch.distributed.trainable import Task


def stored_task(name: str) -> "Task":
    """A task of two instruments and two epochs; Ray must run. `name` is that of the stored data."""
    from sepsearch.distributed.object_store import StoredData
    from sepsearch.distributed.trainable import Task

    pieces = {"a": ("vn", "vc"), "b": ("vn", "vc"), "c": ("vn", "vn", "vc"), "d": ("vc", "vn")}
    rows = synthetic_rows(synthetic_index(pieces))
    table = pa.table({"spectrogram": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(rows))})
    data = synthetic_data()
    stored = StoredData(name, (ray.put(table.combine_chunks()),), data.examples, data.identity)
    return Task(data=stored, instruments=("vn", "vc"), epochs=2, examples_per_epoch=32, threads=1, gpu=False)
