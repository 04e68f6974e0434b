"""Whether an MLflow server lets us in, and what we may write there: asked before a search spends anything."""

import configparser
import os
from collections.abc import Sequence
from typing import Any

from sepsearch.errors import UserError
from sepsearch.mlflow_answers import refusal, served, without_password
from sepsearch.mlflow_writer import EXPERIMENT
from sepsearch.registry import PREFIX
from sepsearch.tracking import import_mlflow, tracking_uri

TIMEOUT = 5.0  # seconds for an answer; a server that takes longer is away, which is no reason not to search
WRITERS = ("EDIT", "MANAGE")


def check_access(uri: str | None = None) -> None:
    """See that an MLflow server knows us and lets us record runs; says nothing of one that is away, or of a database.

    Args:
        uri: MLflow's address; `tracking_uri()` if None.

    Raises:
        UserError: it refuses us, or the experiment is deleted.
    """
    uri = uri or tracking_uri()
    if not served(uri):
        return
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    where = f"MLflow at {without_password(uri)}"
    status, answer, text = _get(uri, "2.0/mlflow/experiments/get-by-name", experiment_name=name)
    if status in (401, 403):
        raise UserError(f"{where} refuses: {refusal(status, text)}")
    experiment = answer.get("experiment", {})
    if experiment.get("lifecycle_stage") == "deleted":
        raise UserError(
            f"{where}: experiment {name!r} is deleted: restore it, or set MLFLOW_EXPERIMENT_NAME to another"
        )
    user = _restricted_user(uri)
    if user and experiment:
        permission = _permission(uri, user, "experiment", str(experiment.get("experiment_id")))
        if permission and permission not in WRITERS:
            raise UserError(
                f"{where} refuses: 403, user {user!r} may not write to experiment {name!r} (permission {permission},"
                f" expected {WRITERS[0]}): ask its admin, or set MLFLOW_EXPERIMENT_NAME to an experiment of your own"
            )


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
