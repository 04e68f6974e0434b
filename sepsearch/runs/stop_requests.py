"""Requests to stop a trial, a search or a run: files in the run's storage, which the running process looks for.

One request is one object of the folder `requests`, `stop-<id>.json` with a random id. It is written atomically, read
strictly, and removed once it is handled or cannot be. Nothing in it becomes a path.
"""

import contextlib
import getpass
import json
import platform
import queue
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from sepsearch.utils.errors import UserError, one_line
from sepsearch.utils.storage import StorageFolder
from sepsearch.utils.validation import STRICT, validated

FOLDER = "requests"
FILE = re.compile(r"stop-([0-9a-f]{16})\.json")
MOST_BYTES, MOST_FILES = 100_000, 100  # of a request; that are read in one look
LOCAL_SECONDS, REMOTE_SECONDS = 1.0, 15.0  # between two looks; every look asks an object store once
CLOSE_SECONDS = 10.0

JobId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")]


class StopRequest(BaseModel):
    """What is to be stopped.

    `what`: some "jobs", by their ids, the "search" (its finalists are trained then) or the whole "run", as by Ctrl-C.
    `process`: number of times that the run had been resumed when this was asked; another process of it ignores it.
    `by`: who asks, such as ann@desk, for people.
    """

    model_config = {**STRICT, "frozen": True}

    format: Literal[1] = 1
    what: Literal["jobs", "search", "run"]
    jobs: tuple[JobId, ...] = Field(default=(), max_length=1000, strict=False)
    process: int = Field(ge=0)
    by: Annotated[str, StringConstraints(max_length=100)] = ""


def asker() -> str:
    """Who uses this process: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{platform.node()}"[:100]


def request_name(id: str) -> str:
    """Name of a request's object."""
    return f"stop-{id}.json"


def write_request(storage: StorageFolder, request: StopRequest) -> str:
    """Write a request to a run's storage; returns its id. Raises `UserError` if it cannot be written."""
    id = secrets.token_hex(8)
    (storage / FOLDER).write(request_name(id), request.model_dump_json().encode())
    return id


def parse_request(content: bytes, where: str) -> StopRequest:
    """The request of an object's content; raises `UserError` for anything else."""
    if len(content) > MOST_BYTES:
        raise UserError(f"{where}: has {len(content)} bytes, expected at most {MOST_BYTES}: no request of sepsearch's")
    try:
        values: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: no JSON, expected a request of sepsearch's") from error
    request = validated(StopRequest, values, where)
    if not request.by.isprintable():
        raise UserError(f"{where}: by has a character that is not printable, expected user@host")
    return request


class RequestWatch:
    """Looks for requests in a thread of its own, so that a storage that does not answer delays nothing.

    Args:
        storage: of the run.
        warn: given a line about what is no request, and was removed.
        seconds: between two looks; LOCAL_SECONDS or REMOTE_SECONDS if None.
    """

    def __init__(self, storage: StorageFolder, warn: Callable[[str], None], seconds: float | None = None):
        self._folder, self._warn = storage / FOLDER, warn
        self._seconds = seconds or (LOCAL_SECONDS if storage.local else REMOTE_SECONDS)
        self._known: set[str] = set()  # ids that were read and are not removed yet
        self._read: queue.SimpleQueue[tuple[str, StopRequest]] = queue.SimpleQueue()
        self._handled: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="stop requests", daemon=True)
        self._thread.start()

    def taken(self) -> Iterator[tuple[str, StopRequest]]:
        """The requests that were read since the last call, with their ids; it never waits."""
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._read.get_nowait()

    def done(self, id: str) -> None:
        """Have a request removed, once it is handled."""
        self._handled.put(id)
        self._wake.set()

    def close(self) -> None:
        """Stop looking, and remove what is left: nothing of it is handled any more."""
        self._closed.set()
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)

    def _look_on(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(UserError):  # the storage does not answer: the next look may get through
                self._remove_handled()
                self._look()
            self._wake.wait(self._seconds)
            self._wake.clear()
        with contextlib.suppress(UserError):
            self._folder.remove_all()

    def _remove_handled(self) -> None:
        while not self._handled.empty():
            id = self._handled.get()
            self._folder.remove(request_name(id))
            self._known.discard(id)

    def _look(self) -> None:
        for name in self._folder.names()[:MOST_FILES]:
            found = FILE.fullmatch(name)
            if found and found[1] in self._known:
                continue
            content = self._folder.read(name)
            if content is None:  # withdrawn
                continue
            try:
                if not found:
                    raise UserError(f"{self._folder}/{one_line(name)}: expected stop-<16 hexadecimal digits>.json")
                request = parse_request(content, f"{self._folder}/{name}")
            except UserError as error:
                self._folder.remove(name)
                self._warn(f"{one_line(error)}: removed, and nothing is stopped")
                continue
            self._known.add(found[1])
            self._read.put((found[1], request))
