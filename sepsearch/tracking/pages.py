"""MLflow's pages on this machine: `mlflow ui` on loopback, opened on the view of final models."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from typing import IO

from sepsearch.tracking.server_errors import served
from sepsearch.tracking.tracker import existing_store, models_page, tracking_uri
from sepsearch.tracking.writer import EXPERIMENT
from sepsearch.utils.errors import UserError, one_line
from sepsearch.utils.output import write_note
from sepsearch.utils.terminal_text import write_line

START_SECONDS = 120.0  # for the pages to answer
HOST = "127.0.0.1"


def show_pages(uri: str | None, port: int, browser: bool) -> None:
    """Serve the pages of the store at `uri` until Ctrl-C; of a server, only name and open its page.

    Args:
        uri: MLflow's address; None for `tracking_uri()`.
        port: of the pages, on loopback.
        browser: open the page in the browser, too.

    Raises:
        UserError: there is no store or no experiment, the port is in use, or the pages do not start.
    """
    uri = uri or tracking_uri()
    page = models_page(uri, _experiment(uri), port)
    if served(uri):
        _open(page, browser)
        return
    require_port(port)
    words = ["-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", HOST, "--port", str(port)]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": os.environ.get("MLFLOW_DISABLE_TELEMETRY", "true")}
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen([sys.executable, *words], env=environment, stdout=log, stderr=log)
        try:
            _wait(server, port, log)
            _open(page, browser)
            write_note("Ctrl-C ends it")
            server.wait()
        except KeyboardInterrupt:
            pass
        finally:
            server.terminate()
            server.wait()


def _experiment(uri: str) -> str:
    """Id of the experiment in which searches are."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    with existing_store(uri, "does not list its experiments") as client:
        experiment = client.get_experiment_by_name(name)
    if experiment is None:
        raise UserError(f"MLflow has no experiment {name!r}, expected one with runs: run a search, or sepsearch.track")
    return str(experiment.experiment_id)


def require_port(port: int) -> None:
    """Raise `UserError` unless a port of this machine is free."""
    try:
        socket.create_server((HOST, port)).close()
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "expected at most 65535"
        raise UserError(f"--port {port}: cannot be listened on ({reason}): choose another") from error


def _wait(server: "subprocess.Popen[bytes]", port: int, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5).close()
            return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    log.seek(0)
    last = log.read().decode(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
    raise UserError(f"MLflow's pages did not start on port {port}: {one_line(last[0])}")


def _open(page: str, browser: bool) -> None:
    write_line(f"final models, with audio to play: {page}")
    if browser:
        webbrowser.open(page)
