"""Idempotent writer of `Work` to MLflow, also after lost responses, batches and processes.

A run is found by its tag `sepsearch.key`, an epoch's metrics go in one call, and what MLflow has is not sent again.
"""

import contextlib
import errno
import getpass
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sepsearch.search.events import SearchEvent
from sepsearch.tracking.descriptions import experiment_tags
from sepsearch.tracking.mlflow_internals import VIEW_TAG
from sepsearch.tracking.records import LONGEST_TAG, PARENT, Work
from sepsearch.tracking.server_errors import first_line, is_refusal, refused_status, served, user_name
from sepsearch.tracking.turn import Turn

EXPERIMENT = "sepsearch"
# MLflow's limits: 1,000 entries a call, at most 100 of them parameters and 100 tags.
METRICS_PER_CALL, OTHERS_PER_CALL = 800, 100
# Errors where the artifacts' folder is on another machine or not writable.
CLOSED_FOLDER = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EROFS)


@dataclass
class _Known:
    """A run that MLflow has, with what need not or cannot be written again.

    `steps` are those whose metrics MLflow has; None if that was not requested yet.
    """

    run_id: str
    status: tuple[str, int | None] = ("RUNNING", None)
    params: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    steps: set[int] | None = None


class Writer:
    """Writes `Work` through an MLflow client; after an exception, `Work` holds what was not written.

    Args:
        connect: creates a client.
        location: name of an experiment → its artifacts' folder; None if the server decides.
        refused: called with a line for what MLflow refused for good, which is dropped.
        turn: held while writing.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        location: Callable[[str], str | None],
        refused: Callable[[str], None],
        turn: Turn,
    ):
        self.connect, self.location, self.refused, self.turn = connect, location, refused, turn
        self.client: Any = None
        self.experiment = ""
        self.known: dict[str, _Known] = {}  # by key; filled by `_open`

    def run_id(self, run: str, id: str = PARENT) -> str | None:
        """MLflow's id of a run of the search `run`; None if it has none yet."""
        known = self.known.get(f"{run}/{id}")
        return known.run_id if known else None

    def write(self, search: SearchEvent, work: dict[str, Work], advance: Callable[[], object] = lambda: None) -> None:
        """Write everything and remove it from `work`: first contents, parents before children, then states.

        Args:
            search: the search's event.
            work: by id; the search's own run comes first.
            advance: called after every run.

        Raises:
            Exception: MLflow is away.
        """
        if not work:
            return
        try:
            with self.turn.taken() as mine:
                if not (self.client and mine):
                    self._open(search["run"])
                for run in work.values():
                    with self._dropping(run):
                        self._write_contents(search, run)
                    advance()
                for id in reversed(list(work)):
                    with self._dropping(work[id]):
                        self._write_status(search, work[id])
                    del work[id]
        except Exception:
            self.client = None  # a run may exist although the response was lost: look again next time
            raise

    @contextlib.contextmanager
    def _dropping(self, run: Work) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not is_refusal(error):
                raise
            self.refused(f"run {run.id or 'of the search'}: {first_line(error)}")
            run.tags, run.params, run.metrics, run.files, run.status = {}, {}, [], {}, None

    def _open(self, search_run: str) -> None:
        """Connect, create the experiment if there is none, and find the search's runs that exist."""
        client = self.connect()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        experiment = client.get_experiment_by_name(name)
        if experiment:
            self.experiment = experiment.experiment_id
            _renew_views(client, experiment)
        else:
            self.experiment = client.create_experiment(name, self.location(name), experiment_tags())
        found = _runs_by_key(client, self.experiment, search_run)
        self.known = {key: _the_one(client, runs) for key, runs in found.items()}
        self.client = client

    def recorded(self, search: SearchEvent) -> set[str]:
        """Ids of the search's runs that MLflow has now; raises MLflow's errors."""
        client = self.client or self.connect()
        prefix = f"{search['run']}/"
        found = _runs_by_key(client, self.experiment, search["run"]) if self.experiment else {}
        return {key.removeprefix(prefix) for key in found if key.startswith(prefix)}

    def _ensure(self, search: SearchEvent, run: Work) -> _Known:
        """The MLflow run of some work, created if there is none."""
        key = f"{search['run']}/{run.id}"
        if key not in self.known:
            tags = {"sepsearch.key": key, "sepsearch.run": search["run"], "sepsearch.name": search["name"]}
            tags |= {"mlflow.user": _user(self.client), "mlflow.source.name": "sepsearch"}
            if run.id != PARENT:
                tags["mlflow.parentRunId"] = self._parent(search)
            made = self.client.create_run(self.experiment, run.start, tags, run.name or run.id or search["name"])
            self.known[key] = _Known(made.info.run_id, tags=dict(tags), steps=set())
        return self.known[key]

    def _parent(self, search: SearchEvent) -> str:
        """MLflow's id of the search's own run."""
        known = self.known.get(f"{search['run']}/{PARENT}")
        if known is None:
            raise LookupError("the search's own run, its parent, could not be made")
        return known.run_id

    def _write_contents(self, search: SearchEvent, run: Work) -> None:
        known = self._ensure(search, run)
        if run.id != PARENT:
            # Its first parent may have been deleted in MLflow, and created again.
            run.tags["mlflow.parentRunId"] = self._parent(search)
        for key in known.params & set(run.params):
            del run.params[key]  # parameters cannot be changed
        run.tags = {key: str(value)[:LONGEST_TAG] for key, value in run.tags.items()}
        run.tags = {key: value for key, value in run.tags.items() if known.tags.get(key) != value}
        if run.metrics:
            # MLflow drops exact duplicates, but so slowly that a replay would take longer than the first writing.
            written = self._steps(known, "ratio" if run.id else "trials_completed")
            run.metrics = [metric for metric in run.metrics if metric[3] not in written]
        while run.metrics or run.params or run.tags:
            self._write_batch(known, run)
        for path in list(run.files):
            try:
                self.client.log_stream(known.run_id, io.BytesIO(run.files[path]), path)
            except OSError as error:
                if error.errno not in CLOSED_FOLDER:
                    raise
                self.refused(f"{path}: {first_line(error)}")
            del run.files[path]

    def _steps(self, known: _Known, key: str) -> set[int]:
        """Steps whose metrics MLflow has, by a key that every event writes: an event's metrics go in one call."""
        if known.steps is None:
            known.steps = {metric.step for metric in self.client.get_metric_history(known.run_id, key)}
        return known.steps

    def _write_batch(self, known: _Known, run: Work) -> None:
        """One call of `log_batch`; metrics of one event stay in one call."""
        from mlflow.entities import Metric, Param, RunTag

        size = len(run.metrics)
        if size > METRICS_PER_CALL:
            size, cut = METRICS_PER_CALL, run.metrics[METRICS_PER_CALL][2:]
            while size and run.metrics[size - 1][2:] == cut:
                size -= 1
            size = size or METRICS_PER_CALL
        params, tags = (dict(list(part.items())[:OTHERS_PER_CALL]) for part in (run.params, run.tags))
        self.client.log_batch(
            known.run_id,
            [Metric(key, value, time, step) for key, value, time, step in run.metrics[:size]],
            [Param(key, value) for key, value in params.items()],
            [RunTag(key, value) for key, value in tags.items()],
            synchronous=True,
        )
        known.params |= set(params)
        known.tags |= tags
        del run.metrics[:size]
        for part, written in ((run.params, params), (run.tags, tags)):
            for key in written:
                del part[key]

    def _write_status(self, search: SearchEvent, run: Work) -> None:
        known = self._ensure(search, run)
        if run.status is None or run.status == known.status or run.status[0] == known.status[0] == "RUNNING":
            return
        status, now = run.status
        if status == "RUNNING":
            self.client.update_run(known.run_id, status)
        else:
            self.client.set_terminated(known.run_id, status, now)
        known.status = run.status


def _renew_views(client: Any, experiment: Any) -> None:
    """Save this version's views in an experiment of an earlier one; left out without the permission to."""
    for key, text in experiment_tags().items():
        if key.startswith(VIEW_TAG) and experiment.tags.get(key) != text:
            try:
                client.set_experiment_tag(experiment.experiment_id, key, text)
            except Exception as error:
                if not is_refusal(error):
                    raise
                return


def _runs_by_key(client: Any, experiment: str, search_run: str) -> dict[str, list[Any]]:
    """The runs of a search in an experiment, by their tag `sepsearch.key`; deleted ones are left out."""
    found: dict[str, list[Any]] = {}
    token = None
    while True:
        page = client.search_runs([experiment], f"tags.`sepsearch.run` = '{search_run}'", page_token=token)
        for run in page:
            found.setdefault(run.data.tags.get("sepsearch.key", ""), []).append(run)
        token = page.token
        if not token:
            return found


def _the_one(client: Any, runs: list[Any]) -> _Known:
    """Of several runs with one key the one with most metrics and parameters; the others are deleted.

    A call that timed out can still create its run, after another was created in its place.
    """
    best, *others = sorted(runs, key=lambda run: (-len(run.data.metrics), -len(run.data.params), run.info.run_id))
    for run in others:
        _discard(client, run.info.run_id)
    return _Known(best.info.run_id, (best.info.status, best.info.end_time), set(best.data.params), dict(best.data.tags))


def _discard(client: Any, run_id: str) -> None:
    """Delete a run; without permission to delete, clear the tags by which it is found."""
    try:
        client.delete_run(run_id)
    except Exception as error:
        if refused_status(error) != 403:
            raise
        for tag in ("sepsearch.key", "sepsearch.run", "mlflow.parentRunId"):
            client.set_tag(run_id, tag, "")
        client.update_run(run_id, "KILLED", "duplicate, to be deleted")


def _user(client: Any) -> str:
    """Name of the user: at a server that of the credentials, elsewhere the system's."""
    if served(str(getattr(client, "tracking_uri", ""))) and (name := user_name()):
        return name
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in containers
        return "unknown"
