"""What sepsearch uses of MLflow beyond its documented interface; tests/tracking/test_mlflow_internals.py checks it.

Nothing else in the package may rely on such names. A release of MLflow that moves one makes that test fail.
"""

import configparser
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.utils.errors import UserError

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

TIMEOUT = 5.0  # seconds for a response; a server that takes longer counts as away, which does not keep a search back
DATABASE_LOGGER = "mlflow.store.db.utils"
VERSIONS_TAG = "mlflow.modelVersions"  # of a LoggedModel: the registered versions that its page links to
VIEW_TAG = "mlflow.sharedViewState."  # of an experiment: a saved view of its table of runs


def limit_database_retries() -> None:
    """Open a database once: MLflow retries for 100 s where it cannot be opened."""
    import mlflow.store.db.utils as databases

    databases.MAX_RETRY_COUNT = 1


def database_scripts() -> "ScriptDirectory":
    """Alembic's migrations of the installed MLflow: the schema versions of its databases."""
    import mlflow
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))


def get_json(uri: str, path: str, **parameters: str) -> tuple[int, dict[str, Any], str]:
    """One GET of MLflow's REST interface with the user's credentials, such as path "2.0/mlflow/users/current".

    Returns:
        Status, JSON object and text of the response; (0, {}, "") without a response.

    Raises:
        UserError: the file of credentials is damaged.
    """
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        credentials = get_default_host_creds(uri)
    except configparser.Error as error:
        raise UserError(f"~/.mlflow/credentials: cannot be read ({error}): write a % in it as %%") from error
    options: dict[str, Any] = {"timeout": TIMEOUT, "max_retries": 0, "raise_on_status": False}
    try:
        response = http_request(credentials, f"/api/{path}", "GET", params=parameters, **options)
    except Exception:  # any error of the network
        return 0, {}, ""
    try:
        content = response.json()
    except ValueError:
        content = {}
    return response.status_code, content if isinstance(content, dict) else {}, response.text


def saved_view(name: str, search: str, order: str, columns: Sequence[str]) -> str:
    """A saved view as MLflow's pages keep it: a JSON envelope around the state of the table, sorted ascending."""
    state = {"searchFilter": search, "orderByKey": order, "orderByAsc": True, "selectedColumns": [order, *columns]}
    return json.dumps({"name": name, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)})
