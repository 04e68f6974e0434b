"""What a person sees while a search runs: progress with an estimate, and a line for every trial that ended."""

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from sepsearch.runs.state import ENDS
from sepsearch.utils.formatting import duration, number

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class Screen:
    """A journal listener that tells how the search and the finalists get on.

    On a terminal a progress bar stands below the lines; elsewhere there are the lines alone.

    Args:
        console: where to write.
        epochs: the full budget of a trial.
    """

    def __init__(self, console: "Console", epochs: int):
        self._console, self._epochs = console, epochs
        self._best: tuple[float, str] | None = None
        self._ratio: dict[str, float] = {}
        self._ended = self._expected = self._before = 0
        self._over: dict[str, str] = {}  # unit → the kind of its end
        self._begin = time.monotonic()
        self._progress: Progress | None = None

    def begin(self, stage: str, expected: int) -> None:
        """A stage of `expected` units begins."""
        self.close()
        self._ended = self._before = Counter(self._over.values())[ENDS[stage]]
        self._expected, self._begin = expected, time.monotonic()
        if self._console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

            from sepsearch.utils.terminal_console import LiteralColumn

            columns = (LiteralColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, LiteralColumn("{task.fields[left]}"), console=self._console)
            self._task = self._progress.add_task(stage, total=expected, completed=self._ended, left="")
            self._progress.start()

    def close(self) -> None:
        """Remove the progress bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def remember(self, event: dict[str, Any]) -> None:
        """Take in an event of an earlier process: nothing is said of it."""
        kind = event["event"]
        if kind in ("epoch", "final_epoch", "fold_epoch"):
            self._ratio[event["id"]] = event["ratio"]
            finished = kind == "epoch" and event["epoch"] >= self._epochs and event["ratio"] is not None
            if finished and (self._best is None or event["ratio"] < self._best[0]):
                self._best = event["ratio"], event["id"]
        elif kind in ENDS.values() and event["reason"] != "interrupted":
            self._over[event["id"]] = kind
        elif kind == "resume":
            self._over = {unit: end for unit, end in self._over.items() if unit not in event["units"]}

    def handle(self, event: dict[str, Any]) -> None:
        """Take in an event as it happens."""
        again = event.get("id") in self._over  # its weights were lost
        self.remember(event)
        if event["event"] in ENDS.values():
            self._ended += not again
            self._tell(event)
        elif event["event"] == "eliminated":
            self._expected -= event["left"]
            if self._progress is not None:
                self._progress.update(self._task, total=self._expected)
            line = f"{event['id']:7} gets no more seeds: {event['reason']}"
            self._console.print(line, soft_wrap=True)
        elif event["event"] == "retry":
            line = f"{event['id']:7} {event['reason']}; goes on after epoch {event['epochs']}"
            self._console.print(line, soft_wrap=True)

    def _tell(self, event: dict[str, Any]) -> None:
        state = event["reason"] if event["state"] == "stopped" else event["state"]
        if event["state"] == "failed":
            state = f"failed: {event['reason']}"
        parts = [
            f"{event['id']:7} ratio {number(self._ratio.get(event['id']))} after {event['epochs']} epochs, {state}"
        ]
        if event["event"] == "trial_end" and self._best:
            parts.append(f"best {self._best[0]:.3f} ({self._best[1]})")
        done = max(1, self._ended - self._before)
        left = (time.monotonic() - self._begin) / done * (self._expected - self._ended)
        estimate = f"about {duration(left)} left" if left else ""
        if self._progress is not None:
            self._progress.update(self._task, completed=self._ended, left=estimate)
        else:
            parts.append(f"{self._ended} of {self._expected} done" + (f", {estimate}" if estimate else ""))
        self._console.print("; ".join(parts), soft_wrap=True)
