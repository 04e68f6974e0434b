"""The journal → MLflow: a run per search, a child per trial and per finalist and seed, written in batches by a thread.

MLflow is a projection of the journal. Every run is found by its tag `sepsearch.key`, and what is written twice counts
once, so that replaying a journal through a new `Tracker` completes or rebuilds its runs and adds none.
"""

import contextlib
import logging
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sepsearch.search.events import Event
from sepsearch.tracking.mapping import Projection
from sepsearch.tracking.records import PARENT
from sepsearch.tracking.server_errors import first_line, refusal, refused_status, served, why_away, without_password
from sepsearch.tracking.turn import Turn
from sepsearch.tracking.writer import Writer
from sepsearch.utils.errors import UserError
from sepsearch.utils.home import home_problem
from sepsearch.utils.terminal_text import write_line

# Seconds to wait for an answer where MLflow is away; and up to which a failure is quick enough to try again at once.
PATIENCE = 5.0


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else mlflow.db in the working directory (MLflow itself might choose an old `mlruns`)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _default_uri()


def _default_uri() -> str:
    path = str(Path("mlflow.db").absolute())
    return f"sqlite:///{path.replace('%', '%25').replace('?', '%3F')}"  # what SQLAlchemy would take for its own


def database_file(uri: str) -> Path | None:
    """The file of an SQLite store's address; None for any other store."""
    return Path(unquote(uri.removeprefix("sqlite:///"))) if uri.startswith("sqlite:///") else None


def ui_command(uri: str | None = None) -> str:
    """What to type to look at the runs at a `uri`, or at `tracking_uri()`; for a server, its address."""
    uri = uri or tracking_uri()
    if served(uri):
        return without_password(uri)
    if uri == _default_uri():
        uri = "sqlite:///mlflow.db"
    return f"mlflow ui --backend-store-uri {shlex.quote(uri)} --host 127.0.0.1 --port 5000"


def import_mlflow() -> Any:
    """The mlflow module, made quiet and kept from reporting its use to its makers; takes 2 to 3 s the first time."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Whatever the user has set: a call whose answer was lost is repeated there, and makes a second run. The tracker
    # looks first, then tries again, and keeps its work meanwhile.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        import mlflow
    except RuntimeError as error:  # it looks for the home folder
        raise UserError(f"MLflow needs a home folder, and {home_problem()}: set HOME to a folder") from error

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.ERROR)  # three lines at every try to reach a database
    return mlflow


def _artifact_location(uri: str, experiment: str) -> str | None:
    """With a database and no server: `mlartifacts` beside the database or, for a remote one, in the working directory.

    MLflow would take `./mlruns`, whose name has it look for its old file store there. A server decides by itself.
    """
    if served(uri):
        return None
    file = database_file(uri) or Path("mlflow.db")
    return (file.parent / "mlartifacts" / experiment).absolute().as_uri()


def connect(uri: str) -> Any:
    """An MLflow client of the tracking store and the registry at `uri`."""
    mlflow = import_mlflow()
    if not served(uri):
        import mlflow.store.db.utils as databases

        databases.MAX_RETRY_COUNT = 1  # it would try for 100 s to open a database that cannot be opened
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def make_writer(
    uri: str,
    refused: Callable[[str], None],
    folder: Path | None = None,
    connect: Callable[[str], Any] = connect,
) -> Writer:
    """What writes to MLflow at `uri`; see `Writer` for `refused`, `Turn` for `folder`."""
    return Writer(lambda: connect(uri), lambda name: _artifact_location(uri, name), refused, Turn(folder))


class Tracker:
    """Listens to a journal and keeps MLflow in step: `journal.listen(tracker.handle)`, `tracker.close()` at the end.

    A thread writes, at most every `interval` seconds. While the server is away everything is kept, and sent when it is
    back; what a process could not send before it ended is sent by replaying the journal through another tracker, or by
    `python -m sepsearch.track`.

    Args:
        uri: MLflow's address; `tracking_uri()` if None.
        folder: of the run; keeps `sepsearch.track` from writing the same at the same time, and has the report page,
            pictures and audio.
        on_warning: gets one line when the server is first found away, and one when something is refused; no more.
        interval: seconds between writes; after failures it doubles, up to a minute.
        connect: makes the client of a `uri`.
    """

    def __init__(
        self,
        uri: str | None = None,
        *,
        folder: Path | None = None,
        on_warning: Callable[[str], None] = lambda text: write_line(text, error=True),
        interval: float = 2.0,
        connect: Callable[[str], Any] = connect,
    ):
        self.uri = uri or tracking_uri()
        self._on_warning, self._interval = on_warning, interval
        self._projection = Projection(folder)
        self._writer = make_writer(self.uri, self._refused, folder, connect)
        self._inbox: list[Event] = []
        self._busy, self._closed, self._lost, self._told = False, False, False, False
        self._failures = self._attempts = 0
        self._deadline = 0.0  # until then somebody waits for everything to be written
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def away(self) -> bool:
        """Whether MLflow could not be reached the last time; asking does not wait."""
        return self._failures > 0

    def handle(self, event: Event) -> None:
        """Take an event; returns at once and never raises."""
        with self._changed:
            self._inbox.append(event)
            self._changed.notify_all()

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all events so far are in MLflow; returns whether they are.

        At most `timeout` seconds; where MLflow is away already, only for one more try.
        """
        with self._changed:
            away, attempts = self.away, self._attempts
            self._deadline = max(self._deadline, time.monotonic() + timeout)
            self._changed.notify_all()
            # Of two attempts that have ended since, the second began with the server's state of now.
            self._changed.wait_for(lambda: self._idle() or (away and self._attempts >= attempts + 2), timeout)
            self._deadline = 0.0
            return self._idle() and not self._lost

    def run_id(self, id: str = PARENT, timeout: float = 30.0) -> str | None:
        """MLflow's id of the run of a trial, or a finalist and seed, or the search.

        None if MLflow is away or does not have it; waits as `flush` does, where it is away already `PATIENCE` at most.
        """
        self.flush(min(timeout, PATIENCE) if self.away else timeout)
        return None if self.away else self._writer.run_id(self._projection.search.get("run", ""), id)

    def close(self, timeout: float = 30.0) -> bool:
        """Write what is left, waiting as `flush` does; returns whether everything arrived."""
        arrived = self.flush(timeout)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(1.0 if arrived else 0.1)
        return arrived

    def _idle(self) -> bool:
        return not (self._inbox or self._busy or self._failures)

    def _work(self) -> None:
        with contextlib.suppress(Exception):
            import_mlflow()  # while the search prepares
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._inbox or self._failures or self._closed)
                if self._failures and self._hurried():
                    self._changed.wait(min(0.5, self._interval))
                else:
                    pause = min(self._interval * 2**self._failures, max(60.0, self._interval))
                    self._changed.wait_for(lambda: self._closed or self._hurried(), pause)
                if self._closed and not self._hurried():
                    return
                events, self._inbox, self._busy = self._inbox, [], True
            arrived = self._attempt(events)
            with self._changed:
                self._failures = 0 if arrived else self._failures + 1
                self._attempts += 1
                self._busy = False
                self._changed.notify_all()

    def _hurried(self) -> bool:
        return time.monotonic() < self._deadline

    def _attempt(self, events: list[Event]) -> bool:
        for event in events:
            with self._reporting(f"event {event.get('event')}"):
                self._projection.apply(event)
        with self._reporting("figures"):
            self._projection.draw()
        begin = time.monotonic()
        try:
            try:
                self._write()
            except Exception:
                if self._failures or time.monotonic() - begin > PATIENCE:
                    raise
                self._write()  # a connection that was dropped while it was idle is no outage
        except Exception as error:
            if not self._told:
                self._warn(self._trouble(error))
            self._told = True
            return False
        return True

    def _trouble(self, error: Exception) -> str:
        where = f"MLflow at {without_password(self.uri)}"
        if status := refused_status(error):
            return f"{where} refuses: {refusal(status, str(error))}; the search goes on, its runs are kept"
        return f"{where} is away ({why_away(error)}): the search goes on, its runs are kept and sent when it is back"

    def _write(self) -> None:
        self._writer.write(self._projection.search, self._projection.work)

    @contextlib.contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._refused(f"{what}: {type(error).__name__}: {first_line(error)}")

    def _refused(self, what: str) -> None:
        if not self._lost:
            self._warn(f"MLflow at {without_password(self.uri)}: not recorded: {what}; the journal has it")
        self._lost = True

    def _warn(self, text: str) -> None:
        with contextlib.suppress(Exception):
            self._on_warning(text)
