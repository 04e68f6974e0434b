"""Ctrl-C and SIGTERM during a search: the first one ends it cleanly, the second one at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from sepsearch.search.protocol import StopSignal


@contextlib.contextmanager
def stopping_on_interrupt(stop: "StopSignal", console: "Console") -> Iterator[None]:
    """Ctrl-C ends the run cleanly within seconds; pressed again, at once. Signals reach the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        if stop.reason == "interrupted":
            raise KeyboardInterrupt
        stop.reason, stop.signalled = "interrupted", True
        console.print("stopping: ending trials and closing the journal (Ctrl-C again to leave at once)")

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
