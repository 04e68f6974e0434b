#!/usr/bin/env python3
"""Check a team's MLflow settings, then execute the server: check.py mlflow server --app-name basic-auth

It reads the variables that `mlflow server` reads, and changes none. Reasons beside the stock server (3.17), which
retries an unreachable PostgreSQL for 100 seconds and ends with a page of traceback; exits with 0 if the port is taken,
so that systemd does not start it again; records into SQLite without an address; listens beyond loopback without allowed
names; accepts any session key; and does not check the artifacts' folder. Here each is one line, and exit code 2.
Without a command it only checks.
"""

import configparser
import contextlib
import importlib.util
import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Any

# The whole address is in libpq's variables: no password can get into a file or a message, and runs and users share it.
URI = "postgresql+psycopg2://"
PACKAGES = ("mlflow", "flask_wtf", "psycopg2")
SHORTEST = 12  # characters, MLflow's own limit for passwords
OPTIONS = {
    "--host": "MLFLOW_HOST",
    "-h": "MLFLOW_HOST",
    "--port": "MLFLOW_PORT",
    "-p": "MLFLOW_PORT",
    "--workers": "MLFLOW_WORKERS",
    "-w": "MLFLOW_WORKERS",
    "--allowed-hosts": "MLFLOW_SERVER_ALLOWED_HOSTS",
    "--artifacts-destination": "MLFLOW_ARTIFACTS_DESTINATION",
    "--backend-store-uri": "MLFLOW_BACKEND_STORE_URI",
}


class Refused(Exception):
    """Why the server cannot start, in one line."""


def main() -> None:
    """Check all settings, then execute the command; exits with 2 and one line on standard error for a mistake."""
    os.umask(0o077)
    command = sys.argv[1:]
    try:
        check(os.environ, command)
        if not command:
            print("nothing is amiss")
            return
        os.execvp(command[0], command)
    except Refused as error:
        line = str(error)
    except OSError as error:
        line = f"{error.filename or command[:1]}: {error.strerror or error}"
    print(f"error: {' '.join(line.split())}", file=sys.stderr)
    sys.exit(2)


def check(environment: Any, command: list[str]) -> None:
    """All that has to hold before the server starts; raises `Refused`."""
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise Refused(f"package {name} is missing: {sys.executable} -m pip install 'mlflow[auth]' psycopg2-binary")
    for option in {word.partition("=")[0] for word in command} & OPTIONS.keys():
        raise Refused(f"{option}: cannot be looked at here: set {OPTIONS[option]} instead")
    if environment.get("MLFLOW_WORKERS") != "1" and importlib.util.find_spec("uvloop") is None:
        # uvicorn hands several a socket without TCP_NODELAY, which asyncio leaves as it is: 40 ms more an answer.
        raise Refused(
            f"MLFLOW_WORKERS: expected 1, for more are slower without uvloop: {sys.executable} -m pip install uvloop"
        )
    check_place(
        environment.get("MLFLOW_HOST") or "127.0.0.1",
        environment.get("MLFLOW_PORT") or "5000",
        environment.get("MLFLOW_SERVER_ALLOWED_HOSTS"),
    )
    check_secret(environment, "MLFLOW_FLASK_SERVER_SECRET_KEY")
    if not check_database(environment) or environment.get("MLFLOW_AUTH_ADMIN_PASSWORD"):
        check_secret(environment, "MLFLOW_AUTH_ADMIN_PASSWORD")
    check_artifacts(environment.get("MLFLOW_ARTIFACTS_DESTINATION") or "mlartifacts")


def check_place(host: str, port: str, allowed: str | None) -> None:
    """See that the address is one of this machine, that the port is free, and that names are given where needed."""
    with contextlib.suppress(ValueError):
        if not ipaddress.ip_address(host).is_loopback and not allowed:
            raise Refused(
                f"MLFLOW_HOST={host}: heard beyond this machine, expected MLFLOW_SERVER_ALLOWED_HOSTS with the names"
                " that people use"
            )
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: no wait after the last
            trial.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Refused(f"MLFLOW_HOST={host} MLFLOW_PORT={port}: {reason}: choose another") from error


def check_secret(environment: Any, name: str) -> None:
    """See that a secret is one."""
    value = environment.get(name, "")
    if len(value.strip()) < SHORTEST or value.strip() == "password1234":  # which older MLflow had for everybody
        raise Refused(f"{name}: empty, shorter than {SHORTEST} characters, or known to everybody: set another")


def check_database(environment: Any) -> bool:
    """See that PostgreSQL lets us in and lets us make tables; returns whether the admin is there already."""
    import psycopg2

    path = environment.get("MLFLOW_AUTH_CONFIG_PATH", "")
    settings = configparser.ConfigParser()
    settings.read(path)
    users_at = settings.get("mlflow", "database_uri", fallback="")
    for source, uri in (
        ("MLFLOW_BACKEND_STORE_URI", environment.get("MLFLOW_BACKEND_STORE_URI")),
        (f"MLFLOW_AUTH_CONFIG_PATH={path}: database_uri", users_at),
    ):
        if uri != URI:
            raise Refused(f"{source}: expected {URI}, and the address in PGHOST, PGPORT, PGUSER and PGDATABASE")
    try:
        connection = psycopg2.connect("", connect_timeout=5)
    except (psycopg2.Error, UnicodeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refused(f"{reason}: see that PostgreSQL runs, and PGHOST, PGPASSWORD or PGPASSFILE") from error
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT has_schema_privilege(current_schema(), 'CREATE'), to_regclass('users')")
        row: Any = cursor.fetchone()
        if not row[0]:
            raise Refused(
                "PGDATABASE: may not make tables there: make the database its own: createdb --owner USER NAME"
            )
        if row[1] is None:
            return False
        admin = environment.get("MLFLOW_AUTH_ADMIN_USERNAME") or settings.get(
            "mlflow", "admin_username", fallback="admin"
        )
        cursor.execute("SELECT 1 FROM users WHERE username = %s", (admin,))
        return cursor.fetchone() is not None


def check_artifacts(place: str) -> None:
    """See that files can be written to a folder, or that the package for S3 is there."""
    if place.startswith("s3://") and importlib.util.find_spec("boto3") is None:
        raise Refused(f"package boto3 is missing, for {place}: {sys.executable} -m pip install boto3")
    if "://" not in place:
        Path(place).mkdir(parents=True, exist_ok=True)
        if not os.access(place, os.W_OK | os.X_OK):
            raise Refused(
                f"MLFLOW_ARTIFACTS_DESTINATION={place}: cannot be written: choose another folder, or s3://bucket/path"
            )


if __name__ == "__main__":
    main()
