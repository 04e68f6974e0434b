"""Journal → MLflow: a run per search, a child run per trial and per finalist and seed, written in batches by a thread.

MLflow is a projection of the journal. Every run is found by its tag `sepsearch.key`, and writing is idempotent, so that
replaying a journal through a new `Tracker` completes or rebuilds its runs and adds none.
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
from sepsearch.tracking.descriptions import MODELS_VIEW
from sepsearch.tracking.mapping import Projection
from sepsearch.tracking.mlflow_internals import DATABASE_LOGGER, limit_database_retries
from sepsearch.tracking.records import PARENT
from sepsearch.tracking.server_errors import first_line, refusal, refused_status, served, why_away, without_password
from sepsearch.tracking.turn import Turn
from sepsearch.tracking.writer import Writer
from sepsearch.utils.errors import UserError, one_line
from sepsearch.utils.home import home_problem
from sepsearch.utils.output import library_level
from sepsearch.utils.programs import program
from sepsearch.utils.terminal_text import write_line

# Seconds to wait for a response where MLflow is away; a failure within this time is tried again at once.
PATIENCE = 5.0
UI_PORT = 5000


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else mlflow.db in the working directory (MLflow itself might choose an old `mlruns`)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _default_uri()


def _default_uri() -> str:
    path = str(Path("mlflow.db").absolute())
    return f"sqlite:///{path.replace('%', '%25').replace('?', '%3F')}"  # what SQLAlchemy would take for its own


def database_file(uri: str) -> Path | None:
    """File of an SQLite store's address; None for any other store."""
    return Path(unquote(uri.removeprefix("sqlite:///"))) if uri.startswith("sqlite:///") else None


def ui_command(uri: str | None = None) -> str:
    """Command that opens the runs at a `uri`, or at `tracking_uri()`; for a server, its address."""
    uri = uri or tracking_uri()
    if served(uri):
        return without_password(uri)
    return f"{program('python')} -m sepsearch.ui" + ("" if uri == tracking_uri() else f" --uri {shlex.quote(uri)}")


def models_page(uri: str, experiment: str, port: int = UI_PORT) -> str:
    """Address of the view of final models of an experiment; of a file's runs, as `sepsearch.ui` shows them.

    MLflow opens other pages by default, and has no link to saved views on them.
    """
    server = without_password(uri).rstrip("/") if served(uri) else f"http://127.0.0.1:{port}"
    return f"{server}/#/experiments/{experiment}/runs?viewStateShareKey={MODELS_VIEW}"


def import_mlflow() -> Any:
    """The mlflow module, with few log lines and without telemetry; takes 2 to 3 s the first time."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Not the user's choice: MLflow repeats a call whose response was lost, which creates a second run. The tracker
    # keeps its work, looks which runs exist, then tries again.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        import mlflow
    except RuntimeError as error:  # no home folder
        raise UserError(f"MLflow needs a home folder, and {home_problem()}: set HOME to a folder") from error

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(library_level(logging.WARNING))
    logging.getLogger(DATABASE_LOGGER).setLevel(library_level(logging.ERROR))  # three lines for every failed connection
    return mlflow


def _artifact_location(uri: str, experiment: str) -> str | None:
    """Folder of a new experiment's artifacts: `mlartifacts` beside an SQLite file, else in the working directory.

    MLflow's default `./mlruns` would make it look for its old file store there. None for a server, which has its own.
    """
    if served(uri):
        return None
    file = database_file(uri) or Path("mlflow.db")
    return (file.parent / "mlartifacts" / experiment).absolute().as_uri()


def connect(uri: str) -> Any:
    """An MLflow client of the tracking store and the registry at `uri`."""
    mlflow = import_mlflow()
    if not served(uri):
        limit_database_retries()
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextlib.contextmanager
def existing_store(uri: str, cannot: str) -> Iterator[Any]:
    """A client of a store that must exist, with any error of MLflow or its database raised as a `UserError`.

    Args:
        uri: MLflow's address.
        cannot: what fails where it does, such as "does not list its models".
    """
    database = database_file(uri)
    if database and not database.is_file():
        raise UserError(f"no MLflow database at {database}: run a search there, or set MLFLOW_TRACKING_URI")
    try:
        yield connect(uri)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"MLflow at {without_password(uri)} {cannot}: {one_line(why_away(error))}") from error


def make_writer(
    uri: str, refused: Callable[[str], None], folder: Path | None = None, connect: Callable[[str], Any] = connect
) -> Writer:
    """Writer to MLflow at `uri`; see `Writer` for `refused`, `Turn` for `folder`."""
    return Writer(lambda: connect(uri), lambda name: _artifact_location(uri, name), refused, Turn(folder))


class Tracker:
    """Journal listener that writes to MLflow: `journal.listen(tracker.handle)`, `tracker.close()` at the end.

    A thread writes, at most every `interval` seconds. While the server is away everything is kept, and sent when it is
    back. What a process did not send before it ended is sent by replaying the journal through another tracker, or by
    `python -m sepsearch.track`.

    Args:
        uri: MLflow's address; `tracking_uri()` if None.
        folder: of the run: run report, pictures and audio, and the lock that keeps `sepsearch.track` from writing, too.
        on_warning: gets one line when the server is first found away, and one when something is refused; no more.
        interval: seconds between writes; after failures it doubles, up to a minute.
        connect: creates the client of a `uri`.
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
        self._busy = self._closed = self._lost = self._warned = False
        self._failures = self._attempts = 0
        self._deadline = 0.0  # a caller of `flush` waits until then
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def page(self) -> str:
        """Address of the view of final models; "" where nothing was written yet."""
        return models_page(self.uri, self._writer.experiment) if self._writer.experiment else ""

    @property
    def away(self) -> bool:
        """Whether the last attempt failed; does not block."""
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
        """MLflow's id of the run of a trial, a finalist and seed, or the search; None if MLflow is away or has none.

        Waits as `flush` does, where MLflow is away already at most `PATIENCE`.
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
                self._write()  # an idle connection that was dropped is no outage
        except Exception as error:
            if not self._warned:
                self._warn(self._trouble(error))
            self._warned = True
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
