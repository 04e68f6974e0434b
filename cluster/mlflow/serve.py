#!/usr/bin/env python3
"""MLflow for a team: a server on PostgreSQL with users and passwords; what it needs is looked at before it starts.

Python 3.11 with `mlflow[auth]` and `psycopg2-binary`; nothing of sepsearch. No secret is an argument, which every user
of the machine could read with `ps`: they come from the environment or from files of mode 600 in the state folder.
"""

import argparse
import contextlib
import importlib.util
import ipaddress
import os
import secrets
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

DATABASE = "MLFLOW_BACKEND_STORE_URI"
ADMIN, ADMIN_PASSWORD, SECRET_KEY = (
    "MLFLOW_AUTH_ADMIN_USERNAME",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
)
PACKAGES = ("mlflow", "flask_wtf", "psycopg2")
SHORTEST = 12  # characters, MLflow's own limit
LEGACY_PASSWORD = "password1234"  # which older MLflow had for everybody
# READ is what somebody without a role has. Without a cache every request costs a password's hash, tens of milliseconds
# by design; with it a changed password is valid for up to a minute in processes that did not see the change.
CONFIGURATION = """[mlflow]
default_permission = READ
database_uri = {database}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


class Refused(Exception):
    """Why the server cannot start, in one line."""


def main() -> None:
    """Look at everything, then become the server; exits with 2 and one line on standard error if something is amiss."""
    os.umask(0o077)
    arguments = parse()
    try:
        environment = prepare(arguments)
    except Refused as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'system'}: {error.strerror or error}")
    if arguments.check:
        print("nothing is amiss")
        return
    sys.stdout.flush()
    os.execve(sys.executable, command(arguments), environment)


def parse() -> argparse.Namespace:
    """The options; none of them is a secret."""
    parser = argparse.ArgumentParser(description="MLflow on PostgreSQL with users, from the environment's secrets.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback only)")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--allowed-hosts", help="names people use for it, with ports: mlflow.lab.org,mlflow.lab.org:*")
    parser.add_argument("--artifacts", default="mlartifacts", help="where files go: a folder, or s3://bucket/path")
    parser.add_argument("--state", type=Path, default=Path("mlflow-state"), help="folder of its secrets, mode 700")
    parser.add_argument("--workers", type=int, default=1, help="processes that answer, about 300 MB each")
    parser.add_argument("--check", action="store_true", help="look at everything, start nothing")
    return parser.parse_args()


def prepare(arguments: argparse.Namespace) -> dict[str, str]:
    """The environment of the server; raises `Refused`. Files are written in the state folder only, when all is well."""
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise Refused(f"package {name} is missing: {sys.executable} -m pip install 'mlflow[auth]' psycopg2-binary")
    if arguments.workers > 1 and importlib.util.find_spec("uvloop") is None:
        # uvicorn hands them a socket without TCP_NODELAY, which asyncio leaves as it is: 40 ms more an answer.
        raise Refused(
            f"--workers {arguments.workers} is slower than one without uvloop: {sys.executable} -m pip install uvloop"
        )
    check_place(arguments)
    database, password = split_password(os.environ.get(DATABASE, ""))
    environment = os.environ | ({"PGPASSWORD": password} if password else {})
    admin = environment.get(ADMIN) or "admin"
    has_admin = check_database(database, environment.get("PGPASSWORD"), admin)
    check_artifacts(arguments.artifacts)
    for name in {ADMIN_PASSWORD, SECRET_KEY} & environment.keys():
        judged(environment[name], name)
    state = arguments.state.absolute()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    close(state, 0o700)
    key = secret(environment, SECRET_KEY, state / "secret_key", make=True)
    admin_password = secret(environment, ADMIN_PASSWORD, state / "admin_password", make=not has_admin)
    configuration = state / "basic_auth.ini"
    write(configuration, CONFIGURATION.format(database=database.replace("%", "%%")))
    environment |= {
        DATABASE: database,
        ADMIN: admin,
        ADMIN_PASSWORD: admin_password,
        SECRET_KEY: key,
        "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    if not admin_password:
        del environment[ADMIN_PASSWORD]
    return environment


def command(arguments: argparse.Namespace) -> list[str]:
    """What becomes of this process; the database and all secrets stay in the environment."""
    words = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--serve-artifacts"]
    words += ["--host", arguments.host, "--port", str(arguments.port), "--workers", str(arguments.workers)]
    artifacts = arguments.artifacts
    words += ["--artifacts-destination", artifacts if "://" in artifacts else str(Path(artifacts).absolute())]
    return words + (["--allowed-hosts", arguments.allowed_hosts] if arguments.allowed_hosts else [])


def check_place(arguments: argparse.Namespace) -> None:
    """See that the address is one of this machine, that the port is free, and that names are given where needed."""
    host, port = arguments.host, arguments.port
    with contextlib.suppress(ValueError):
        if not ipaddress.ip_address(host).is_loopback and not arguments.allowed_hosts:
            raise Refused(
                f"--host {host}: heard beyond this machine, expected --allowed-hosts with the names that people use"
            )
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: no wait after the last
            trial.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Refused(f"--host {host} --port {port}: cannot be listened on: {reason}: choose another") from error


def split_password(uri: str) -> tuple[str, str | None]:
    """The database's address without its password, and the password: addresses get into a file and into messages."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    expected = "expected postgresql://user@host:5432/database; the password in PGPASSWORD or a file named by PGPASSFILE"
    if not uri:
        raise Refused(f"{DATABASE} is not set: {expected}")
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        raise Refused(f"{DATABASE} is no address of a database: {expected}") from None
    if url.get_backend_name() != "postgresql":
        raise Refused(f"{DATABASE}: a database of {url.get_backend_name()}: {expected}")
    password = url.query.get("password") or url.password
    # Named, because newer SQLAlchemy takes another package for a plain postgresql://.
    bare = url._replace(password=None, drivername="postgresql+psycopg2").difference_update_query(["password"])
    return bare.render_as_string(hide_password=False), str(password) if password else None


def check_database(uri: str, password: str | None, admin: str) -> bool:
    """See that PostgreSQL lets us in and lets us make tables; returns whether the admin is there already."""
    import psycopg2
    from sqlalchemy.engine import make_url

    plain = make_url(uri).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        connection = psycopg2.connect(plain, connect_timeout=5, **({"password": password} if password else {}))
    except (psycopg2.Error, UnicodeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refused(f"{uri}: {reason}: see that PostgreSQL runs, and PGPASSWORD or PGPASSFILE") from error
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT has_schema_privilege(current_schema(), 'CREATE'), to_regclass('users')")
        may_create, users = _row(cursor)
        if not may_create:
            raise Refused(f"{uri}: may not make tables there: make the database its own: createdb --owner USER NAME")
        if users is None:
            return False
        cursor.execute("SELECT count(*) FROM users WHERE username = %s", (admin,))
        return bool(_row(cursor)[0])


def _row(cursor: Any) -> tuple[Any, ...]:
    row: tuple[Any, ...] = cursor.fetchone()
    return row


def check_artifacts(place: str) -> None:
    """See that files can be written to a folder, or that the package for S3 is there."""
    scheme = place.partition("://")[0] if "://" in place else ""
    if scheme == "s3" and importlib.util.find_spec("boto3") is None:
        raise Refused(f"--artifacts {place}: package boto3 is missing: {sys.executable} -m pip install boto3")
    if not scheme:
        Path(place).mkdir(parents=True, exist_ok=True)
        if not os.access(place, os.W_OK | os.X_OK):
            raise Refused(f"--artifacts {place}: cannot be written: choose another folder, or s3://bucket/path")


def secret(environment: dict[str, str], name: str, path: Path, make: bool) -> str:
    """A secret from the environment, else from its file, which is made on the first start; "" without either."""
    if name in environment:
        return judged(environment[name], name)
    if make and not path.exists():
        write(path, secrets.token_urlsafe(32) + "\n")
        print(f"made {path}", flush=True)
    if not path.exists():
        return ""
    close(path, 0o600)
    return judged(path.read_text(), str(path))


def judged(value: str, source: str) -> str:
    """A secret that is one."""
    if len(value.strip()) < SHORTEST or value.strip() == LEGACY_PASSWORD:
        raise Refused(f"{source}: empty, shorter than {SHORTEST} characters, or known to everybody: set another")
    return value.strip()


def close(path: Path, mode: int) -> None:
    """Keep others out of what is ours; Kubernetes opens a volume to its group every time that it mounts it."""
    if path.stat().st_mode & 0o077:
        path.chmod(mode)
        print(f"note: {path} was open to others; its mode is {mode:o} now", flush=True)


def write(path: Path, text: str) -> None:
    """Replace a file by one that nobody else may read, at once."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def fail(line: str) -> NoReturn:
    """One line, and exit code 2."""
    print(f"error: {' '.join(line.split())}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
