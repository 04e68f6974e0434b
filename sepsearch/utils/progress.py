"""Progress of long work, and work on all cores in threads."""

import html
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from sepsearch.utils.notebook import NotebookArea, in_notebook
from sepsearch.utils.output import OUTPUT
from sepsearch.utils.terminal_text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from sepsearch.utils.terminal_console import StageBars

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_THREADS = 16  # a thread may hold a whole piece in memory
QUIET_SECONDS = 15.0  # between lines where there is no terminal
DRAW_SECONDS = 0.3  # between two updates in a notebook


def in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], advance: Callable[[], object] | None = None
) -> list[Result]:
    """Results of `work` for every item, in order; the first error stops what has not begun, and is raised.

    `advance` is called from the caller's own thread as items are finished. Threads are enough for audio, checksums
    and transforms: libsndfile, hashlib, soxr, pocketfft, torch all let go of the interpreter while they work.
    """
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_THREADS))
    try:
        running = [pool.submit(work, item) for item in items]
        for future in as_completed(running):
            future.result()
            if advance is not None:
                advance()
        return [future.result() for future in running]
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Threads in which torch computes alone; what torch uses in this process is as before at the end."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # new threads begin with what was set last, in whichever thread
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Steps:
    """Counts the steps of long work for a callback that takes (steps done, steps in all), from (0, total) on."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, -1
        self()

    def __call__(self) -> None:
        """One more step is done."""
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


class Progress:
    """Shows how far the stages of long work are; called with (stage, steps done, steps in all), from any thread.

    On a terminal: bars with the time that has passed and the time that is left. Elsewhere, such as in a log: a line
    when a stage begins, one when it is done, and between them at most one every `QUIET_SECONDS`. On standard error.
    In a notebook: bars in the cell's output. With `--quiet` nothing.
    """

    def __init__(self, console: "Console | None" = None, clock: Callable[[], float] = time.monotonic) -> None:
        from sepsearch.utils.terminal_console import make_console

        self._console = console or make_console(error=True)
        self._clock = clock
        self._lock = threading.Lock()
        self._bars: StageBars | None = None
        self._began: dict[str, float] = {}
        self._said: dict[str, float] = {}
        self._done: dict[str, int] = {}
        self._area: NotebookArea | None = None
        self._shown: dict[str, str] = {}  # HTML of every stage, in a notebook

    def __enter__(self) -> "Progress":
        if self._console.is_interactive and not OUTPUT.quiet:
            from sepsearch.utils.terminal_console import StageBars

            self._bars = StageBars(self._console)
        elif in_notebook() and not OUTPUT.quiet:
            self._area = NotebookArea()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bars is not None:
            self._bars.close()
            self._bars = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of the `total` steps of a stage are done; calls that come late or twice are ignored."""
        with self._lock:
            if done <= self._done.get(stage, -1):
                return
            self._done[stage] = done
            if self._bars is not None:
                self._bars.show(stage, done, total)
            elif self._area is not None:
                self._draw(self._area, stage, done, total)
            elif not OUTPUT.quiet:
                self._say(stage, done, total)

    def _draw(self, area: NotebookArea, stage: str, done: int, total: int) -> None:
        """Show all stages so far in a notebook, if it is time to."""
        now = self._clock()
        began = self._began.setdefault(stage, now)
        seconds = f" · {now - began:.0f} s" if now - began >= 1 else ""
        count = f" {done} of {total}" if total > 1 else ""
        bar = "" if done >= total else f'<progress value="{done}" max="{total}"></progress> '
        self._shown[stage] = f"{bar}{html.escape(printable(stage))}{count}{seconds}"
        if done >= total or now >= self._said.get("", -math.inf) + DRAW_SECONDS:
            self._said[""] = now
            area.show("\n".join(self._shown.values()))

    def _say(self, stage: str, done: int, total: int) -> None:
        """One line, if there is something new to be said."""
        now = self._clock()
        first = stage not in self._began
        began = self._began.setdefault(stage, now)
        if done >= total and total == 1:
            self._write(f"{stage}: done in {now - began:.1f} s")
        elif total == 1:
            self._write(stage)
        elif done >= total:
            self._write(f"{stage}: {total} of {total}, done in {now - began:.1f} s")
        elif first:
            self._said[stage] = now
            self._write(f"{stage}: {done} of {total}")
        elif now - self._said[stage] >= QUIET_SECONDS:
            self._said[stage] = now
            left = (now - began) / max(done, 1) * (total - done)
            self._write(f"{stage}: {done} of {total} in {now - began:.0f} s, about {left:.0f} s left")

    def _write(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)
