"""Handles requests to stop a trial, a search or a run in the process that runs it; see `runs.stop_requests`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sepsearch.runs.stop_requests import RequestWatch, StopRequest
from sepsearch.search.protocol import INTERRUPTED, SEARCH_BY_HAND
from sepsearch.search.scheduler import SearchPlan
from sepsearch.utils.storage import StorageFolder

if TYPE_CHECKING:
    from sepsearch.search.protocol import StoppablePlan, StopSignal


class HandStops:
    """Applies the requests of a `RequestWatch` to the plan of the present stage.

    Args:
        watch: reads requests.
        stop: the run's stop signal.
        process: number of times that the run was resumed; requests to another process of it are ignored.
        say: prints a line.
    """

    def __init__(self, watch: RequestWatch, stop: "StopSignal", process: int, say: Callable[[str], None]):
        self._watch, self._stop, self._process, self._say = watch, stop, process, say

    def apply(self, plan: "StoppablePlan") -> None:
        """Handle what was asked since the last call; it waits for nothing. A request is removed after its events."""
        for id, request in self._watch.taken():
            self._handle(id, request, plan)
            self._watch.done(id)

    def close(self) -> None:
        """Look for no more requests."""
        self._watch.close()

    def _handle(self, id: str, request: StopRequest, plan: "StoppablePlan") -> None:
        by = request.by or "somebody"
        if request.process != self._process:
            self._say(f"note: a request by {by} to an earlier process of this run was ignored")
        elif request.what == "run":
            self._stop.reason = INTERRUPTED
            self._say(f"stopping, as {by} asks: ending trials and closing the journal")
        elif request.what == "search":
            searching = isinstance(plan, SearchPlan)
            problem = plan.stop_search(by, id) if isinstance(plan, SearchPlan) else "the search is over already"
            if searching and not problem:
                self._stop.reason = self._stop.reason or SEARCH_BY_HAND
                self._say(f"search over, as {by} asks: running trials end, and the finalists are trained")
            else:
                self._say(f"note: {by} asks to end the search: {problem}")
        else:
            for job in request.jobs:
                problem = plan.stop(job, by, id)
                self._say(
                    f"note: {by} asks to stop {job}: {problem}"
                    if problem
                    else f"{job:7} is stopped, as {by} asks: it ends after its present epoch"
                )


def watch_requests(storage: StorageFolder, stop: "StopSignal", process: int, say: Callable[[str], None]) -> HandStops:
    """Begin to look for requests in a run's storage; arguments as `HandStops` has them."""
    return HandStops(RequestWatch(storage, lambda line: say(f"warning: {line}")), stop, process, say)
