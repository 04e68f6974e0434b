"""The journal → MLflow: a run per search, a child per trial and per finalist and seed, written in batches by a thread.

MLflow is a projection of the journal. Every run is found by its tag `sepsearch.key`, and what is written twice counts
once, so that replaying a journal through a new `Tracker` mends or rebuilds its runs and adds none.
"""

import contextlib
import getpass
import logging
import os
import shlex
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sepsearch.journal import Event
from sepsearch.projection import LONGEST_TAG, PARENT, Projection, Work

EXPERIMENT = "sepsearch"
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # or MLflow's pages open in their language-model mode
    "mlflow.experiment.primaryMetric.name": "ratio",
    "mlflow.experiment.primaryMetric.greaterIsBetter": "False",
    "mlflow.note.content": "A run per search, with a child per trial (t…) and per finalist and seed (c…-s…). "
    "`ratio` is validation loss / identity loss: below 1 beats doing nothing.",
}
# MLflow's limits: 1,000 entries a call, at most 100 of them parameters and 100 tags.
METRICS_PER_CALL, OTHERS_PER_CALL = 800, 100
# Answers that asking again will not change; anything else is taken for a server that is away.
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else mlflow.db in the working directory (MLflow itself might choose an old `mlruns`)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _default_uri()


def _default_uri() -> str:
    path = str(Path("mlflow.db").absolute())
    return f"sqlite:///{path.replace('%', '%25').replace('?', '%3F')}"  # what SQLAlchemy would take for its own


def database_file(uri: str) -> Path | None:
    """The file of an SQLite store's address; None for any other store."""
    return Path(unquote(uri.removeprefix("sqlite:///"))) if uri.startswith("sqlite:///") else None


def ui_command() -> str:
    """What to type to look at the runs; for a server, its address."""
    uri = tracking_uri()
    if uri.startswith(("http://", "https://")):
        return uri
    if uri == _default_uri():
        uri = "sqlite:///mlflow.db"
    return f"mlflow ui --backend-store-uri {shlex.quote(uri)} --host 127.0.0.1 --port 5000"


def import_mlflow() -> Any:
    """The mlflow module, made quiet and kept from reporting its use to its makers; takes 2 to 3 s the first time."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Its own retries block for minutes; the tracker retries, and keeps its work meanwhile.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.ERROR)  # three lines at every try to reach a database
    return mlflow


@dataclass
class _Known:
    """A run that MLflow has: its id, and what need not or cannot be written again.

    Metrics older than `complete` (ms) are there; None if they have to be asked for.
    """

    run_id: str
    params: set[str]
    status: str
    complete: int | None


class _Writer:
    """Writes `Work` through an MLflow client; after an exception what was not written is still there.

    Raises what MLflow raises when it is away; what it refuses for good is dropped and told to `refused`.
    """

    def __init__(self, uri: str, connect: Callable[[str], Any], refused: Callable[[str], None]):
        self.uri, self.connect, self.refused = uri, connect, refused
        self.client: Any = None
        self.experiment = ""
        self.known: dict[str, _Known] = {}  # by key; empty until the server was asked

    def write(self, search: Event, work: dict[str, Work]) -> None:
        """Write everything and take it out of `work`: first contents, parents before children, then states."""
        try:
            if work and not self.client:
                self._open(search["run"])
            for run in work.values():
                with self._dropping(run):
                    self._write_contents(search, run)
            for id in reversed(list(work)):
                with self._dropping(work[id]):
                    self._write_status(search, work[id])
                del work[id]
        except Exception:
            self.client = None  # a run may have been made although we never heard of it: look again next time
            raise

    @contextlib.contextmanager
    def _dropping(self, run: Work) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # A mistake in what we were given, or a child whose parent was refused, does not mend by waiting either.
            ours = isinstance(error, TypeError | LookupError | AttributeError)
            if not ours and getattr(error, "error_code", None) not in REFUSALS:
                raise
            self.refused(f"run {run.id or 'of the search'}: {_first_line(error)}")
            run.tags, run.params, run.metrics, run.files, run.status = {}, {}, [], {}, None

    def _open(self, search_run: str) -> None:
        """Connect, make the experiment if there is none, and learn which of the search's runs exist."""
        client = self.connect(self.uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        experiment = client.get_experiment_by_name(name)
        if experiment:
            self.experiment = experiment.experiment_id
        else:
            location = _artifact_location(self.uri, name)
            self.experiment = client.create_experiment(name, location, EXPERIMENT_TAGS)
        self.known, token = {}, None
        while True:
            page = client.search_runs([self.experiment], f"tags.`sepsearch.run` = '{search_run}'", page_token=token)
            for run in page:
                known = _Known(run.info.run_id, set(run.data.params), run.info.status, None)
                self.known[run.data.tags.get("sepsearch.key", "")] = known
            token = page.token
            if not token:
                break
        self.client = client

    def _ensure(self, search: Event, run: Work) -> _Known:
        """The MLflow run of some work, made if there is none."""
        key = f"{search['run']}/{run.id}"
        if key not in self.known:
            tags = {"sepsearch.key": key, "sepsearch.run": search["run"], "sepsearch.name": search["name"]}
            tags |= {"mlflow.user": _user(), "mlflow.source.name": "sepsearch"}
            if run.id != PARENT:
                tags["mlflow.parentRunId"] = self.known[f"{search['run']}/{PARENT}"].run_id
            made = self.client.create_run(self.experiment, run.start, tags, run.id or search["name"])
            self.known[key] = _Known(made.info.run_id, set(), "RUNNING", 0)
        return self.known[key]

    def _write_contents(self, search: Event, run: Work) -> None:
        known = self._ensure(search, run)
        for key in known.params & set(run.params):
            del run.params[key]  # parameters cannot be changed
        if known.complete is None:
            # Metrics come in the journal's order, so what is older than the last one of a key is there. MLflow drops
            # exact doubles by itself, but slowly: a replay would take longer than the first writing.
            key = "ratio" if run.id else "best_ratio"
            history = self.client.get_metric_history(known.run_id, key)
            known.complete = max((metric.timestamp for metric in history), default=0)
        run.metrics = [metric for metric in run.metrics if metric[2] >= (known.complete or 0)]
        from mlflow.entities import Metric, Param, RunTag

        while run.metrics or run.params or run.tags:
            metrics = run.metrics[:METRICS_PER_CALL]
            params, tags = (list(part.items())[:OTHERS_PER_CALL] for part in (run.params, run.tags))
            self.client.log_batch(
                known.run_id,
                [Metric(key, value, time, step) for key, value, time, step in metrics],
                [Param(key, value) for key, value in params],
                [RunTag(key, str(value)[:LONGEST_TAG]) for key, value in tags],
                synchronous=True,
            )
            known.params |= {key for key, _ in params}
            del run.metrics[: len(metrics)]
            for part, written in ((run.params, params), (run.tags, tags)):
                for key, _ in written:
                    del part[key]
        for path in list(run.files):
            _upload(self.client, known.run_id, path, run.files[path])
            del run.files[path]

    def _write_status(self, search: Event, run: Work) -> None:
        known = self._ensure(search, run)
        if run.status is None or run.status[0] == known.status == "RUNNING":
            return
        status, now = run.status
        if status == "RUNNING":
            self.client.update_run(known.run_id, status)
        else:
            self.client.set_terminated(known.run_id, status, now)
        known.status = status


def _artifact_location(uri: str, experiment: str) -> str | None:
    """With a database and no server: `mlartifacts` beside the database or, for a remote one, in the working directory.

    MLflow would take `./mlruns`, whose name has it look for its old file store there. A server decides by itself.
    """
    if uri.startswith(("http://", "https://")):
        return None
    file = database_file(uri) or Path("mlflow.db")
    return (file.parent / "mlartifacts" / experiment).absolute().as_uri()


def _upload(client: Any, run_id: str, path: str, content: bytes) -> None:
    """Write one artifact; MLflow takes files only."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, Path(path).name)
        file.write_bytes(content)
        parent = str(Path(path).parent)
        client.log_artifact(run_id, str(file), None if parent == "." else parent)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in containers
        return "unknown"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _connect(uri: str) -> Any:
    return import_mlflow().MlflowClient(tracking_uri=uri, registry_uri=uri)


class Tracker:
    """Listens to a journal and keeps MLflow in step: `journal.listen(tracker.handle)`, `tracker.close()` at the end.

    A thread writes, at most every `interval` seconds. While the server is away everything is kept, and sent when it is
    back; what a process could not send before it ended is sent by replaying the journal through another tracker.

    Args:
        uri: MLflow's address; `tracking_uri()` if None.
        on_warning: gets one line when the server is found away (once until it is back) or refuses something.
        interval: seconds between writes; after failures it doubles, up to a minute.
        connect: makes the client of a `uri`.
    """

    def __init__(
        self,
        uri: str | None = None,
        *,
        on_warning: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
        interval: float = 2.0,
        connect: Callable[[str], Any] = _connect,
    ):
        self.uri = uri or tracking_uri()
        self._on_warning, self._interval = on_warning, interval
        self._projection = Projection()
        self._writer = _Writer(self.uri, connect, self._refused)
        self._inbox: list[Event] = []
        self._busy, self._closed, self._lost = False, False, False
        self._failures = 0
        self._deadline = 0.0  # until then somebody waits for everything to be written
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def handle(self, event: Event) -> None:
        """Take an event; returns at once and never raises."""
        with self._changed:
            self._inbox.append(event)
            self._changed.notify_all()

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all events so far are in MLflow, at most `timeout` seconds; returns whether they are."""
        with self._changed:
            self._deadline = max(self._deadline, time.monotonic() + timeout)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._inbox or self._busy or self._failures), timeout)
            self._deadline = 0.0
            return not (self._inbox or self._busy or self._failures or self._lost)

    def run_id(self, id: str = PARENT, timeout: float = 30.0) -> str | None:
        """MLflow's id of the run of a trial, or a finalist and seed, or the search; None if it does not have it."""
        self.flush(timeout)
        known = self._writer.known.get(f"{self._projection.search.get('run')}/{id}")
        return known.run_id if known else None

    def close(self, timeout: float = 30.0) -> bool:
        """Write what is left, for at most `timeout` seconds; returns whether everything arrived."""
        arrived = self.flush(timeout)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(1.0 if arrived else 0.1)
        return arrived

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
        try:
            self._writer.write(self._projection.search, self._projection.work)
        except Exception as error:
            if not self._failures:
                self._warn(
                    f"MLflow at {self.uri} is away ({_first_line(error)}): the search goes on, "
                    "its runs are kept and sent when it is back"
                )
            return False
        return True

    @contextlib.contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._refused(f"{what}: {type(error).__name__}: {_first_line(error)}")

    def _refused(self, what: str) -> None:
        if not self._lost:
            self._warn(f"MLflow at {self.uri}: not recorded: {what}; the journal has it")
        self._lost = True

    def _warn(self, text: str) -> None:
        with contextlib.suppress(Exception):
            self._on_warning(text)
