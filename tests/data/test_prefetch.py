"""Rows that are streamed through a window: the same numbers, only what is needed, and never more than the window."""

import itertools
import threading
import weakref

import numpy as np
import pytest
import torch
from synthetic import synthetic_data

from sepsearch.audio.spectrogram import ROW_BYTES
from sepsearch.data.dataset import Dataset, Rows
from sepsearch.data.prefetch import WindowedRows
from sepsearch.models.families import make_config
from sepsearch.training.learner import evaluate
from sepsearch.training.loop import fit
from sepsearch.training.members import Member

CONFIG = make_config({"filters": 4, "head": "mask", "batch_size": 4, "learning_rate": 3e-3})
MEMBERS = (Member("vn", 0), Member("vc", 1))
PART = 5  # rows


class Parts:
    """An array in parts, whose views are counted as long as they live."""

    def __init__(self, array: np.ndarray, rows: int = PART):
        self.parts = [array[begin : begin + rows] for begin in range(0, len(array), rows)]
        self.rows = [len(part) for part in self.parts]
        self.fetched: list[list[int]] = []
        self.alive = self.most = 0
        self.broken: Exception | None = None

    def __call__(self, numbers):
        if self.broken:
            raise self.broken
        self.fetched.append(list(numbers))
        views = [self.parts[number].copy() for number in numbers]
        for view in views:
            self.alive += view.nbytes
            weakref.finalize(view, self.let_go, view.nbytes)
        self.most = max(self.most, self.alive)
        return views

    def let_go(self, size):
        self.alive -= size


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic_data()


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).random((40, 128, 128), dtype=np.float32).astype(np.float16)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """Whatever a test did, all threads of its streams have ended, or do so at once."""
    yield
    for thread in threads():
        thread.join(timeout=30)
    assert threads() == []


def batches(*rows):
    return [tuple(torch.tensor(numbers) for numbers in batch) for batch in rows]


def curve(data, epochs=3, state=None):
    """Every number of every epoch, and the networks and states in the end."""
    numbers = []
    for result in fit(CONFIG, data, MEMBERS, epochs=epochs, batches_per_epoch=3, state=state):
        numbers += [(m.train_loss, m.val_loss, m.gradient_norm, m.zero_share) for m in result.members]
    states = list(result.state().networks.values())
    tensors = [{name: tensor.clone() for name, tensor in state.tensors.items()} for state in states]
    return numbers, [state.values for state in states], tensors, result.state()


@pytest.fixture(scope="module")
def resident(data):
    return curve(data)


@pytest.mark.parametrize(
    ("window", "block"), [(1, 1), (3, 30), (None, 10**6)], ids=["one-part", "several-parts", "all-parts"]
)
def test_windows_train_the_same_networks_bit_for_bit_and_go_on_from_a_state(data, resident, window, block):
    parts = Parts(data.rows._shards[0].numpy())
    rows = WindowedRows(parts, parts.rows, window and window * PART * ROW_BYTES, block * ROW_BYTES)
    windowed = Dataset(rows, data.examples, data.identity)
    first, _, _, state = curve(windowed, epochs=2)
    then, values, tensors, _ = curve(windowed, epochs=3, state=state)
    assert first + then == resident[0]
    assert values == resident[1]
    for ours, theirs in zip(tensors, resident[2], strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    most = max(map(len, parts.fetched))
    assert most == window if window else most > 3
    assert parts.most <= (window or len(parts.rows)) * PART * ROW_BYTES
    assert parts.alive == rows._shelf.blocks == 0


def test_validation_visits_the_parts_in_order_and_comes_to_the_same_losses(data):
    network, pairs = torch.nn.Identity(), data.examples["vn"]["validation"]
    parts = Parts(data.rows._shards[0].numpy())
    rows = WindowedRows(parts, parts.rows, window=PART * ROW_BYTES)
    assert evaluate(network, rows, pairs) == evaluate(network, data.rows, pairs)
    visited = [number for (number,) in parts.fetched]
    assert visited == sorted(set(visited))
    assert 0 < len(visited) < len(parts.rows)


def test_a_batch_holds_the_rows_it_asks_for_in_its_order(array):
    parts = Parts(array)
    rows = WindowedRows(parts, parts.rows, window=2 * PART * ROW_BYTES)
    wanted = batches(([39, 0, 7, 7], [1, 38]), ([5, 4], [20, 0]))
    expected = [tuple(Rows([array]).take(numbers) for numbers in batch) for batch in wanted]
    for found, batch in zip(rows.stream(iter(wanted)), expected, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(found, batch, strict=True))
    assert torch.equal(rows.take(wanted[0][0]), expected[0][0])
    assert len(rows) == 40


def test_only_parts_that_hold_a_wanted_row_are_fetched_once_a_block(array):
    parts = Parts(array)
    rows = WindowedRows(parts, parts.rows, window=2 * PART * ROW_BYTES)
    list(rows.stream(batches(([12, 39], [13, 38]), ([0, 12], [12, 11]))))
    assert parts.fetched == [[0, 2], [7]]


def test_never_more_than_a_window_is_viewed_at_once_whoever_reads(array):
    parts = Parts(array)
    rows = WindowedRows(parts, parts.rows, window=2 * PART * ROW_BYTES, block=4 * ROW_BYTES)
    rng = np.random.default_rng(1)
    wanted = batches(*[(rng.integers(40, size=3),) for _ in range(30)])
    one, other = rows.stream(wanted), rows.stream(wanted)
    for _ in zip(one, other, strict=True):
        rows.take(torch.tensor([3, 17, 33]))
    assert 0 < parts.most <= 2 * PART * ROW_BYTES
    assert parts.alive == 0


def test_a_part_larger_than_the_window_is_viewed_alone(array):
    parts = Parts(array, rows=20)
    rows = WindowedRows(parts, parts.rows, window=1)
    list(rows.stream(batches(([0, 25],))))
    assert parts.fetched == [[0], [1]]


def wait_until(condition):
    """Polls, as a thread's idleness is nothing one could wait for; the assertion that follows does not depend on it."""
    pause = threading.Event()
    for _ in range(30):
        if condition():
            return
        pause.wait(0.01)


def test_at_most_two_blocks_are_brought_before_the_first_is_used_up(array):
    parts = Parts(array)
    rows = WindowedRows(parts, parts.rows, block=1)
    stream, later = rows.stream(batches(*[([n],) for n in range(10)])), rows.stream(batches(([35],)))
    wait_until(lambda: len(parts.fetched) > 2)
    assert len(parts.fetched) == 2
    next(stream)
    next(stream)  # gives the first one back
    wait_until(lambda: len(parts.fetched) > 3)
    assert len(parts.fetched) == 3
    assert len([*stream, *later]) == 9


def test_streams_that_are_used_in_another_order_than_they_were_made_do_not_wait_for_each_other(array):
    parts = Parts(array)
    rows = WindowedRows(parts, parts.rows, block=1)
    streams = [rows.stream(batches(*[([n + k],) for n in range(5)])) for k in (0, 10, 20)]
    found = [[float(batch[0][0, 0, 0, 0]) for batch in stream] for stream in reversed(streams)]
    expected = [[float(array[n + k, 0, 0]) for n in range(5)] for k in (20, 10, 0)]
    assert found == expected


@pytest.mark.parametrize("drop", [False, True], ids=["closed", "dropped"])
@pytest.mark.parametrize("used", [0, 1])
def test_a_stream_that_is_ended_early_stops_its_thread_and_gives_its_memory_back(array, used, drop):
    parts = Parts(array)
    rows = WindowedRows(parts, parts.rows, block=1)
    stream = rows.stream(batches(*[([n],) for n in range(20)]))
    list(itertools.islice(stream, used))
    if drop:
        del stream
    else:
        stream.close()
        assert list(stream) == []
    for thread in threads():
        thread.join(timeout=30)
    assert rows._shelf.blocks == parts.alive == 0
    assert len(parts.fetched) < 5
    assert len(list(rows.stream(batches(([1],), ([2],))))) == 2


def test_a_fit_that_is_ended_early_ends_all_its_streams(data):
    parts = Parts(data.rows._shards[0].numpy())
    rows = WindowedRows(parts, parts.rows, block=1)
    epochs = fit(CONFIG, Dataset(rows, data.examples, data.identity), MEMBERS, epochs=9, batches_per_epoch=2)
    next(epochs)
    epochs.close()
    for thread in threads():
        thread.join(timeout=30)
    assert threads() == []
    assert rows._shelf.blocks == 0


def test_what_goes_wrong_while_rows_are_brought_is_raised_where_they_are_wanted_and_harms_nothing_else(array):
    parts = Parts(array)
    rows = WindowedRows(parts, parts.rows, block=1)
    parts.broken = OSError("the disk is gone")
    stream = rows.stream(batches(([1],), ([2],)))
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)
    assert list(stream) == []
    parts.broken = None
    assert len(list(rows.stream(batches(([1],), ([2],))))) == 2
    assert rows._shelf.blocks == 0


@pytest.mark.parametrize("row", [-1, 40])
def test_a_row_that_is_not_there_is_refused(array, row):
    parts = Parts(array)
    rows = WindowedRows(parts, parts.rows)
    with pytest.raises(IndexError, match="expected 0 to 39"):
        rows.stream(batches(([3, row],)))
    with pytest.raises(IndexError, match="expected 0 to 39"):
        rows.take(torch.tensor([3, row]))


def test_a_part_of_another_length_than_was_said_is_refused(array):
    rows = WindowedRows(Parts(array), [PART] * 7 + [6])
    with pytest.raises(ValueError, match=r"parts \[7\] have \[5\] rows, expected \[6\]"):
        next(rows.stream(batches(([39],))))


def test_no_batches_and_no_rows_are_none(array):
    parts = Parts(array)
    rows = WindowedRows(parts, parts.rows)
    assert list(rows.stream([])) == []
    ((empty,),) = rows.stream([(torch.tensor([], dtype=torch.int64),)])
    assert empty.shape == (0, 1, 128, 128)
    assert parts.fetched == []


def test_all_rows_can_be_brought_to_one_place(array):
    parts = Parts(array)
    rows = WindowedRows(parts, parts.rows, window=3 * PART * ROW_BYTES)
    everything = torch.empty(40, 128, 128, dtype=torch.float16)
    rows.bring(everything)
    np.testing.assert_array_equal(everything.numpy(), array)
    assert parts.most == 3 * PART * ROW_BYTES


@pytest.mark.gpu
def test_on_a_gpu_windows_train_the_same_networks_as_rows_that_stay_there():
    data = synthetic_data("cuda")
    parts = Parts(data.rows._shards[0].cpu().numpy())
    rows = WindowedRows(parts, parts.rows, 2 * PART * ROW_BYTES, block=30 * ROW_BYTES, device="cuda")
    windowed = Dataset(rows, data.examples, data.identity)
    for ours, theirs in zip(curve(windowed)[0], curve(data)[0], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)
    wanted = batches(*[([n, 39 - n],) for n in range(20)])
    for found, expected in zip(rows.stream(wanted), data.rows.stream(wanted), strict=True):
        assert torch.equal(found[0], expected[0])
