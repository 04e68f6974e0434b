"""Progress of a running search on the console: a live view on a terminal, lines elsewhere."""

import html
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.runs.job import Job
from sepsearch.search.events import Event
from sepsearch.utils.formatting import counted, duration, duration_range, number
from sepsearch.utils.notebook import NotebookArea, in_notebook
from sepsearch.utils.terminal_text import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from sepsearch.runs.state import RunState

QUIET_SECONDS = 45.0  # without a line where there is no terminal; then one says how far the stage is
VIEW_SECONDS = 0.5  # between two updates of the live view
MOST_RUNNING = 4  # jobs that are named
DOING = {
    "search": "searching",
    "finalists": "retraining the finalists",
    "leave-one-title-out": "training without single titles",
}
WHAT = {"search": "trials", "finalists": "finalists", "leave-one-title-out": "models"}


class Screen:
    """A journal listener that shows the progress of trials and finalists.

    On a terminal a live view stands below the lines: stage, jobs and epochs done, time left, what runs, the best so
    far. In a notebook the same stands in one place of the cell's output, with lines for jobs that fail alone. Elsewhere
    there are lines: one when a stage begins, one for every job that ends, one every QUIET_SECONDS.

    Args:
        console: where to write.
        run: its state, which has taken in every event before this listener.
        forecast: of preflight, seconds for the search; shown until there is an estimate.
        clock: seconds on a monotonic clock.
    """

    def __init__(
        self,
        console: "Console",
        run: "RunState",
        forecast: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._console, self._run, self._forecast, self._clock = console, run, forecast, clock
        self._stage, self._jobs = "", 0
        self._began = self._seen = self._said = self._drawn = clock()  # `_seen`: when the last event came
        self._live: Live | None = None
        self._area: NotebookArea | None = None

    def begin(self, stage: str, jobs: int = 0) -> None:
        """A stage begins; `jobs` is their number, where it does not follow from the run's state."""
        self.close()
        self._stage, self._jobs, self._began = stage, jobs, self._clock()
        _, wanted = self._counts()
        final = self._run.search["settings"].get("final_epochs", 0)
        budget = f"at most {counted(self._run.epochs, 'epoch')}" if stage == "search" else counted(final, "epoch")
        self._print(f"{DOING[stage]}: {wanted} {WHAT[stage]} of {budget}")
        if self._console.is_terminal:
            from rich.live import Live
            from rich.spinner import Spinner

            self._spinner = Spinner("dots")
            self._live = Live(self._view(), console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        elif in_notebook() and not self._console.quiet:
            self._area = NotebookArea()
            self._area.show(self._html())

    def close(self) -> None:
        """The stage is over: remove the live view, but from a notebook, and write no more lines on how far it is."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._area is not None:
            self._area.show(self._html(ended=True))
            self._area = None
        self._stage = ""

    def handle(self, event: Event) -> None:
        """Take in an event as it happens."""
        self._seen = self._clock()
        match event["event"]:
            case "trial_end" | "final_end" | "fold_end":
                self._print_end(self._run.jobs[event["id"]])
            case "search_stopped" if event["rule"] != "by hand":
                running = len(self._run.running)
                late = "; the trials that run go on to their end" if running else ""
                self._print(f"search over: {event['reason']}{late}")
            case "paused":
                job = self._run.jobs[event["id"]]
                done = counted(job.epochs, "epoch")
                self._print(f"{job.id:7} ratio {number(job.ratio)} after {done}, paused at rung {event['rung']}")
            case "eliminated":
                self._print(f"{event['id']:7} gets no more seeds: {event['reason']}")
            case "retry":
                self._print(f"{event['id']:7} {event['reason']}; goes on after epoch {event['epochs']}")
        self.tick()

    def tick(self) -> None:
        """Renew the live view, or print a line where there is no terminal and nothing was printed for long."""
        now = self._clock()
        if self._live is not None and now >= self._drawn + VIEW_SECONDS:
            self._drawn = now
            self._live.update(self._view())
        elif self._area is not None:
            if now >= self._drawn + VIEW_SECONDS:
                self._drawn = now
                self._area.show(self._html())
        elif self._stage and not self._console.is_terminal and now >= self._said + QUIET_SECONDS:
            parts = [f"{DOING[self._stage]}: {self._done()}", *map(self._running_text, self._running()), self._left()]
            self._print("; ".join(part for part in parts if part))

    def _counts(self) -> tuple[int, int]:
        """How many jobs of the stage have ended, and how many there are."""
        states = self._run.states(self._stage)
        return sum(states[state] for state in ("completed", "stopped", "failed")), max(
            self._run.wanted(self._stage), self._jobs
        )

    def _epochs(self) -> tuple[int, int]:
        """Epochs of the stage that are done, and how many are expected in all."""
        if self._run.stage != self._stage:  # none of its jobs has begun
            return 0, 0
        done = self._run.epochs_done()
        return done, done + round(self._run.epochs_left())

    def _done(self) -> str:
        (ended, wanted), (epochs, expected) = self._counts(), self._epochs()
        about = "about " if self._stage == "search" else ""
        of = f", {epochs} of {about}{expected} epochs" if expected else ""
        return f"{ended} of {wanted} {WHAT[self._stage]}{of}"

    def _left(self) -> str:
        """The estimate of the time left, with its range; that of preflight before the first epoch."""
        now = self._run.last + self._clock() - self._seen
        left, between = self._run.remaining(now), self._run.remaining_range(now)
        if left and left[0] and between:
            return f"about {duration(left[0])} left ({duration_range(*between)})"
        if self._stage == "search" and self._forecast and not left:
            rest = max(0.0, self._forecast - (self._clock() - self._began))
            return f"about {duration(rest)} left by preflight's estimate" if rest else ""
        return ""

    def _running(self) -> list[Job]:
        """The jobs of the stage that run, those with most epochs first."""
        jobs = [job for job in self._run.running.values() if job.stage == self._stage]
        return sorted(jobs, key=lambda job: (-job.epochs, job.id))[:MOST_RUNNING]

    def _running_text(self, job: Job) -> str:
        final = self._run.search["settings"].get("final_epochs", 0)
        ratio = f", ratio {number(job.ratio)}" if job.ratio is not None else ""
        return f"{job.id} epoch {job.epochs + 1} of {self._run.epochs if self._stage == 'search' else final}{ratio}"

    def _view(self) -> "RenderableType":
        """The live view: a bar, what runs, and the best so far."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        done, expected = self._epochs()
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(1, expected), completed=done, width=20)
        parts = [self._done(), duration(self._clock() - self._began), self._left()]
        text = Text(" · ".join(part for part in parts if part), overflow="ellipsis", no_wrap=True)
        head.add_row(self._spinner, Text(DOING[self._stage], style="cyan", no_wrap=True), bar, text)
        lines: list[RenderableType] = [head]
        if running := self._running():
            names = "   ".join(map(self._running_text, running))
            lines.append(Text(f"  running: {names}", style="dim", overflow="ellipsis", no_wrap=True))
        if best := self._best():
            lines.append(Text(f"  {best}", overflow="ellipsis", no_wrap=True))
        return Group(*lines)

    def _html(self, ended: bool = False) -> str:
        """The live view of a notebook; once the stage has ended without what is left and what runs."""
        done, expected = self._epochs()
        bar = "" if ended else f'<progress value="{done}" max="{max(1, expected)}"></progress> '
        left = "" if ended else self._left()
        parts = [f"{DOING[self._stage]}: {self._done()}", duration(self._clock() - self._began), left]
        lines = [" · ".join(part for part in parts if part)]
        if not ended and (running := self._running()):
            lines.append("running: " + "   ".join(map(self._running_text, running)))
        lines += [best] if (best := self._best()) else []
        return bar + "\n".join(html.escape(printable(line)) for line in lines)

    def _best(self) -> str:
        """The best trial beside what it must beat: means over instruments on validation titles."""
        best = self._run.best
        if best is None:
            return ""
        known = [ratio for ratio in self._run.reference.values() if ratio is not None]
        parts = [f"best ratio {number(best.ratio)} ({best.id})", f"constant gain {number(self._run.constant_gain())}"]
        parts += [f"reference network {number(sum(known) / len(known))}"] if known else []
        return ", ".join(parts)

    def _print_end(self, job: Job) -> None:
        if self._area is not None and job.state != "failed":
            return
        state = job.reason if job.state == "stopped" else job.state
        if job.state == "failed":
            state = f"failed: {job.reason}"
        parts = [f"{job.id:7} ratio {number(job.ratio)} after {counted(job.epochs, 'epoch')}, {state}"]
        parts += [f"dead: {', '.join(INSTRUMENTS.get(code, code) for code in job.dead)}"] if job.dead else []
        if job.stage == "search" and (best := self._run.best):
            parts.append(f"best {number(best.ratio)} ({best.id})")
        if self._live is None and self._area is None:
            parts.append("{} of {} done".format(*self._counts()))
            parts += [left] if (left := self._left()) else []
        self._print("; ".join(parts))

    def _print(self, line: str) -> None:
        self._said = self._clock()
        self._console.print(line, soft_wrap=True, markup=False)
