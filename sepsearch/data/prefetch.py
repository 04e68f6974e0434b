"""Out-of-core rows with background prefetch: a thread reads them ahead of their use, part by part.

A stream's batches are known before its first one is used: row numbers are small, rows are not. So they are grouped into
blocks, and a block's rows are copied part by part, each part viewed once, while the block before is used.
"""

import math
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sepsearch.audio.spectrogram import BINS, FRAMES, ROW_BYTES
from sepsearch.data.dataset import Batch, Rows, as_tensor

BLOCK_BYTES = 128 * 2**20  # 2048 examples: an epoch of the usual length is one block
BLOCKS = 2  # one in use, one ahead

Item = TypeVar("Item")
Fetch = Callable[[Sequence[int]], Sequence[NDArray[np.float16]]]


class WindowedRows(Rows):
    """Rows of parts of which only a window is viewed at a time; the same numbers as of rows that are all at hand.

    Args:
        fetch: views of the parts with these numbers, float16 (row, frame, bin) each. Called by one thread at a time,
            and not before the views it gave out last are let go of.
        rows: of every part, in the order of the row numbers.
        window: bytes of the parts that are viewed at once, but at least one part; None where parts cost nothing.
        block: bytes of the rows on the device that are used or brought at once, but at least one batch; two such
            blocks are held.
        device: torch device.
    """

    def __init__(
        self,
        fetch: Fetch,
        rows: Sequence[int],
        window: int | None = None,
        block: int = BLOCK_BYTES,
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        self._fetch, self._rows, self._window = fetch, tuple(rows), window
        self._first = np.cumsum([0, *rows])
        self._block_rows = max(1, block // ROW_BYTES)
        self._turn = threading.Lock()  # held while a window is viewed
        self._shelf = _Shelf()
        self._last: _Reading | None = None

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def bytes_ahead(self) -> int:
        """The most bytes of rows that streams hold on the device, as long as no batch is larger than a block."""
        return BLOCKS * min(self._block_rows, len(self)) * ROW_BYTES

    def take(self, rows: Tensor) -> Tensor:
        """Float32 (row, 1, frame, bin) on the device for int64 row numbers (row,); blocks until they are there."""
        numbers, places = np.unique(rows.numpy(), return_inverse=True)
        self._require(numbers)
        block = self._to_device(self._gather(numbers))
        return block[torch.from_numpy(places).to(self.device)].unsqueeze(1).float()

    def stream(self, batches: Iterable[Batch]) -> "Stream":
        """As `examples.Rows.stream`. All batches are drawn at once, and reading begins at once.

        A stream that was made later waits until the earlier ones are read, unless it is used before.
        """
        blocks = list(self._blocks(batches))
        self._last = reading = _Reading(self._shelf, self._last)
        if blocks:
            work = (self, reading, [numbers for numbers, _ in blocks])
            threading.Thread(target=_read, args=work, name="prefetch", daemon=True).start()
        else:
            reading.read, reading.before = True, None
        return Stream(reading, [places for _, places in blocks], self.device)

    def bring(self, target: Tensor) -> None:
        """Copy all rows, window by window, to a tensor (row, frame, bin)."""
        for numbers in self._windows(np.flatnonzero(self._rows)):
            with self._turn:
                views = self._view(numbers)
                for number, view in zip(numbers, views, strict=True):
                    first = int(self._first[number])
                    target[first : first + len(view)].copy_(as_tensor(view))
                del views, view

    def _blocks(self, batches: Iterable[Batch]) -> Iterator[tuple[NDArray[np.int64], list[Batch]]]:
        """Consecutive batches whose rows fill a block: its row numbers, sorted, and the batches' places among them."""
        sized = ((batch, len(np.unique(torch.cat(batch).numpy()))) for batch in batches)
        for block in _filled(sized, self._block_rows):
            numbers = np.unique(torch.cat([torch.cat(batch) for batch in block]).numpy())
            self._require(numbers)
            yield numbers, [tuple(torch.from_numpy(np.searchsorted(numbers, r.numpy())) for r in b) for b in block]

    def _require(self, numbers: NDArray[np.int64]) -> None:
        """Raise `IndexError` unless there are rows with these sorted numbers."""
        if len(numbers) and not 0 <= numbers[0] <= numbers[-1] < len(self):
            raise IndexError(f"row numbers from {numbers[0]} to {numbers[-1]}, expected 0 to {len(self) - 1}")

    def _windows(self, parts: Iterable[np.intp]) -> Iterator[list[int]]:
        """Numbers of parts, in their order, as many at once as a window holds."""
        most = math.inf if self._window is None else self._window / ROW_BYTES
        return _filled(((int(part), self._rows[part]) for part in parts), most)

    def _view(self, numbers: Sequence[int]) -> Sequence[NDArray[np.float16]]:
        views = self._fetch(numbers)
        if (found := [len(view) for view in views]) != (expected := [self._rows[number] for number in numbers]):
            raise ValueError(f"parts {list(numbers)} have {found} rows, expected {expected}")
        return views

    def _gather(self, numbers: NDArray[np.int64], stop: Callable[[], bool] = lambda: False) -> Tensor:
        """Float16 (row, frame, bin) in host memory of sorted row numbers; not all of them are there after `stop`."""
        block = torch.empty(len(numbers), FRAMES, BINS, dtype=torch.float16, pin_memory=self.device.type == "cuda")
        array = block.numpy()
        parts, begins = np.unique(np.searchsorted(self._first, numbers, side="right") - 1, return_index=True)
        ends = [*begins, len(numbers)][1:]
        limits = dict(zip(parts.tolist(), zip(begins, ends, strict=True), strict=True))
        for window in self._windows(parts):
            if stop():
                break
            with self._turn:
                views = self._view(window)
                for part, view in zip(window, views, strict=True):
                    begin, end = limits[part]
                    # Another mode would copy by way of a buffer; that the rows exist was checked.
                    np.take(view, numbers[begin:end] - self._first[part], axis=0, out=array[begin:end], mode="clip")
                del views, view
        return block

    def _to_device(self, block: Tensor) -> Tensor:
        """The block on the device, once it has arrived; kernels that run there go on meanwhile."""
        if self.device.type != "cuda":
            return block.to(self.device)
        own = torch.cuda.Stream(self.device)
        with torch.cuda.stream(own):
            arrived = block.to(self.device, non_blocking=True)
        own.synchronize()
        return arrived


def _filled(sized: Iterable[tuple[Item, int]], most: float) -> Iterator[list[Item]]:
    """Consecutive items in lists whose sizes add up to at most `most`, but at least one item in each."""
    group: list[Item] = []
    total = 0
    for item, size in sized:
        if group and total + size > most:
            yield group
            group, total = [], 0
        group.append(item)
        total += size
    if group:
        yield group


class _Shelf(threading.Condition):
    """What the streams over the same rows and their threads wait for: room for another block, or a block."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = 0  # of all streams: ready, in use, or being brought


@dataclass(eq=False)
class _Reading:
    """What a stream shares with its thread, guarded by the shelf.

    `using` says that the stream's user has a block, `waiting` that it is held up for one; `read` that the thread has
    brought all; `over` that it is no longer read.
    """

    shelf: _Shelf
    before: "_Reading | None"
    ready: deque[Tensor] = field(default_factory=deque)
    blocks: int = 0
    error: BaseException | None = None
    using: bool = False
    waiting: bool = False
    read: bool = False
    over: bool = False

    def may_begin(self) -> bool:
        """Whether the thread may go on with the next block, or has to end."""
        if self.over or (self.waiting and self.blocks == 0):
            return True  # a stream that is waited for never waits for another: no order of use is a deadlock
        early = self.before is not None and not (self.before.read or self.before.over)
        return not early and self.shelf.blocks < BLOCKS

    def count(self, change: int) -> None:
        """A block more or less."""
        self.blocks += change
        self.shelf.blocks += change
        self.shelf.notify_all()

    def put_back(self) -> None:
        """The user is through with its block."""
        with self.shelf:
            if self.using:
                self.using = False
                self.count(-1)

    def end(self) -> None:
        """Stop prefetching: drop what is ready; the thread ends after its window."""
        with self.shelf:
            self.put_back()
            self.over = True
            self.count(-len(self.ready))
            self.ready.clear()


def _read(rows: WindowedRows, reading: _Reading, blocks: list[NDArray[np.int64]]) -> None:
    """A stream's thread: bring its blocks one by one. It holds no reference to the stream, which may be dropped."""
    shelf = reading.shelf
    try:
        for numbers in blocks:
            with shelf:
                shelf.wait_for(reading.may_begin)
                if reading.over:
                    return
                reading.count(+1)
            block = rows._to_device(rows._gather(numbers, stop=lambda: reading.over))
            with shelf:
                if reading.over:
                    reading.count(-1)
                    return
                reading.ready.append(block)
                shelf.notify_all()
            del block
    except BaseException as error:  # raised again where it is waited for
        with shelf:
            reading.error = error
            reading.count(-1)
    finally:
        with shelf:
            reading.read, reading.before = True, None
            shelf.notify_all()


class Stream(Iterator[Batch]):
    """Batches of rows on the device: float32 (row, 1, frame, bin) tensors, as many as each batch has row numbers.

    What goes wrong while they are brought is raised by `next`. A stream that is not read to its end must be closed or
    dropped, or what it holds stays in memory.
    """

    def __init__(self, reading: _Reading, blocks: list[list[Batch]], device: torch.device):
        self._reading, self._device = reading, device
        self._blocks = iter(blocks)
        self._places: Iterator[Batch] = iter(())
        self._block: Tensor | None = None
        self._end = weakref.finalize(self, reading.end)

    def __next__(self) -> Batch:
        """The next batch; waits until it is there."""
        places = next(self._places, None)
        if places is None:
            self._block = None
            self._reading.put_back()
            following = next(self._blocks, None)
            if following is None:
                self.close()
                raise StopIteration
            self._block = self._wait()
            self._places = iter(following)
            places = next(self._places)
        assert self._block is not None
        return tuple(self._block[rows.to(self._device)].unsqueeze(1).float() for rows in places)

    def _wait(self) -> Tensor:
        reading = self._reading
        with reading.shelf:
            reading.waiting = True
            reading.shelf.notify_all()
            reading.shelf.wait_for(lambda: reading.ready or reading.error)
            reading.waiting = False
            reading.using = bool(reading.ready)
            block = reading.ready.popleft() if reading.ready else None
        if block is None:
            assert reading.error is not None
            self.close()
            raise reading.error
        if block.is_cuda:
            # It was made on another of the device's streams, whose next block must not take its memory too early.
            block.record_stream(torch.cuda.current_stream(self._device))
        return block

    def close(self) -> None:
        """Let go of everything; the thread ends after the window it reads."""
        self._places, self._blocks, self._block = iter(()), iter(()), None
        self._end()
