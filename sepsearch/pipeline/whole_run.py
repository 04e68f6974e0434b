"""A run from its options to its end: what the command line and Python both call."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sepsearch.pipeline.driver import rebuild_outputs, run_search
from sepsearch.runs.extend import continued_run
from sepsearch.runs.start import Begin, new_run, resumed_run
from sepsearch.search.events import Event

if TYPE_CHECKING:
    from rich.console import Console

    from sepsearch.runs.options import RunOptions


def carry_out(
    options: "RunOptions", console: "Console", listeners: Sequence[Callable[[Event], None]] = ()
) -> tuple[str, Begin]:
    """Start the run that the options say, or go on with it, and take it to its end.

    Args:
        options: of the run.
        console: where to print.
        listeners: called with every event that is written, in this process.

    Returns:
        How it ended ("finished", "interrupted" or "failed"), and the run.

    Raises:
        UserError: a mistake in the options, or something that stops the run; it can be resumed if it has begun.
    """
    open_run = resumed_run if options.resume else continued_run if options.continued else new_run
    begin = open_run(options)
    begin = dataclasses.replace(begin, listeners=tuple(listeners))
    try:
        state = rebuild_outputs(begin, console) if begin.past.finished else run_search(options, begin, console)
    finally:
        begin.close()
    return state, begin
