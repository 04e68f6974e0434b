"""The command `sepsearch stop`: asks the process of a run to end trials, the search or the run, and waits for that."""

import difflib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sepsearch.monitoring.messages import resume_command
from sepsearch.runs.folder import follow_run, run_storage
from sepsearch.runs.job import RUNNING, Job
from sepsearch.runs.run_folder import JOURNAL, check_name
from sepsearch.runs.state import RunState
from sepsearch.runs.stop_requests import FOLDER, StopRequest, asker, request_name, write_request
from sepsearch.search.events import Event
from sepsearch.search.journal import Follower, read_journal
from sepsearch.search.run_lock import lock_holder, seems_locked
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import is_there

LOOK_SECONDS = 0.5  # between two looks for the answer; REMOTE_LOOK_SECONDS in an object store
REMOTE_LOOK_SECONDS = 3.0
What = Literal["jobs", "search", "run"]


@dataclass(frozen=True)
class Answer:
    """What became of a request: whether the run has taken it, and a line for each thing that was asked."""

    taken: bool
    lines: tuple[str, ...]


class RunningRun:
    """A run that is at work, as seen from anywhere that reads and writes its storage.

    Args:
        runs: folder of this machine's runs.
        address: `--storage` as given; a run of this machine knows its own if None.
        name: of the run.
        copies: an empty folder of this machine for a copy of a journal that is elsewhere.

    Raises:
        UserError: there is no such run, or no process is at work on it.
    """

    def __init__(self, runs: Path, address: str | None, name: str, copies: Path):
        address = address or _own_address(runs / check_name(name, "NAME") / JOURNAL)
        folder, self.storage, remote = run_storage(runs, address, name)
        self.folder = folder
        if remote is None and not is_there(folder / JOURNAL) and seems_locked(folder / JOURNAL):
            raise UserError(
                f"{name} gets ready: nothing runs yet that could be stopped; Ctrl-C ends it in its terminal"
            )
        _, self._refresh = follow_run(runs, address, name, copies)
        self._follower, self.state = Follower(), RunState()
        self.look()
        if self.state.end:
            end = "has finished" if self.state.end == "finished" else f"is not running: it ended as {self.state.end}"
            raise UserError(f"{name} {end}: there is nothing to stop")
        if not (remote.holder() if remote else lock_holder(folder / JOURNAL)):
            raise UserError(
                f"{name} is not running: no process is at work on it, so that there is nothing to stop; it was killed,"
                f" and goes on with {resume_command(folder)}"
            )

    @property
    def local(self) -> bool:
        """Whether its storage is a folder."""
        return self.storage.local is not None

    def look(self) -> list[Event]:
        """Read on in the journal; the new events."""
        events = list(self._follower.read(self._refresh()))
        for event in events:
            self.state.handle(event)
        return events


def _own_address(journal: Path) -> str | None:
    """Where a run of this machine keeps its journal, by its copy here; None for this machine's folder."""
    first = next(read_journal(journal), {}) if is_there(journal) else {}
    settings = first.get("settings", {})
    options = settings.get("options", {}) if isinstance(settings, dict) else {}
    address = options.get("storage") if isinstance(options, dict) else None
    return address if isinstance(address, str) else None


def check_jobs(state: RunState, jobs: Sequence[str]) -> None:
    """Raise `UserError` unless all these jobs run."""
    running = ", ".join(state.running) or "none"
    for id in jobs:
        job = state.jobs.get(id)
        if job is None:
            close = difflib.get_close_matches(id, state.jobs, n=3)
            hint = f" (did you mean {', '.join(close)}?)" if close else ""
            raise UserError(f"{id}: {state.name} has no such trial{hint}, expected one that runs: {running}")
        if job.state != RUNNING:
            raise UserError(f"{id} has ended already: {_ended(job)}; expected one that runs: {running}")


def _ended(job: Job) -> str:
    return job.reason if job.state == "stopped" and job.reason else job.state


def make_request(state: RunState, what: What, jobs: Sequence[str]) -> StopRequest:
    """The request to the process that runs now; raises `UserError` where there is nothing of the kind to stop."""
    if what == "jobs":
        check_jobs(state, jobs)
    elif what == "search" and (state.configurations is not None or state.stage != "search"):
        raise UserError(
            f"{state.name}: the search is over already, and {state.stage} is what runs: name what to stop"
            f" ({', '.join(state.running) or 'nothing runs'}), or end the run with --all"
        )
    elif what == "run" and state.stage != "search" and not (state.running or state.states(state.stage)["waiting"]):
        raise UserError(f"{state.name} has trained all: it scores its models, which is only stopped by Ctrl-C there")
    return StopRequest(what=what, jobs=tuple(dict.fromkeys(jobs)), process=state.resumes, by=asker())


def ask(run: RunningRun, request: StopRequest, wait: float, progress: Callable[[str], None]) -> Answer:
    """Write a request, and wait until the run has taken it.

    Args:
        run: that is asked.
        request: what to stop.
        wait: seconds; with 0 it does not wait.
        progress: given a line while it waits.

    Raises:
        UserError: the run has not answered in time; the request is withdrawn.
    """
    id = write_request(run.storage, request)
    folder, every = run.storage / FOLDER, LOOK_SECONDS if run.local else REMOTE_LOOK_SECONDS
    if not wait:
        return Answer(False, ("asked; the run looks about every second, or every 15 s in an object store",))
    begun, seen = time.monotonic(), list[Event]()
    while folder.read(request_name(id)) is not None:
        waited = time.monotonic() - begun
        if waited > wait:
            folder.remove(request_name(id))
            raise UserError(
                f"{run.state.name} has not answered within {wait:g} s, and the request is withdrawn: it scores its"
                " models and stops nothing then, or its process hangs; see sepsearch watch, or give it more --wait"
            )
        progress(f"waiting for the run to take it, {waited:.0f} s")
        time.sleep(every)
        seen += run.look()
    seen += run.look()
    return Answer(True, tuple(_outcome(run, request, id, seen)))


def _outcome(run: RunningRun, request: StopRequest, id: str, events: Sequence[Event]) -> Iterator[str]:
    """A line for each thing that was asked, by the events of the request's id."""
    own: list[Any] = [event for event in events if event.get("request") == id]
    state = run.state
    if request.what == "run":
        yield f"the run ends; it goes on with {resume_command(run.folder)}"
    elif request.what == "search":
        over = any(event["event"] == "search_stopped" for event in own)
        yield (
            "search over: running trials end, and the finalists are trained now"
            if over
            else ("nothing was stopped: the search was over meanwhile")
        )
    else:
        stopped = {event["id"] for event in own if event["event"] == "stop"}
        for job in request.jobs:
            known = state.jobs[job]
            if job in stopped:
                yield f"{job} is stopped: it ends after its present epoch, {known.epochs} are done"
            else:
                yield f"{job} was not stopped: {_ended(known)}"


def stop_run(
    runs: Path, address: str | None, name: str, jobs: Sequence[str] | None, wait: float, progress: Callable[[str], None]
) -> tuple[StopRequest, Answer]:
    """Stop jobs of a run, its search where there are none, or all of it where `jobs` is None.

    Other arguments are those of `RunningRun` and `ask`.

    Raises:
        UserError: there is no such run or job, it is not running, or it does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="sepsearch-stop-") as copies:
        run = RunningRun(runs, address, name, Path(copies))
        request = make_request(run.state, "run" if jobs is None else "jobs" if jobs else "search", jobs or ())
        return request, ask(run, request, wait, progress)
