"""What decides whether shards stay in a node's object store and on a GPU, or are streamed."""

from types import SimpleNamespace

import pytest

from sepsearch.audio.spectrogram import ROW_BYTES
from sepsearch.distributed import object_store
from sepsearch.distributed.object_store import Store, StoredData, node_stores
from sepsearch.search.protocol import Workers
from sepsearch.utils.errors import UserError

GB = 10**9


def node(name: str, size: int, cpus: float, gpus: float = 0.0, alive: bool = True) -> dict:
    resources = {"CPU": cpus, "GPU": gpus, "object_store_memory": float(size)}
    return {"NodeManagerHostname": name, "Alive": alive, "Resources": resources}


def test_shards_stay_in_view_as_long_as_they_leave_the_store_some_room():
    assert Store("a", 10 * GB, 4).window(5 * GB) is None
    assert Store("a", 10 * GB, 4).window(7 * GB) is not None


def test_the_windows_of_all_trials_of_a_node_fill_less_than_half_of_its_store():
    for trials in (1, 3, 16):
        found = Store("a", 80 * 10**6, trials)
        assert 0 < trials * found.window(GB) < 0.5 * found.size


def test_every_node_that_trials_run_on_counts_with_the_trials_that_it_runs_at_once():
    nodes = [
        node("head", GB, cpus=0),
        node("gone", GB, cpus=8, alive=False),
        node("small", 2 * GB, cpus=4, gpus=1),
        node("large", 8 * GB, cpus=64, gpus=4),
    ]
    assert node_stores(Workers(8, 2.0, 0.0), nodes) == [Store("small", 2 * GB, 2), Store("large", 8 * GB, 8)]
    assert node_stores(Workers(8, 1.0, 0.5), nodes) == [Store("small", 2 * GB, 2), Store("large", 8 * GB, 8)]


def stored(size: float, gpus: float) -> StoredData:
    return StoredData("key", (), {}, {}, (int(size / ROW_BYTES),), Workers(4, 1.0, gpus))


def test_shards_fill_no_more_than_half_of_a_trials_part_of_a_gpu():
    assert stored(GB, 0.25).gpu_room(80 * GB) == 10 * GB
    assert stored(GB, 0.25).gpu_room(80 * GB, free=4 * GB) == 2 * GB
    assert stored(GB, 1.0).gpu_notes(80 * GB) == []
    assert stored(50 * GB, 0.0).gpu_notes(0) == []
    (note,) = stored(11 * GB, 0.25).gpu_notes(80 * GB)
    assert note == (
        "the shards (11.0 GB) are larger than what may fill a trial's GPU (10.0 GB): streamed in blocks of 134 MB"
    )


def test_a_disk_that_is_too_full_to_spill_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(object_store, "spill_folder", lambda: tmp_path)
    monkeypatch.setattr(object_store.shutil, "disk_usage", lambda path: SimpleNamespace(total=100 * GB, free=9 * GB))
    object_store._require_disk(3 * GB)
    with pytest.raises(UserError, match=r"need 5\.0 GB on this disk, found 4\.0 GB that Ray may fill: free some"):
        object_store._require_disk(5 * GB)  # Ray leaves a twentieth of the disk alone


def test_what_does_not_know_its_rows_stays_in_view():
    assert object_store._own_window(StoredData("key", (), {}, {})) is None
