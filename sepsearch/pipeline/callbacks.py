"""Functions of a Python caller that are called with every event of a run's journal."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

from sepsearch.search.events import Event
from sepsearch.utils.errors import UserError, reason_of

Callback = Callable[[Event], Any]


class Callbacks:
    """A journal listener that hands every event to a user's functions, each with a copy of its own.

    The first one that raises an exception ends the run, and no function is called any more. An exception at the run's
    last event is kept for `raise_late`: the run has ended by then, and its results are written all the same.

    Args:
        functions: called in this order; what they return is ignored.

    Raises:
        UserError: one of them cannot be called.
    """

    def __init__(self, functions: Sequence[Callback]):
        for number, function in enumerate(functions):
            if not callable(function):
                raise UserError(f"callbacks[{number}]: expected a function of one event, found {function!r}")
        self._functions = tuple(functions)
        self._error: UserError | None = None

    def handle(self, event: Event) -> None:
        """Call all functions. Raises `UserError` where one of them raised an exception."""
        for function in self._functions if self._error is None else ():
            try:
                function(copy.deepcopy(event))
            except Exception as error:
                name = getattr(function, "__qualname__", repr(function))
                problem = f"callback {name} raised {reason_of(error)} at event {event['event']!r}"
                self._error = UserError(f"{problem}: correct it, then resume the run")
                self._error.__cause__ = error
                if event["event"] != "end":
                    raise self._error from error
                return

    def raise_late(self) -> None:
        """Raise the exception of the last event, if there was one."""
        if self._error is not None:
            raise self._error
