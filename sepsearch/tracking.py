"""The journal → MLflow: a run per search, a child per trial and per finalist and seed, written in batches by a thread.

MLflow is a projection of the journal. Every run is found by its tag `sepsearch.key`, and what is written twice counts
once, so that replaying a journal through a new `Tracker` mends or rebuilds its runs and adds none.
"""

import contextlib
import getpass
import io
import json
import logging
import math
import os
import shlex
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import unquote

from sepsearch.instruments import INSTRUMENTS
from sepsearch.journal import Event

EXPERIMENT = "sepsearch"
PARENT = ""  # the id of the search's own run, beside those of its trials
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # or MLflow's pages open in their language-model mode
    "mlflow.experiment.primaryMetric.name": "ratio",
    "mlflow.experiment.primaryMetric.greaterIsBetter": "False",
    "mlflow.note.content": "A run per search, with a child per trial (t…) and per finalist and seed (c…-s…). "
    "`ratio` is validation loss / identity loss: below 1 beats doing nothing.",
}
MEMBER_METRICS = ("ratio", "val_loss", "train_loss", "identity_loss", "gradient_norm", "zero_share")
STATUS = {"completed": "FINISHED", "stopped": "FINISHED", "finished": "FINISHED", "failed": "FAILED"}  # else KILLED
# MLflow's limits: 1,000 entries a call (100 of them parameters, 100 tags), 6,000 characters a parameter, 8,000 a tag.
METRICS_PER_CALL, OTHERS_PER_CALL, LONGEST_PARAM, LONGEST_TAG = 800, 100, 6000, 8000
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
class _Work:
    """What is still to be written of one MLflow run. Times are in ms; a metric is (key, value, time, step)."""

    id: str
    start: int
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[tuple[str, float, int, int]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    status: tuple[str, int] | None = None

    def metric(self, key: str, value: object, time: int, step: int = 0) -> None:
        """Add a metric, unless it is no finite number (MLflow would turn infinity into 1.8e308)."""
        if isinstance(value, int | float) and math.isfinite(value):
            self.metrics.append((key, float(value), time, step))


class _Projection:
    """Turns events into `_Work`; knows nothing of MLflow."""

    def __init__(self) -> None:
        self.work: dict[str, _Work] = {}
        self.search: Event = {}
        self.starts: dict[str, int] = {}
        self.open: set[str] = set()
        self.ratios: dict[str, float] = {}
        self.jumps: Counter[str] = Counter()
        self.states: Counter[str] = Counter()
        self.best = math.inf
        self.reference: set[str] = set()  # the ids of the report's trial and finalist
        self.curves: dict[str, dict[str, list[tuple[int, float]]]] = {}  # instrument → id → (epoch, validation loss)
        self.identity: dict[str, float] = {}
        self.scores: Event = {}
        self.models: Mapping[str, str] = {}
        self.outdated = False  # the figures

    def apply(self, event: Event) -> None:
        """Add what follows from one event to `work`."""
        kind, now = event["event"], int(event["time"] * 1000)
        if not self.search and kind != "search":
            raise ValueError("no search event came before it")
        if kind != "end" and kind != "search" and PARENT not in self.open:  # it is resumed
            self._begin(PARENT, now)
        match kind:
            case "search":
                self._search(event, now)
            case "trial" | "final":
                self._child(event, now)
            case "epoch" | "final_epoch":
                self._epoch(event, now)
            case "trial_end" | "final_end":
                self._finish(event, now)
            case "finalists":
                self.reference |= {c["id"] for c in event["configurations"] if c["reference"]}
                self._run(PARENT, now).tags["finalists"] = ", ".join(
                    f"{c['id']} = {c['trial']}" for c in event["configurations"]
                )
                self.outdated = True
            case "scores":
                self._scores(event, now)
            case "registered":
                self.models = event["models"]
                self._run(PARENT, now).tags.update({f"model/{code}": uri for code, uri in self.models.items()})
                self._describe(now)
            case "end":
                self._end(event, now)

    def _run(self, id: str, now: int) -> _Work:
        return self.work.setdefault(id, _Work(id, self.starts.setdefault(id, now)))

    def _begin(self, id: str, now: int) -> _Work:
        run = self._run(id, now)
        run.tags["state"] = "running"
        run.status = ("RUNNING", now)
        self.open.add(id)
        return run

    def _close(self, id: str, now: int, state: str) -> _Work:
        run = self._run(id, now)
        run.tags["state"] = state
        run.status = (STATUS.get(state, "KILLED"), now)
        self.open.discard(id)
        return run

    def _search(self, event: Event, now: int) -> None:
        self.search = event
        self.reference.add(event.get("reference", ""))
        run = self._begin(PARENT, now)
        dataset = dict(event["dataset"])
        run.tags |= {"stage": "search", "fingerprint": dataset.pop("fingerprint", "")}
        run.tags["versions"] = ", ".join(f"{name} {version}" for name, version in event["versions"].items())
        dataset.pop("split", None)  # in the file
        run.params |= _flat(event["settings"]) | _flat(dataset, "dataset/")
        run.files["space.yaml"] = _yaml(event["space"])
        run.files["dataset.yaml"] = _yaml({**event["dataset"], "baselines": event["baselines"]})
        self._describe(now)

    def _child(self, event: Event, now: int) -> None:
        run = self._begin(event["id"], now)
        run.params |= _flat(event["params"])
        if event["event"] == "trial":
            run.tags |= {"stage": "trial"} | ({"reference": "true"} if event["id"] in self.reference else {})
            return
        run.tags |= {"stage": "finalist", "configuration": event["configuration"], "seed": str(event["seed"])}
        if event["configuration"] in self.reference:
            self.reference.add(event["id"])
            run.tags["reference"] = "true"

    def _epoch(self, event: Event, now: int) -> None:
        id, epoch = event["id"], event["epoch"]
        run = self._run(id, now)
        self.ratios[id] = math.nan if event["ratio"] is None else event["ratio"]
        run.metric("ratio", event["ratio"], now, epoch)
        run.metric("examples_per_second", event.get("examples_per_second"), now, epoch)
        for member in event["members"]:
            code = member["instrument"]
            for key in MEMBER_METRICS:
                run.metric(f"{key}/{code}", member.get(key), now, epoch)
            self.jumps[id] += bool(member.get("discontinuity"))
            if member.get("identity_loss") is not None:
                self.identity[code] = member["identity_loss"]
            if member.get("val_loss") is not None:
                self.curves.setdefault(code, {}).setdefault(id, []).append((epoch, member["val_loss"]))
        run.metric("discontinuities", self.jumps[id], now, epoch)

    def _finish(self, event: Event, now: int) -> None:
        id, state = event["id"], event["state"]
        run = self._close(id, now, state)
        run.tags |= {"reason": event.get("reason") or "", "epochs": str(event["epochs"])}
        if event.get("weights"):
            run.tags["weights"] = event["weights"]
        if event["event"] == "final_end":
            return
        self.states[state] += 1
        parent, step = self._run(PARENT, now), self.states.total()
        for name in ("completed", "stopped", "failed"):
            parent.metric(f"trials_{name}", self.states[name], now, step)
        # A trial that was stopped early is no candidate: only those with the full budget are compared.
        if state == "completed" and event["epochs"] >= self.search["settings"].get("epochs", 0):
            self.best = min(self.best, self.ratios.get(id, math.inf))
        parent.metric("best_ratio", self.best, now, step)

    def _scores(self, event: Event, now: int) -> None:
        self.scores = event
        run, final, reference = self._run(PARENT, now), event["final"], event["reference_final"]
        for code, scores in final.items():
            run.metric(f"final_ratio/{code}", scores["ratio"], now)
            for key in ("test_ratio", "si_sdr_gain_db", "identity_loss"):
                run.metric(f"{key}/{code}", scores.get(key), now)
        for code, scores in reference.items():
            run.metric(f"reference_ratio/{code}", scores["ratio"], now)
        for key, table in (("final_ratio_mean", final), ("reference_ratio_mean", reference)):
            ratios = [scores["ratio"] for scores in table.values() if scores["ratio"] is not None]
            run.metric(key, fmean(ratios) if ratios else None, now)
        self._describe(now)

    def _end(self, event: Event, now: int) -> None:
        for id in sorted(self.open - {PARENT}):
            self._close(id, now, "interrupted")
        run = self._close(PARENT, now, event["state"])
        for stage, seconds in (event.get("seconds") or {}).items():
            run.metric(f"seconds/{stage}", seconds, now)
        self.outdated = True

    def _describe(self, now: int) -> None:
        text = describe(self.search, self.scores, self.models)
        self._run(PARENT, now).tags["mlflow.note.content"] = text

    def draw(self) -> None:
        """Add the figures, if events since the last time call for them (once for many events: they take seconds)."""
        if not self.outdated:
            return
        self.outdated = False
        run = self._run(PARENT, self.starts[PARENT])
        for name, figure in draw_curves(self.curves, self.identity, self.reference):
            run.files[f"curves/{name}.png"] = _png(figure)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values as MLflow parameters: {"a": {"b": 1}} → {"a/b": "1"}."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}/")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
            flat[f"{prefix}{key}"] = text[:LONGEST_PARAM]
    return flat


def _yaml(value: object) -> bytes:
    import yaml

    plain = json.loads(json.dumps(value, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).encode()


def describe(search: Event, scores: Event, models: Mapping[str, str]) -> str:
    """The search in Markdown, as MLflow shows it on the run's page; `scores` and `models` are empty until the end."""
    lines = []
    if scores:
        lines += [
            "| instrument | ratio | mean ± sd of seeds | test ratio | SI-SDR gain | the report's ratio | model |",
            "|---|---|---|---|---|---|---|",
        ]
        for code, row in scores["final"].items():
            reference = scores["reference_final"].get(code, {}).get("ratio")
            spread = f"{_short(row['ratio_mean'])} ± {_short(row['ratio_sd'])}"
            cells = [INSTRUMENTS.get(code, code), f"**{_short(row['ratio'])}**", spread, _short(row["test_ratio"])]
            cells += [f"{_short(row['si_sdr_gain_db'], 1)} dB", _short(reference), models.get(code, "")]
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", "Ratio = validation loss / identity loss: below 1 beats doing nothing.", ""]
    data, settings = search["dataset"], search["settings"]
    lines.append(
        f"{data['pieces']} pieces, {data['clips']} clips, {data['rows']} rows from {data['source']}; "
        f"{settings.get('trials', '?')} trials of up to {settings.get('epochs', '?')} epochs. "
        "Split and baselines: artifact `dataset.yaml`; validation loss beside identity loss: artifacts `curves/`."
    )
    lines += ["", *(f"- **{INSTRUMENTS.get(code, code)}**: {text}" for code, text in search["caveats"].items())]
    return "\n".join(lines)[:LONGEST_TAG]


def _short(value: object, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) and math.isfinite(value) else "–"


def draw_curves(
    curves: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]], identity: Mapping[str, float], reference: set[str]
) -> Iterator[tuple[str, Any]]:
    """Figures of the validation loss by epoch of every trial and finalist, beside the identity loss.

    Args:
        curves: instrument → trial, or finalist and seed ("c0-s1") → (epoch, loss).
        identity: instrument → identity loss.
        reference: ids that train the report's configuration; they get a colour of their own.

    Yields:
        ("all", matplotlib figure of all instruments), then one for each instrument's code.
    """
    from matplotlib.figure import Figure  # no pyplot: it is not made for threads

    codes = [code for code in INSTRUMENTS if code in curves]
    if not codes:
        return
    columns = min(4, len(codes))
    rows = -(-len(codes) // columns)
    for name, shown, grid in [("all", codes, (rows, columns)), *((code, [code], (1, 1)) for code in codes)]:
        figure = Figure(figsize=(max(7, 4 * grid[1]), max(4.5, 3 * grid[0])), layout="constrained")
        panels = list(figure.subplots(*grid, squeeze=False).flat)
        for panel in panels[len(shown) :]:
            panel.set_axis_off()
        for code, panel in zip(shown, panels, strict=False):
            _draw_instrument(panel, code, curves[code], identity.get(code, math.nan), reference)
        lines = {line.get_label(): line for panel in panels for line in panel.lines if line.get_label()[0] != "_"}
        figure.legend(lines.values(), lines, loc="outside lower center", ncols=5, frameon=False)
        yield name, figure


def _draw_instrument(
    panel: Any, code: str, curves: Mapping[str, Sequence[tuple[int, float]]], identity: float, reference: set[str]
) -> None:
    styles = {
        (False, False): ("trials", "0.75", 0.8),
        (False, True): ("the report's trial", "tab:orange", 1.4),
        (True, False): ("finalists", "tab:blue", 1.2),
        (True, True): ("the report, retrained", "tab:red", 1.2),
    }
    for id, points in curves.items():
        label, colour, width = styles["-s" in id, id in reference]
        panel.plot(*zip(*points, strict=True), label=label, color=colour, linewidth=width)
    panel.axhline(identity, color="black", linestyle="--", linewidth=1, label="identity: doing nothing")
    worst = max([loss for points in curves.values() for _, loss in points], default=0.0)
    # What is worse than one and a half times the identity need not be seen.
    panel.set_ylim(0, 1.5 * identity if math.isfinite(identity) else worst)
    panel.set_title(f"{INSTRUMENTS[code]} ({code})")
    panel.set_xlabel("epoch")
    panel.set_ylabel("validation loss")


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


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
    """Writes `_Work` through an MLflow client; after an exception what was not written is still there.

    Raises what MLflow raises when it is away; what it refuses for good is dropped and told to `refused`.
    """

    def __init__(self, uri: str, connect: Callable[[str], Any], refused: Callable[[str], None]):
        self.uri, self.connect, self.refused = uri, connect, refused
        self.client: Any = None
        self.experiment = ""
        self.known: dict[str, _Known] = {}  # by key; empty until the server was asked

    def write(self, search: Event, work: dict[str, _Work]) -> None:
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
    def _dropping(self, run: _Work) -> Iterator[None]:
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

    def _ensure(self, search: Event, run: _Work) -> _Known:
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

    def _write_contents(self, search: Event, run: _Work) -> None:
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

    def _write_status(self, search: Event, run: _Work) -> None:
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
    return str((file.parent / "mlartifacts" / experiment).absolute())


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
        self._projection = _Projection()
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
