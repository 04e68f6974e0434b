"""Checks of MLflow's address, credentials and permissions before a search starts."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from sepsearch.tracking.database import check_database, deleted_experiment, is_database
from sepsearch.tracking.mlflow_internals import get_json
from sepsearch.tracking.registry import PREFIX
from sepsearch.tracking.server_errors import is_refusal, quoted_uri, refusal, served, without_password
from sepsearch.tracking.tracker import connect, import_mlflow, tracking_uri
from sepsearch.tracking.writer import EXPERIMENT
from sepsearch.utils.errors import UserError
from sepsearch.utils.programs import program

WRITERS = ("EDIT", "MANAGE")
WRONG_PLACE = (*range(200, 401), 404, 405, 406, 410)  # statuses that do not come from a server that is away


def check_access(uri: str | None = None) -> None:
    """Find what keeps MLflow from recording runs for good; a server that is away passes.

    Args:
        uri: MLflow's address; `tracking_uri()` if None.

    Raises:
        UserError: MLflow does not accept the address, a database has another schema, a server refuses the user or is
            not MLflow's, or the experiment is deleted.
    """
    uri = uri or tracking_uri()
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    if is_database(uri):
        check_database(uri, name)
    elif served(uri):
        _check_server(uri, name)
    else:
        _check_store(uri, name)


def _check_server(uri: str, name: str) -> None:
    """Request the experiment from a server, and the user's permission for it."""
    import_mlflow()
    where = f"MLflow at {without_password(uri)}"
    status, answer, text = get_json(uri, "2.0/mlflow/experiments/get-by-name", experiment_name=name)
    if status in (401, 403):
        raise UserError(f"{where} refuses: {refusal(status, text)}")
    if not _is_mlflows(answer) and status in WRONG_PLACE:
        raise UserError(f"{where}: no MLflow server answers at this path (status {status}): {_right_address(uri)}")
    experiment = answer.get("experiment", {})
    id = str(experiment.get("experiment_id"))
    if experiment.get("lifecycle_stage") == "deleted":
        raise deleted_experiment(where, uri, name, id)
    user = _restricted_user(uri)
    if user and experiment:
        permission = _permission(uri, user, "experiment", id)
        if permission and permission not in WRITERS:
            raise UserError(
                f"{where} refuses: 403, user {user!r} may not write to experiment {name!r} (permission {permission},"
                f" expected {WRITERS[0]}): ask its admin, or set MLFLOW_EXPERIMENT_NAME to an experiment of your own"
            )


def _is_mlflows(answer: Mapping[str, Any]) -> bool:
    """Whether a response about an experiment, or an error, is MLflow's."""
    return isinstance(answer.get("experiment"), dict) or isinstance(answer.get("error_code"), str)


def _right_address(uri: str) -> str:
    """What to do about an address at which there is no MLflow: the server's root, if MLflow is there."""
    parts = urlsplit(uri)
    root = urlunsplit((parts.scheme, parts.netloc, "", "", ""))
    if root != uri.rstrip("/"):
        _, answer, _ = get_json(root, "2.0/mlflow/experiments/get-by-name", experiment_name=EXPERIMENT)
        if _is_mlflows(answer):
            return f"it is at the server's root: set MLFLOW_TRACKING_URI={quoted_uri(root)}"
    return "set MLFLOW_TRACKING_URI to its page's address up to the #, with the path of --static-prefix if it has one"


def _check_store(uri: str, name: str) -> None:
    """Check an address of neither a server nor a database by opening it with MLflow."""
    try:
        connect(uri).get_experiment_by_name(name)
    except Exception as error:
        if is_refusal(error) or uri.startswith(("http:", "https:")):
            where = f"MLflow does not accept the address {without_password(uri)!r}"
            raise UserError(f"{where}: {_expected_address(uri)}") from error


def _expected_address(uri: str) -> str:
    """What to write in place of an address that MLflow does not accept."""
    if re.fullmatch(r"[\w.-]+:\d+(/.*)?", uri):
        return f"a server has a scheme, too: set MLFLOW_TRACKING_URI=http://{uri}"
    if uri.startswith("postgres:"):
        return "expected postgresql://user@host/database"
    expected = "expected a database such as sqlite:///mlflow.db, or a server such as http://127.0.0.1:5000"
    folder = Path(uri.removeprefix("file://"))
    if folder.is_dir():
        move = f"migrate-filestore --source {shlex.quote(str(folder))} --target sqlite:///mlflow.db"
        expected += f"; to keep the runs in that folder: {program('mlflow')} {move}"
    return expected


def registry_notes(instruments: Sequence[str], uri: str | None = None) -> list[str]:
    """A line if the user may not register models of these instruments; they stay in the run's folder then."""
    uri = uri or tracking_uri()
    import_mlflow()
    user = _restricted_user(uri) if served(uri) else ""
    closed = []
    for name in [PREFIX + code for code in instruments] if user else ():
        there = (
            get_json(uri, "2.0/mlflow/registered-models/get", name=name)[0] == 200
        )  # every user may create a new one
        permission = _permission(uri, user, "registered_model", name) if there else ""
        if permission and permission not in WRITERS:
            closed.append(name)
    if not closed:
        return []
    return [
        f"MLflow at {without_password(uri)}: user {user!r} may not register {', '.join(closed)}: those models stay in"
        " the run's folder; ask its admin to allow it, then: python -m sepsearch.track NAME"
    ]


def _restricted_user(uri: str) -> str:
    """User name at a server with MLflow's own users; "" for an admin, who may do all, and for other servers."""
    status, answer, _ = get_json(uri, "2.0/mlflow/users/current")
    user = answer.get("user")
    if status != 200 or not isinstance(user, dict) or user.get("is_admin"):
        return ""
    return str(user.get("username") or "")


def _permission(uri: str, user: str, kind: str, id: str) -> str:
    """The user's permission for an experiment or a registered model; "" where an older server does not answer that."""
    _, answer, _ = get_json(uri, "3.0/mlflow/users/permissions/get", username=user, resource_type=kind, resource_id=id)
    return str(answer.get("permission") or "")
