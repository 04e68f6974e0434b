"""Contract with MLflow's undocumented parts: fails where a release moves what `mlflow_internals` uses."""

import inspect
import json
import re
from pathlib import Path

import mlflow
import pytest

from sepsearch.tracking import mlflow_internals
from sepsearch.tracking.mlflow_internals import database_scripts, get_json, limit_database_retries, saved_view

MOVED = f"MLflow {mlflow.__version__} has changed what sepsearch/tracking/mlflow_internals.py uses: "


def test_database_retries_are_a_number_that_the_engine_reads(monkeypatch):
    databases = pytest.importorskip("mlflow.store.db.utils")
    assert isinstance(getattr(databases, "MAX_RETRY_COUNT", None), int), MOVED + "mlflow.store.db.utils.MAX_RETRY_COUNT"
    monkeypatch.setattr(databases, "MAX_RETRY_COUNT", 5)
    limit_database_retries()
    assert databases.MAX_RETRY_COUNT == 1
    assert "MAX_RETRY_COUNT" in inspect.getsource(databases.create_sqlalchemy_engine_with_retry), MOVED + "retries"
    assert databases._logger.name == mlflow_internals.DATABASE_LOGGER, MOVED + "the logger's name"


def test_migrations_have_one_newest_version():
    scripts = database_scripts()
    assert len(scripts.get_heads()) == 1, MOVED + "store/db_migrations"
    assert len(list(scripts.walk_revisions())) > 10


def test_request_has_the_arguments_that_get_json_gives():
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    names = set(inspect.signature(http_request).parameters)
    assert {"host_creds", "endpoint", "method", "max_retries", "raise_on_status"} <= names, MOVED + "http_request"
    assert get_default_host_creds("http://127.0.0.1:1").host == "http://127.0.0.1:1", MOVED + "get_default_host_creds"


def test_request_without_server_has_no_status():
    assert get_json("http://127.0.0.1:9", "2.0/mlflow/users/current") == (0, {}, "")


def test_tags_are_those_of_mlflow_and_its_pages():
    from mlflow.utils import mlflow_tags

    versions = mlflow_tags.MLFLOW_MODEL_VERSIONS
    assert versions == mlflow_internals.VERSIONS_TAG, MOVED + "the tag of a model's versions"
    pages = Path(mlflow.__file__).parent / "server" / "js" / "build" / "static" / "js"
    prefix = re.compile(re.escape(mlflow_internals.VIEW_TAG.rstrip(".")))
    scripts = [path for path in pages.glob("*.js") if prefix.search(path.read_text(encoding="utf-8"))]
    assert scripts, MOVED + "the tag of saved views"


def test_saved_view_is_an_envelope_around_the_table():
    view = json.loads(saved_view("Models", "tags.stage = 'x'", "metrics.`a`", ["metrics.`b`"]))
    assert view["name"] == "Models"
    table = json.loads(view["state"])
    assert table["orderByKey"] == "metrics.`a`"
    assert table["selectedColumns"] == ["metrics.`a`", "metrics.`b`"]
