"""A real `mlflow server` that is never there, is killed, or loses answers: all arrives in the end, nothing twice."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from event_fixtures import histories, interrupted_story, journal, runs, steps, story, write_run

from sepsearch import track
from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import ModelCard, save_model
from sepsearch.tracking import mapping
from sepsearch.tracking.registry import register_model, resolve_model
from sepsearch.tracking.tracker import Tracker, connect
from sepsearch.utils.errors import UserError

EVENTS = journal(story())
UNITS = ("t0000", "t0001", "t0002", "c0-s0", "c0-s1")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Server:
    """`mlflow server` on loopback with its database in a folder."""

    def __init__(self, folder: Path):
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--workers",
            "1",
            "--backend-store-uri",
            f"sqlite:///{self.folder / 'mlflow.db'}",
            "--artifacts-destination",
            str(self.folder / "artifacts"),
        ]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
        # Without the processes that run jobs of its language-model pages.
        environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        """Until it answers."""
        while True:
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return
            time.sleep(0.1)

    def kill(self) -> None:
        """At once, with all that it started."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def starting(empty_store, tmp_path_factory) -> Iterator[Server]:
    """A server that has been started but need not answer yet."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder)
    server = Server(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(starting) -> Server:
    starting.wait()
    return starting


@pytest.fixture(autouse=True)
def own_experiment(request, monkeypatch, starting):
    """Tests share a server; no figures, which take longer than all the rest."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.name)
    monkeypatch.setattr(mapping, "draw_curves", lambda *_: iter(()))


class Told(list):
    """Warnings, and an event for the first one."""

    def __init__(self):
        super().__init__()
        self.first = threading.Event()

    def __call__(self, text):
        self.append(text)
        self.first.set()


def expected(events, ids):
    return {id: steps(events, id) for id in ids}


class LossyProxy:
    """A way to a server that loses, once each, the answers to calls whose path holds one of some words."""

    def __init__(self, port: int, *lose: bytes):
        self._target, self._lose = port, list(lose)
        self.lost: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                doomed = threading.Event()
                threading.Thread(target=self._pump, args=(near, far, doomed, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, doomed, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, doomed: threading.Event, asking: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                for word in [word for word in self._lose if asking and word in data.partition(b"\r\n")[0]]:
                    self._lose.remove(word)
                    self.lost.append(word)
                    doomed.set()
                if not asking and doomed.is_set():
                    break  # the server has done it, and nobody hears of it
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def lossy(server: Server, *lose: bytes) -> Iterator[LossyProxy]:
    with contextlib.closing(LossyProxy(server.port, *lose)) as proxy:
        yield proxy


# These need no server: meanwhile it starts.
class Stranger(BaseHTTPRequestHandler):
    """Answers everything with one status and a page."""

    status = 500

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"<html>\n<body>Who is there?</body>\n</html>")

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


@pytest.fixture(params=[200, 401, 403, 404, 500, "hangs"])
def strange(request, monkeypatch) -> Iterator[str]:
    """The address of something that is no MLflow."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    if request.param == "hangs":
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            yield f"http://127.0.0.1:{deaf.getsockname()[1]}"
        return
    handler = type("Handler", (Stranger,), {"status": request.param})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def test_whatever_answers_in_mlflows_place_costs_one_warning_of_one_line(strange, tmp_path, monkeypatch):
    warnings = Told()
    tracker = Tracker(strange, interval=0.01, on_warning=warnings)
    for event in EVENTS:
        tracker.handle(event)
    assert warnings.first.wait(60)
    assert tracker.close(1) is False
    assert len(warnings) == 1
    assert "\n" not in warnings[0]
    monkeypatch.setattr("sepsearch.tracking.rebuild.TRIES", 1)
    write_run(tmp_path / "runs" / "duets", EVENTS)
    with pytest.raises(UserError, match=r"cannot be reached|refuses|no MLflow server") as caught:
        track.main(["duets", "--runs", str(tmp_path / "runs"), "--uri", strange])
    assert "\n" not in str(caught.value)


def test_a_database_that_cannot_be_made_costs_one_warning():
    warnings = Told()
    tracker = Tracker("sqlite:////proc/none/mlflow.db", interval=0.01, on_warning=warnings)
    for event in EVENTS:
        tracker.handle(event)
    assert warnings.first.wait(60)
    assert tracker.close(1) is False
    assert len(warnings) == 1


def test_a_server_that_never_was_there_is_told_once_and_track_brings_all_to_one_that_is(server, tmp_path):
    warnings = Told()
    tracker = Tracker(f"http://127.0.0.1:{free_port()}", interval=0.01, on_warning=warnings)
    for event in EVENTS:
        tracker.handle(event)
    assert warnings.first.wait(60)
    assert tracker.away
    assert tracker.run_id() is None
    assert tracker.close() is False
    assert len(warnings) == 1
    assert "away (Connection refused): the search goes on" in warnings[0]
    write_run(tmp_path / "runs" / "duets", EVENTS)
    for _ in range(2):
        track.main(["duets", "--runs", str(tmp_path / "runs"), "--uri", server.uri])
        assert len(runs(server.uri)) == 6
        assert histories(server.uri) == expected(EVENTS, UNITS)


def test_a_server_that_is_killed_midway_gets_everything_once_when_it_is_back(server):
    warnings = Told()
    tracker = Tracker(server.uri, interval=0.01, on_warning=warnings)
    for event in EVENTS[:6]:
        tracker.handle(event)
    assert tracker.flush(60)
    for event in EVENTS[6:12]:
        tracker.handle(event)
    server.kill()
    for event in EVENTS[12:]:
        tracker.handle(event)
    assert warnings.first.wait(60)
    server.start()
    server.wait()
    assert tracker.close(60)
    assert len(warnings) == 1
    assert "away" in warnings[0]
    found = runs(server.uri)
    assert set(found) == {"duets", *UNITS}
    assert histories(server.uri) == expected(EVENTS, UNITS)
    assert {run.info.status for run in found.values()} == {"FINISHED", "FAILED"}


def test_a_server_whose_answers_are_lost_after_the_deed_makes_no_run_and_no_metric_twice(server):
    warnings = Told()
    events = journal(interrupted_story())
    with lossy(server, b"runs/create", b"runs/log-batch", b"runs/update", b"experiments/create") as proxy:
        tracker = Tracker(proxy.uri, interval=0.01, on_warning=warnings)
        for event in events:
            tracker.handle(event)
            tracker.flush(60)
        assert tracker.close(60)
        assert len(proxy.lost) == 4
    assert len(warnings) <= 1
    assert set(runs(server.uri)) == {"duets", "t0000", "t0001"}
    assert histories(server.uri) == expected(events, ("t0000", "t0001"))


def test_a_model_is_registered_once_though_answers_are_lost(server, tmp_path, monkeypatch):
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    config = make_config({"filters": 2, "activation": "silu"})
    figures = {"scores": {"ratio": 0.5}, "baselines": {"validation": {"identity": 1.0, "gain": 0.9}}}
    card = ModelCard(instrument="vn", config=config, front_end=FrontEnd(), constant=1.0, search="duets", **figures)
    save_model(tmp_path / "vn", make_network(config).eval(), card)
    client = connect(server.uri)
    experiment = client.create_experiment("models")
    run = client.create_run(experiment).info.run_id
    lose = (b"POST /api/2.0/mlflow/logged-models HTTP", b"model-versions/create", b"registered-models/alias")
    with lossy(server, *lose) as proxy:
        for _ in lose:
            with pytest.raises(Exception, match="failed with exception"):
                register_model(tmp_path / "vn", run, proxy.uri)
        assert set(proxy.lost) == set(lose)
        assert register_model(tmp_path / "vn", run, proxy.uri).address == "models:/sepsearch-vn/1"
    assert len(client.search_logged_models([experiment])) == 1
    assert len(client.search_model_versions("name = 'sepsearch-vn'")) == 1
    assert resolve_model("models:/sepsearch-vn@champion", server.uri).is_dir()
