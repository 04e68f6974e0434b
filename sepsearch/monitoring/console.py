"""Progress of a running search on the console: a bar with an estimate, and a line for every job that ends."""

import time
from typing import TYPE_CHECKING

from sepsearch.runs.job import Job
from sepsearch.search.events import Event
from sepsearch.utils.formatting import duration, number

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from sepsearch.runs.state import RunState


class Screen:
    """A journal listener that prints the progress of trials and finalists.

    On a terminal a progress bar stands below the lines; elsewhere there are the lines alone.

    Args:
        console: where to write.
        run: its state, which has taken in every event before this listener.
    """

    def __init__(self, console: "Console", run: "RunState"):
        self._console, self._run = console, run
        self._stage, self._jobs = "", 0
        self._seen = time.monotonic()  # when the last event came
        self._progress: Progress | None = None

    def begin(self, stage: str, jobs: int = 0) -> None:
        """A stage begins; `jobs` is their number, where it does not follow from the run's state."""
        self.close()
        self._stage, self._jobs = stage, jobs
        if self._console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

            from sepsearch.utils.terminal_console import LiteralColumn

            done, total = self._counts()
            columns = (LiteralColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, LiteralColumn("{task.fields[left]}"), console=self._console)
            self._task = self._progress.add_task(stage, total=total, completed=done, left="")
            self._progress.start()

    def close(self) -> None:
        """Remove the progress bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def handle(self, event: Event) -> None:
        """Take in an event as it happens."""
        self._seen = time.monotonic()
        match event["event"]:
            case "trial_end" | "final_end" | "fold_end":
                self._print_end(self._run.jobs[event["id"]])
            case "eliminated":
                self._print(f"{event['id']:7} gets no more seeds: {event['reason']}")
            case "retry":
                self._print(f"{event['id']:7} {event['reason']}; goes on after epoch {event['epochs']}")
        if self._progress is not None:
            done, total = self._counts()
            self._progress.update(self._task, completed=done, total=total, left=self._left())

    def _counts(self) -> tuple[int, int]:
        """How many jobs of the stage have ended, and how many there are."""
        states = self._run.states(self._stage)
        return sum(states[state] for state in ("completed", "stopped", "failed")), max(
            self._run.wanted(self._stage), self._jobs
        )

    def _left(self) -> str:
        left = self._run.remaining(self._run.last + time.monotonic() - self._seen)
        return f"about {duration(left[0])} left" if left and left[0] else ""

    def _print_end(self, job: Job) -> None:
        state = job.reason if job.state == "stopped" else job.state
        if job.state == "failed":
            state = f"failed: {job.reason}"
        parts = [f"{job.id:7} ratio {number(job.ratio)} after {job.epochs} epochs, {state}"]
        if job.stage == "search" and (best := self._run.best):
            parts.append(f"best {number(best.ratio)} ({best.id})")
        if self._progress is None:
            left = self._left()
            parts.append("{} of {} done".format(*self._counts()) + (f", {left}" if left else ""))
        self._print("; ".join(parts))

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)
