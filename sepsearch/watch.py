"""`python -m sepsearch.watch NAME`: how a search gets on, from anywhere that sees its storage. It writes nothing."""

import argparse
import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sepsearch.command_line import ArgumentParser
from sepsearch.errors import UserError, exit_on_user_error
from sepsearch.stored_run import follow_run

if TYPE_CHECKING:
    from rich.console import Console

    from sepsearch.watch_view import Hints

EVERY = 2.0  # seconds
LEAST, MOST = 0.2, 3600.0


class Watched:
    """A run as its journal tells it, read on from where the last look came to.

    Args:
        refresh: called before every look; the path of the journal, or of a copy that it has just brought up to date.
        clock: seconds since 1970, to tell the age of what was written before the first look.
        steady: seconds on a monotonic clock, for all that comes later.
    """

    def __init__(
        self,
        refresh: Callable[[], Path],
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ):
        from sepsearch.journal import Follower
        from sepsearch.tally import Tally

        self.tally = Tally()
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
            self.tally.handle(event)
            found = True
        if not self._looked:
            self._age = max(0.0, self._clock() - self.tally.written)
        elif found:
            self._age = 0.0
        if found or not self._looked:
            self._seen = self._steady()
        self._looked = True

    @property
    def now(self) -> float:
        """The present as a moment of the run (see `Tally.last`); only the first look needs clocks that agree."""
        return self.tally.last + self._age + self._steady() - self._seen


def watch(watched: Watched, hints: "Callable[[], Hints]", console: "Console", every: float, once: bool) -> None:
    """Show a run until it has ended, or as it is now where nobody looks on.

    Args:
        watched: the run.
        hints: what to type or open, asked for at every look.
        console: where to show it.
        every: seconds between two looks.
        once: do not wait for what comes.
    """
    from rich.live import Live

    from sepsearch.watch_view import make_view

    watched.look()
    if once or not console.is_terminal:
        console.print(make_view(watched.tally, watched.now, hints(), console))
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        try:
            while not watched.tally.end:
                live.update(make_view(watched.tally, watched.now, hints(), console, fit=True), refresh=True)
                time.sleep(every)
                watched.look()
        finally:
            # What stays on the screen may be longer than it.
            live.update(make_view(watched.tally, watched.now, hints(), console))


def local_hints(folder: Path) -> "Hints":
    """What to type for a run whose folder is on this machine."""
    from sepsearch.programs import program
    from sepsearch.report_page import PAGE
    from sepsearch.telling import resume_command
    from sepsearch.tracking import ui_command
    from sepsearch.watch_view import Hints

    page, end = folder / PAGE, []
    if page.exists():
        end.append(f"curves, sounds, why these models won: {page}")
    end.append(f"runs, curves and models: {ui_command().replace('mlflow ', program('mlflow') + ' ', 1)}")
    return Hints(resume_command(folder), end)


def far_hints(name: str, storage: str) -> "Hints":
    """What to type for a run that is in a storage."""
    from sepsearch.programs import program
    from sepsearch.watch_view import Hints

    where = f"{shlex.quote(name)} --storage {shlex.quote(storage)}"
    python = program("python")
    fetch = f"page, models, results, brought here: {python} -m sepsearch.fetch {where}"
    return Hints(f"{python} -m sepsearch.run --resume {where}", [fetch])


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not LEAST <= seconds <= MOST:
        raise UserError(f"--every {text!r}: expected seconds from {LEAST:g} to {MOST:g}")
    return seconds


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(prog="python -m sepsearch.watch", description=main.__doc__)
    parser.add_argument("name", metavar="NAME", help="the run's name")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders are (default: runs)")
    parser.add_argument("--storage", help="where the run is: a shared folder, or a URI such as s3://bucket/runs")
    parser.add_argument("--once", action="store_true", help="print how it is now, and leave")
    parser.add_argument("--every", type=_seconds, default=EVERY, metavar="SECONDS", help=f"look so often ({EVERY:g})")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Follow a running search on the terminal, or show a finished one; elsewhere print how it is now."""
    from sepsearch.terminal_console import make_console

    options = _parse(argv)
    console = make_console()
    with tempfile.TemporaryDirectory(prefix="sepsearch-watch-") as copies:
        folder, refresh = follow_run(options.runs, options.storage, options.name, Path(copies))
        here = folder != Path(copies)
        watch(
            Watched(refresh),
            lambda: local_hints(folder) if here else far_hints(options.name, options.storage),
            console, options.every, options.once,
        )  # fmt: skip


if __name__ == "__main__":
    exit_on_user_error(main)
