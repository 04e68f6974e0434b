"""Follow a run's journal, and show the run's state on the terminal until it ends."""

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sepsearch.runs.run_folder import JOURNAL
from sepsearch.search.run_lock import seems_locked

if TYPE_CHECKING:
    from rich.console import Console

    from sepsearch.monitoring.terminal import Hints


GETTING_READY = "getting ready"  # a run that is locked and has no journal yet


class Watched:
    """State of a run that is read on from its journal with every look.

    Args:
        refresh: called before every look; the path of the journal, or of a copy that it has just brought up to date.
        clock: seconds since 1970, for the age of what was written before the first look.
        steady: seconds on a monotonic clock, for all that comes later.
    """

    def __init__(
        self,
        refresh: Callable[[], Path],
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ):
        from sepsearch.runs.state import RunState
        from sepsearch.search.journal import Follower

        self.run = RunState()
        self._refresh, self._clock, self._steady, self._follower = refresh, clock, steady, Follower()
        self._age = self._seen = 0.0  # of the last event when it was seen, and when that was
        self._looked = False

    def look(self) -> None:
        """Take in what was written since the last look.

        Raises:
            UserError: the journal cannot be read, or is damaged.
        """
        found = False
        for event in self._follower.read(self._refresh()):
            self.run.handle(event)
            found = True
        if not self._looked:
            self._age = max(0.0, self._clock() - self.run.written)
        elif found:
            self._age = 0.0
        if found or not self._looked:
            self._seen = self._steady()
        self._looked = True

    @property
    def now(self) -> float:
        """The present as a moment of the run (see `RunState.last`); only the first look needs clocks that agree."""
        return self.run.last + self._age + self._steady() - self._seen


def watch(watched: Watched, hints: "Callable[[], Hints]", console: "Console", every: float, once: bool) -> None:
    """Show a run until it ends; on anything but a terminal its state now.

    Args:
        watched: the run.
        hints: what to type or open, asked for at every look.
        console: where to show it.
        every: seconds between two looks.
        once: do not wait for what comes.
    """
    from rich.live import Live

    from sepsearch.monitoring.terminal import make_view

    watched.look()
    if once or not console.is_terminal:
        console.print(make_view(watched.run, watched.now, hints(), console))
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        try:
            while not watched.run.end:
                live.update(make_view(watched.run, watched.now, hints(), console, fit=True), refresh=True)
                time.sleep(every)
                watched.look()
        finally:
            # What stays on the screen may be longer than it.
            live.update(make_view(watched.run, watched.now, hints(), console))


def wait_for_begin(folder: Path, console: "Console", every: float, once: bool) -> bool:
    """Wait while the run of a folder gets ready: it is locked and has no journal yet.

    Args:
        folder: of the run.
        console: on a terminal this waits there; elsewhere, and with `once`, it prints a line.
        every: seconds between two looks.
        once: do not wait.

    Returns:
        Whether there may be a journal now.
    """

    def ready() -> bool:
        return (folder / JOURNAL).exists() or not seems_locked(folder / JOURNAL)

    text = f"{folder.name} gets ready: recordings are read, Ray starts, corners of the space are tried"
    if ready():
        return True
    if once or not console.is_terminal:
        console.print(text, markup=False, soft_wrap=True)
        return False
    with console.status(text):
        while not ready():
            time.sleep(every)
    return True


def local_hints(folder: Path) -> "Hints":
    """What to type for a run whose folder is on this machine."""
    from sepsearch.monitoring.messages import resume_command
    from sepsearch.monitoring.terminal import Hints
    from sepsearch.reporting.page import PAGE
    from sepsearch.tracking.tracker import ui_command

    page, end = folder / PAGE, []
    if page.exists():
        end.append(f"curves, sounds, why these models won: {page}")
    end.append(f"runs, curves and models: {ui_command()}")
    return Hints(resume_command(folder), end)


def far_hints(name: str, storage: str) -> "Hints":
    """What to type for a run that is in a storage."""
    from sepsearch.monitoring.terminal import Hints
    from sepsearch.utils.programs import program

    where = f"{shlex.quote(name)} --storage {shlex.quote(storage)}"
    python = program("python")
    fetch = f"page, models, results, brought here: {python} -m sepsearch.fetch {where}"
    return Hints(f"{python} -m sepsearch.run --resume {where}", [fetch])
