#!/usr/bin/env python3
"""Who may use the team's MLflow: add a person, give a new password, take one away, list them.

It talks to the server as its admin: MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or
--environment with the server's `mlflow.env` on its own machine. Passwords are made here and written into a file of
mode 600, in the form of ~/.mlflow/credentials; they are never shown, and never an argument.
"""

import argparse
import os
import secrets
import sys
import warnings
from pathlib import Path
from typing import Any

ROLE = "searchers"
# Runs and files go by their experiment, versions and aliases by their registered model; EDIT deletes neither.
GRANTS = (("experiment", "EDIT"), ("registered_model", "EDIT"))
WORKSPACE = "default"


def main() -> None:
    """Do what the command line says; exits with 2 and one line if the server refuses or is not there."""
    os.umask(0o077)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    arguments = parse()
    uri = os.environ.get("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    try:
        if arguments.environment:
            os.environ.setdefault("MLFLOW_TRACKING_USERNAME", "admin")
            os.environ["MLFLOW_TRACKING_PASSWORD"] = admin_password(arguments.environment)
        warnings.simplefilter("ignore")
        from mlflow.server import get_app_client

        arguments.act(get_app_client("basic-auth", tracking_uri=uri), arguments)
    except ImportError as error:
        fail(f"{error}: {sys.executable} -m pip install 'mlflow[auth]'")
    except Exception as error:  # whatever a server can answer with
        fail(f"MLflow at {uri}: {reason(error)}")


def parse() -> argparse.Namespace:
    """The options; none of them is a secret."""
    parser = argparse.ArgumentParser(description="Users of the team's MLflow.")
    parser.add_argument("--environment", type=Path, help="the server's mlflow.env, for the admin's password")
    actions = parser.add_subparsers(required=True, metavar="add | password | remove | list")
    new = actions.add_parser("add", help="a new user who may search, or with --reader look only")
    new.add_argument("--reader", action="store_true")
    new.set_defaults(act=add)
    change = actions.add_parser("password", help="a new password")
    change.set_defaults(act=password)
    for action in (new, change):
        action.add_argument("name")
        action.add_argument("--file", type=Path, help="where the password goes (default: NAME.credentials)")
    away = actions.add_parser("remove", help="take a user away; what they wrote stays")
    away.add_argument("name")
    away.set_defaults(act=remove)
    actions.add_parser("list", help="users and their roles").set_defaults(act=show)
    return parser.parse_args()


def admin_password(path: Path) -> str:
    """The one that the server's first start gave to its admin."""
    name = "MLFLOW_AUTH_ADMIN_PASSWORD="
    found = [line.removeprefix(name) for line in path.read_text().splitlines() if line.startswith(name)]
    if not found:
        fail(f"{path}: expected a line {name}…")
    return found[-1].strip()


def add(client: Any, arguments: argparse.Namespace) -> None:
    """Make a user, who without --reader gets the role that may write runs and models."""
    role = None if arguments.reader else searchers(client)
    with credentials(arguments) as (value, keep):
        client.create_user(arguments.name, value)
        keep()
    if role is not None:
        client.assign_role(arguments.name, role)


def password(client: Any, arguments: argparse.Namespace) -> None:
    """Give a user another password."""
    with credentials(arguments) as (value, keep):
        client.update_user_password(arguments.name, value)
        keep()


def remove(client: Any, arguments: argparse.Namespace) -> None:
    """Take a user away."""
    client.delete_user(arguments.name)
    print(f"removed {arguments.name}")


def show(client: Any, arguments: argparse.Namespace) -> None:
    """A line a user."""
    for user in client._request("/api/2.0/mlflow/users/list", "GET")["users"]:
        roles = [role.name for role in client.list_user_roles(user["username"]) if not role.name.startswith("__")]
        print(user["username"], "admin" if user.get("is_admin") else ", ".join(roles) or "reader")


def searchers(client: Any) -> int:
    """The id of the role that may write every experiment and every registered model; made by the first who needs it."""
    role = next((role for role in client.list_roles(WORKSPACE) if role.name == ROLE), None)
    role = role or client.create_role(WORKSPACE, ROLE, "may record runs and register models; deletes nothing")
    there = {(grant.resource_type, grant.resource_pattern) for grant in client.list_role_permissions(role.id)}
    for kind, permission in GRANTS:
        if (kind, "*") not in there:
            client.add_role_permission(role.id, kind, "*", permission)
    return int(role.id)


def reason(error: BaseException) -> str:
    """What the server or, under MLflow's long story, the network said."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return (str(error).splitlines() or [type(error).__name__])[0]


class credentials:
    """A new password in a new file, which is kept only if the server has taken it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.path = arguments.file or Path(f"{arguments.name}.credentials")
        self.name, self.kept = arguments.name, False

    def __enter__(self) -> tuple[str, Any]:
        value = secrets.token_urlsafe(24)
        text = f"[mlflow]\nmlflow_tracking_username = {self.name}\nmlflow_tracking_password = {value}\n"
        with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        return value, self.keep

    def keep(self) -> None:
        """The server has it."""
        self.kept = True
        print(f"{self.name}: {self.path} goes to ~/.mlflow/credentials (mode 600) where searches are started")

    def __exit__(self, *_: object) -> None:
        if not self.kept:
            self.path.unlink()


def fail(line: str) -> None:
    """One line, and exit code 2."""
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
