"""A team's MLflow for tests: Debian's PostgreSQL, the server as `cluster/mlflow` starts it, and users."""

import configparser
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

MLFLOW = Path(__file__).parents[2] / "cluster" / "mlflow"
ADMIN_PASSWORD, SECRET_KEY = "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as found:
        found.bind((host, 0))
        return int(found.getsockname()[1])


def quiet_environment() -> dict[str, str]:
    """The environment without what names a server, a user or a password."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "RAY_", "TUNE_", "PG"))}


class Postgres:
    """Debian's PostgreSQL with one database, `mlflow`, of one user, `mlflow`, whose password is in `passfile`."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        assert found, "no PostgreSQL at /usr/lib/postgresql: apt-get install postgresql"
        self.programs, self.port, self.password = found[-1].parent, free_port(), secrets.token_urlsafe(16)
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # PostgreSQL's user must reach it
        self.passfile, self.root_password = self.folder / "passfile", self.folder / "root"
        self._write(self.root_password, secrets.token_urlsafe(16))
        self._write(self.passfile, f"127.0.0.1:{self.port}:*:mlflow:{self.password}\n")
        if os.geteuid() == 0:
            for path in (self.folder, self.root_password):
                shutil.chown(path, "postgres", "postgres")
        self.uri = f"postgresql://mlflow@127.0.0.1:{self.port}/mlflow"

    def _write(self, path: Path, text: str) -> None:
        path.touch(0o600)
        path.write_text(text)

    def _run(self, program: str, *words: str) -> None:
        # It refuses to run as root.
        user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"] if os.geteuid() == 0 else []
        command = [*user, str(self.programs / program), *words]
        done = subprocess.run(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout.decode()

    def start(self) -> None:
        data = str(self.folder / "data")
        self._run("initdb", "-D", data, "-U", "root", "--auth=scram-sha-256", f"--pwfile={self.root_password}", "-N")
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder}"
        self._run("pg_ctl", "-D", data, "-w", "-l", str(self.folder / "log"), "-o", options, "start")
        import psycopg2

        root = f"host=127.0.0.1 port={self.port} user=root dbname=postgres"
        connection = psycopg2.connect(root, password=self.root_password.read_text())
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("CREATE ROLE mlflow LOGIN PASSWORD %s", (self.password,))
            cursor.execute("CREATE DATABASE mlflow OWNER mlflow")

    def stop(self) -> None:
        with contextlib.suppress(AssertionError):
            self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


class TeamServer:
    """MLflow with users, started as `mlflow.service` says; its `mlflow.env`, its files and its log are in a folder."""

    def __init__(self, folder: Path, postgres: Postgres, *more: str):
        self.folder, self.postgres, self.port = folder, postgres, free_port()
        self.uri, self.log = f"http://127.0.0.1:{self.port}", folder / "server.log"
        self.more = more
        self.secrets = {name: secrets.token_urlsafe(32) for name in (ADMIN_PASSWORD, SECRET_KEY)}
        self.process: subprocess.Popen | None = None

    def environment(self) -> dict[str, str]:
        """The template's, with this server's places and secrets; `mlflow.env` is left in the folder, for `users`."""
        ours = {
            "PGPORT": str(self.postgres.port),
            "PGPASSFILE": str(self.postgres.passfile),
            "MLFLOW_AUTH_CONFIG_PATH": str(MLFLOW / "basic_auth.ini"),
            "MLFLOW_ARTIFACTS_DESTINATION": str(self.folder / "mlartifacts"),
            "MLFLOW_PORT": str(self.port),
            "MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:{self.port}",
        }
        lines = [line for line in (MLFLOW / "mlflow.env").read_text().splitlines() if not line.startswith("#")]
        named = dict(line.split("=", 1) for line in lines)
        assert ours.keys() <= named.keys()
        named |= ours | self.secrets
        path = self.folder / "mlflow.env"
        path.touch(0o600)
        path.write_text("".join(f"{name}={value}\n" for name, value in named.items()))
        return quiet_environment() | named

    def command(self, *more: str) -> list[str]:
        (line,) = re.findall("^ExecStart=(.*)$", (MLFLOW / "mlflow.service").read_text(), re.MULTILINE)
        _, check, _, *words = line.split()
        mlflow = [sys.executable, "-m", "mlflow"]
        return [sys.executable, str(MLFLOW / Path(check).name), *mlflow, *words, *self.more, *more]

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), cwd=self.folder, env=self.environment(), stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"no answer: {self.log.read_text()}"
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return
            time.sleep(0.1)

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def users(self, *words: str) -> subprocess.CompletedProcess:
        """`users.py` as the server's admin."""
        command = [sys.executable, str(MLFLOW / "users.py"), "--environment", "mlflow.env", *words]
        environment = quiet_environment() | {"MLFLOW_TRACKING_URI": self.uri}
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    def credentials(self, name: str) -> dict[str, str]:
        """A user's variables."""
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(self.folder / f"{name}.credentials")
        return {key.upper(): value for key, value in parser["mlflow"].items()} | {"MLFLOW_TRACKING_URI": self.uri}
