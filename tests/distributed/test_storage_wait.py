"""Waiting for a storage: begun only where the driver cannot write either, ended by the storage or by patience."""

import pytest

from sepsearch.distributed.storage_wait import EVERY, PATIENCE, StorageWait
from sepsearch.utils.errors import StorageFault


class Storage:
    """A storage that takes files of so many bytes, a clock, and what was said."""

    def __init__(self, room: int):
        self.room, self.time, self.said = room, 1000.0, []
        self.tries: list[int] = []
        self.wait = StorageWait(self.probe, self.said.append, lambda: self.time)

    def probe(self, size: int) -> None:
        self.tries.append(size)
        if size > self.room:
            raise StorageFault("runs/x: cannot be written: No space left on device")

    def later(self, seconds: float) -> None:
        self.time += seconds
        self.wait.check()


def test_where_the_driver_can_write_it_is_the_trouble_of_one_node():
    storage = Storage(room=100)
    assert not storage.wait.begin("node two: read-only", 50)
    assert not storage.wait.waiting
    assert storage.said == []


def test_a_small_file_that_still_fits_does_not_hide_that_a_large_one_does_not():
    storage = Storage(room=100)
    assert storage.wait.begin("node one: no space", 500)
    assert storage.tries == [500]
    assert storage.said == ["node one: no space; trials wait for that, up to 10 min, and nothing is lost"]


def test_once_the_storage_takes_files_again_all_goes_on():
    storage = Storage(room=0)
    storage.wait.begin("no space", 5)
    storage.later(EVERY)
    assert storage.wait.waiting
    storage.room = 10
    storage.later(EVERY)
    assert not storage.wait.waiting
    assert storage.said[-1] == f"the storage takes files again after {2 * EVERY:.0f} s: going on"


def test_faults_of_several_workers_are_said_once():
    storage = Storage(room=0)
    for _ in range(3):
        assert storage.wait.begin("no space", 5)
    assert len(storage.said) == 1


def test_it_is_not_tried_at_every_look():
    storage = Storage(room=0)
    storage.wait.begin("no space", 5)
    for _ in range(10):
        storage.later(EVERY / 100)
    assert len(storage.tries) == 1


def test_after_its_patience_it_gives_up_with_the_fault():
    storage = Storage(room=0)
    storage.wait.begin("node one: x.checkpoint: no space", 5)
    for _ in range(int(PATIENCE / EVERY)):
        storage.later(EVERY)
    with pytest.raises(StorageFault, match=r"node one: x.checkpoint: no space"):
        storage.later(EVERY)
