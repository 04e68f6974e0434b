"""Whether MLflow takes our address, lets us in, and what we may write there: asked before a search spends anything."""

import configparser
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from sepsearch.tracking.database import check_database, deleted_experiment, is_database
from sepsearch.tracking.registry import PREFIX
from sepsearch.tracking.server_errors import is_refusal, quoted_uri, refusal, served, without_password
from sepsearch.tracking.tracker import connect, import_mlflow, tracking_uri
from sepsearch.tracking.writer import EXPERIMENT
from sepsearch.utils.errors import UserError
from sepsearch.utils.programs import program

TIMEOUT = 5.0  # seconds for an answer; a server that takes longer is away, which is no reason not to search
WRITERS = ("EDIT", "MANAGE")
WRONG_PLACE = (*range(200, 401), 404, 405, 406, 410)  # statuses that a server which is merely away does not answer with


def check_access(uri: str | None = None) -> None:
    """Look for what will keep MLflow from recording runs however long one waits; one that is merely away passes.

    Args:
        uri: MLflow's address; `tracking_uri()` if None.

    Raises:
        UserError: MLflow does not take such an address, a database has another schema, a server refuses us or is not
            MLflow's, or the experiment is deleted.
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
    """Ask a server for the experiment, and for what we may do there."""
    where = f"MLflow at {without_password(uri)}"
    status, answer, text = _get(uri, "2.0/mlflow/experiments/get-by-name", experiment_name=name)
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
    """Whether an answer about an experiment is MLflow's, be it an error."""
    return isinstance(answer.get("experiment"), dict) or isinstance(answer.get("error_code"), str)


def _right_address(uri: str) -> str:
    """What to do about an address at which there is no MLflow: the server's root, if MLflow is there."""
    parts = urlsplit(uri)
    root = urlunsplit((parts.scheme, parts.netloc, "", "", ""))
    if root != uri.rstrip("/"):
        _, answer, _ = _get(root, "2.0/mlflow/experiments/get-by-name", experiment_name=EXPERIMENT)
        if _is_mlflows(answer):
            return f"it is at the server's root: set MLFLOW_TRACKING_URI={quoted_uri(root)}"
    return "set MLFLOW_TRACKING_URI to its page's address up to the #, with the path of --static-prefix if it has one"


def _check_store(uri: str, name: str) -> None:
    """An address of neither a server nor a database: MLflow itself says whether it takes it."""
    try:
        connect(uri).get_experiment_by_name(name)
    except Exception as error:
        if is_refusal(error) or uri.startswith(("http:", "https:")):
            where = f"MLflow does not take the address {without_password(uri)!r}"
            raise UserError(f"{where}: {_expected_address(uri)}") from error


def _expected_address(uri: str) -> str:
    """What to write in place of an address that MLflow does not take."""
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
    """A line if a server will not let us register models of these instruments; nothing is lost by that."""
    uri = uri or tracking_uri()
    user = _restricted_user(uri) if served(uri) else ""
    closed = []
    for name in [PREFIX + code for code in instruments] if user else ():
        there = _get(uri, "2.0/mlflow/registered-models/get", name=name)[0] == 200  # anybody may make a new one
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
    """Whom a server with MLflow's own users takes us for; "" for an admin, who may do all, and for other servers."""
    status, answer, _ = _get(uri, "2.0/mlflow/users/current")
    user = answer.get("user")
    if status != 200 or not isinstance(user, dict) or user.get("is_admin"):
        return ""
    return str(user.get("username") or "")


def _permission(uri: str, user: str, kind: str, id: str) -> str:
    """What we may do with an experiment or a registered model; "" where an older server cannot tell."""
    _, answer, _ = _get(uri, "3.0/mlflow/users/permissions/get", username=user, resource_type=kind, resource_id=id)
    return str(answer.get("permission") or "")


def _get(uri: str, path: str, **parameters: str) -> tuple[int, dict[str, Any], str]:
    """The status, JSON object and text of an answer, (0, {}, "") without one; `UserError` for bad credentials."""
    import_mlflow()
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        credentials = get_default_host_creds(uri)
    except configparser.Error as error:
        raise UserError(f"~/.mlflow/credentials: cannot be read ({error}): in there a % is written %%") from error
    try:
        response = http_request(
            credentials, f"/api/{path}", "GET",
            params=parameters, timeout=TIMEOUT, max_retries=0, raise_on_status=False,
        )  # fmt: skip
    except Exception:  # whatever the network can fail with
        return 0, {}, ""
    try:
        answer = response.json()
    except ValueError:
        answer = {}
    return response.status_code, answer if isinstance(answer, dict) else {}, response.text
