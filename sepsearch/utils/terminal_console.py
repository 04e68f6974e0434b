"""Rich consoles, tables and progress bars whose text is taken literally: no markup, no control characters."""

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.segment import Segment
from rich.text import Text

from sepsearch.utils.formatting import duration
from sepsearch.utils.notebook import in_notebook
from sepsearch.utils.output import OUTPUT
from sepsearch.utils.terminal_text import encodable, printable

BAR_WIDTH = 20  # columns


class LiteralConsole(Console):
    """A console that prints text from files as it is, except for what would control the terminal, which it escapes.

    - Square brackets and colons are characters, not markup or emoji, in lines and in the cells of tables.
    - Characters that the output's encoding lacks are replaced before the layout, so that columns stay aligned.
    - A string printed with `soft_wrap=True` is one line: line breaks in it are escaped.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
        """As rich's."""
        if soft_wrap:
            objects = tuple(printable(one, line_breaks=False) if isinstance(one, str) else one for one in objects)
        super().print(*objects, soft_wrap=soft_wrap, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as rich's `Text`; rich calls it for every string that it prints or measures, cells included."""
        return super().render_str(self._safe(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is drawn of anything: the last safeguard, for what came as rich's `Text`, and rich's own characters.

        It comes after the layout; so escape text from files before it goes into a `Text` of a table.
        """
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=self._safe(segment.text))

    def _safe(self, text: str) -> str:
        text = printable(text)
        return text if self.encoding.startswith("utf") else encodable(text, self.encoding)


def make_console(plain_width: int = 120, error: bool = False) -> LiteralConsole:
    """The console of a command, on standard output or error.

    Args:
        plain_width: in columns where standard output is no terminal; on a terminal it is the terminal's.
        error: write to standard error, but in a notebook, which shows that as if it were an error.
    """
    if in_notebook():
        # rich's own support of Jupyter makes a block of HTML of every line.
        return LiteralConsole(file=sys.stdout, width=plain_width, force_jupyter=False, force_terminal=False)
    stream = sys.stderr if error else sys.stdout
    return LiteralConsole(stderr=error, width=None if stream.isatty() else plain_width)


def show_result(console: Console) -> None:
    """From here on print with `--quiet`, too, unless `--json` prints the result, or a caller in Python gets it."""
    console.quiet = OUTPUT.quiet and (OUTPUT.json or OUTPUT.python)


class LiteralColumn(TextColumn):
    """A progress bar's column of text, such as "{task.description}"."""

    def render(self, task: Task) -> Text:
        """As rich's, before the layout."""
        return Text(printable(self.text_format.format(task=task)), style=self.style, justify=self.justify)


class StageBars:
    """Bars of stages, which stand below each other; a stage that is done keeps its line, without a bar.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        columns = (LiteralColumn("{task.description}"), _Bar(bar_width=BAR_WIDTH), _Text())
        self._bars = Progress(*columns, console=console, redirect_stdout=False)
        self._tasks: dict[str, TaskID] = {}
        self._bars.start()

    def show(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of the `total` steps of a stage are done; one step alone has no length that is known."""
        length = None if total == 1 and done < 1 else total
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=length)
        self._bars.update(self._tasks[stage], completed=done, total=length)

    def close(self) -> None:
        """Draw the bars for the last time; they stay on the screen."""
        self._bars.stop()


class _Bar(BarColumn):
    def render(self, task: Task) -> Text:  # type: ignore[override]
        return Text() if task.finished else super().render(task)  # type: ignore[return-value]


class _Text(ProgressColumn):
    """ "12 of 31 · 8 s · about 12 s left", or "31 of 31, done in 20 s"."""

    def render(self, task: Task) -> Text:
        done, total = int(task.completed), int(task.total or 0)
        count = f"{done} of {total}" if total > 1 else ""
        if task.finished:
            return Text(f"{count}, done in {duration(task.finished_time or 0)}".removeprefix(", "))
        left = task.time_remaining
        parts = [count, duration(task.elapsed or 0), f"about {duration(left)} left" if left is not None else ""]
        return Text(" · ".join(part for part in parts if part))
