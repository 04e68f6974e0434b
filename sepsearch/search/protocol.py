"""Interface between a plan of jobs and the stage that runs them: plan, outcomes, retries, stop signal, resources."""

import contextlib
import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from sepsearch.search.events import EpochEvent, Event, JobEndEvent, RetryEvent, StopEvent
from sepsearch.search.events import Params as Params
from sepsearch.utils.errors import StorageFault, UserError
from sepsearch.utils.storage import StorageFolder

INTERRUPTED, TIME_BUDGET = "interrupted", "time budget"
BY_HAND, SEARCH_BY_HAND = "stopped by hand", "search stopped by hand"  # of one job, of all trials of a search


ENVIRONMENT, STORAGE = "environment", "storage"  # causes of an end that are not the configuration's


@dataclass(frozen=True)
class JobOutcome:
    """Outcome of a job's attempt.

    `how`: by itself or by the plan ("returned"), from outside ("halted"), by an exception ("raised"), with its worker
    or its node ("died"), or not at all: "deferred", to be handed out again from its last checkpoint, and nothing is
    counted. `reason` is for people; `cause` is STORAGE where its worker could not write or read its files.
    """

    how: Literal["returned", "halted", "raised", "died", "deferred"] = "returned"
    reason: str = ""
    cause: str = ""


RETURNED = JobOutcome()


def reopens(event: JobEndEvent) -> bool:
    """Whether a job goes on in a resumed run: if it was interrupted, or failed because of its environment.

    That is: its worker died too often, or its node did not see the storage. Older journals have no `cause`: there it
    follows from the reason.
    """
    if event["reason"] == INTERRUPTED:
        return True
    if event["state"] != "failed":
        return False
    if "cause" in event:
        return event["cause"] == ENVIRONMENT
    return re.match(r"worker died|node \S+: ", event["reason"]) is not None


class Plan(Protocol):
    """What a stage trains."""

    def next(self) -> tuple[str, Params] | None:
        """Id and parameters of the next job; None when there is none now."""

    def finished(self) -> bool:
        """Whether all jobs have ended and no more will come."""

    def result(self, job: str, result: Params) -> str | None:
        """Take in an epoch's result; a reason ends the job there, None lets it go on."""

    def ended(self, job: str, outcome: JobOutcome) -> None:
        """A job's attempt ended; the plan may hand it out again."""

    def give_up(self, reason: str) -> None:
        """End all unfinished jobs: no worker will train them."""


class StoppablePlan(Plan, Protocol):
    """A plan whose jobs can be ended by hand."""

    def stop(self, job: str, by: str, request: str) -> str:
        """Have a job end after its present epoch, as `by` asks; "" if it will, or why it will not."""


class Appends(Protocol):
    """The part of a journal that a plan uses."""

    def append(self, event: Event) -> None:
        """Write an event."""


def epoch_event(kind: Literal["epoch", "final_epoch", "fold_epoch"], id: str, result: Params) -> EpochEvent:
    """The event of an epoch, from what its worker has reported."""
    return {
        "event": kind,
        "id": id,
        "epoch": result["epoch"],
        "ratio": result["ratio"],
        "seconds": result["seconds"],
        "examples_per_second": result["examples_per_second"],
        "members": result["members"],
    }


def stop_event(job: str, by: str, request: str) -> StopEvent:
    """The event of a job that somebody asks to end, with a request of this id."""
    return {"event": "stop", "id": job, "by": by, "request": request}


class Attempts:
    """Jobs that wait to be handed out again, and how often the worker of each has died.

    Args:
        limit: how often a job is tried again after its worker's death.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.deaths: dict[str, int] = {}
        self.waiting: list[str] = []
        self._storage: set[str] = set()

    def again(self, job: str, outcome: JobOutcome) -> int | None:
        """The number of the attempt to come after a death, or None when there were enough.

        Raises:
            StorageFault: there were enough, and every time the worker could not write or read its files.
        """
        deaths = self.deaths.get(job, 0) + 1
        if deaths > self.limit and outcome.cause == STORAGE:
            raise StorageFault(f"{job}: {outcome.reason} ({deaths} times)")
        return deaths if deaths <= self.limit else None

    def count(self, event: RetryEvent) -> None:
        """Take in an event "retry"."""
        self.deaths[event["id"]] = event["attempt"]
        if event.get("cause") == STORAGE:
            self._storage.add(event["id"])

    def withdraw(self, job: str) -> bool:
        """Take a job out of those that wait; whether it was one of them."""
        waits = job in self.waiting
        if waits:
            self.waiting.remove(job)
        return waits

    def resume(self, reopened: Iterable[str]) -> None:
        """Reset the counts of jobs that had failed by deaths, and of those that failed by a storage fault."""
        for job in {*reopened, *self._storage}:
            self.deaths.pop(job, None)
        self._storage.clear()

    def failure(self, job: str, outcome: JobOutcome) -> str:
        """Why a job that is not tried again has failed."""
        if outcome.how == "died" and self.limit:
            return f"{outcome.reason} ({self.deaths.get(job, 0) + 1} times)"
        return outcome.reason or "the worker returned early"


def retry_event(job: str, outcome: JobOutcome, epochs: int, attempt: int) -> RetryEvent:
    """The event of a job that is tried again after its worker's death."""
    event: RetryEvent = {"event": "retry", "id": job, "reason": outcome.reason, "epochs": epochs, "attempt": attempt}
    return {**event, "cause": outcome.cause} if outcome.cause else event


def remove_checkpoints(storage: StorageFolder | None, jobs: Iterable[str]) -> None:
    """Remove the checkpoints of jobs that have ended; what cannot be removed now is removed at the end of the run."""
    if storage is not None:
        with contextlib.suppress(UserError):
            storage.remove(*(f"{job}.checkpoint" for job in jobs))


@dataclass
class StopSignal:
    """Request to stop all jobs, with its reason: set by a signal handler, by the deadline or by hand.

    `deadline` is in seconds of `time.monotonic`; `signalled`: a signal such as that of Ctrl-C has set the reason.
    """

    deadline: float | None = None
    reason: str = field(default="", init=False)
    signalled: bool = field(default=False, init=False)

    def check(self) -> str:
        """The reason to stop, or an empty string."""
        if not self.reason and self.deadline is not None and time.monotonic() > self.deadline:
            self.reason = TIME_BUDGET
        return self.reason

    def end_search(self) -> None:
        """Remove the deadline, and a reason that ends the search alone, for the stages after it."""
        self.deadline = None
        if self.reason in (TIME_BUDGET, SEARCH_BY_HAND):
            self.reason = ""


@dataclass(frozen=True)
class Workers:
    """Concurrency, and the resources of each job."""

    concurrent: int
    cpus: float
    gpus: float

    def fit(self, resources: Mapping[str, float]) -> int:
        """How many jobs run at once on a node with these resources."""
        fits = [resources.get("CPU", 0.0) / self.cpus]
        if self.gpus:
            fits.append(resources.get("GPU", 0.0) / self.gpus)
        return min(math.floor(min(fits) + 1e-9), self.concurrent)
