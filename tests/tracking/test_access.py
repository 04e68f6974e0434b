"""What of MLflow stops a search before anything is spent: addresses, servers and databases that will not serve it."""

import contextlib
import shutil
import sqlite3
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sepsearch.tracking.access import check_access, registry_notes
from sepsearch.tracking.server_errors import quoted_uri, user_name
from sepsearch.utils.errors import UserError


@pytest.fixture(autouse=True)
def nobody(tmp_path, monkeypatch):
    """No user of the one who runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proxy() -> Iterator[type]:
    """Something before a server, which answers everything with `status` and `body`; its address is `uri`."""

    class Proxy(BaseHTTPRequestHandler):
        status, body, uri = 200, b"{}", ""
        paths = ("/",)  # all others are not found

        def do_GET(self):
            known = self.path.startswith(self.paths)
            self.send_response(self.status if known else 404)
            self.end_headers()
            self.wfile.write(self.body if known else b"<html>")

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        Proxy.uri = f"http://127.0.0.1:{listening.server_port}"
        yield Proxy
        listening.shutdown()


def refusal(uri: str) -> str:
    with pytest.raises(UserError) as caught:
        check_access(uri)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_server_that_wants_a_password_is_told_with_what_to_set(proxy):
    proxy.status, proxy.body = 401, b"<html>\n<body>Who is there?</body>\n</html>"
    line = refusal(proxy.uri)
    assert line.startswith(
        f"MLflow at {proxy.uri} refuses: 401, it needs a user and a password: set MLFLOW_TRACKING_USERNAME"
    )
    assert "~/.mlflow/credentials" in line


def test_a_wrong_password_is_told_with_the_user_it_was_given_for_wherever_that_stands(proxy, tmp_path, monkeypatch):
    proxy.status = 401
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = bob\nmlflow_tracking_password = hush\n"
    )
    assert "user 'bob' or its password is wrong" in refusal(proxy.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "alice")
    assert "user 'alice' or its password is wrong" in refusal(proxy.uri)


def test_credentials_that_mlflow_cannot_read_are_told(proxy, tmp_path):
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text("[mlflow]\nmlflow_tracking_password = 100%\n")
    assert "~/.mlflow/credentials: cannot be read" in refusal(proxy.uri)


@pytest.mark.parametrize("content", ["no section\n", "[mlflow]\n", "[other]\nmlflow_tracking_username = bob\n"])
def test_a_file_of_credentials_without_a_user_names_nobody(tmp_path, content):
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(content)
    assert user_name() == ""


def test_a_name_that_the_server_does_not_go_by_is_told_with_the_option(proxy):
    proxy.status, proxy.body = 403, b"Invalid Host header - possible DNS rebinding attack detected"
    assert "start it with that name in --allowed-hosts" in refusal(proxy.uri)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'{"experiment": {"experiment_id": "1", "lifecycle_stage": "active"}}'),
        (404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment"}'),
        (500, b"oops"),
        (502, b"<html>"),
        (503, b""),
        (429, b"slowly"),
    ],
)
def test_an_answer_of_mlflow_and_a_server_that_is_only_away_are_no_reason_not_to_search(proxy, status, body):
    proxy.status, proxy.body = status, body
    check_access(proxy.uri)
    assert registry_notes(["vn"], proxy.uri) == []


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (200, b"[]"), (200, b"{}"), (404, b"{}"), (404, b"<html>"), (302, b"")]
)
def test_what_is_no_mlflow_server_is_said_with_what_to_set(proxy, status, body):
    proxy.status, proxy.body = status, body
    line = refusal(proxy.uri)
    assert f"no MLflow server answers at this path (status {status})" in line
    assert "set MLFLOW_TRACKING_URI to its page's address" in line


def test_a_wrong_path_on_an_mlflow_server_is_said_with_the_address_that_answers(proxy):
    proxy.paths = ("/api/",)
    proxy.body = b'{"experiment": {"experiment_id": "1", "lifecycle_stage": "active"}}'
    check_access(proxy.uri)
    for path in ("/mlflow", "/#/experiments/1"):
        assert refusal(proxy.uri + path).endswith(f"set MLFLOW_TRACKING_URI={proxy.uri}")


def test_a_deleted_experiment_of_a_server_is_said_with_the_command_that_restores_it(proxy):
    proxy.body = b'{"experiment": {"experiment_id": "7", "lifecycle_stage": "deleted"}}'
    line = refusal(proxy.uri)
    assert "experiment 'sepsearch' is deleted" in line
    assert "experiments restore -x 7" in line


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("./mlruns", "expected a database such as sqlite:///mlflow.db, or a server such as http://"),
        ("file:///tmp/none/mlruns", "expected a database such as sqlite:///mlflow.db, or a server such as http://"),
        ("localhost:5000", "set MLFLOW_TRACKING_URI=http://localhost:5000"),
        ("127.0.0.1:5000/mlflow", "set MLFLOW_TRACKING_URI=http://127.0.0.1:5000/mlflow"),
        ("http:/localhost:5000", "or a server such as http://"),
        ("postgres://u@host/db", "expected postgresql://user@host/database"),
        ("nonsense://here", "expected a database such as"),
        ("sqlite:mlflow.db", "expected sqlite:///mlflow.db"),
        ("sqlite://mlflow.db", "expected sqlite:///mlflow.db"),
        ("sqlite:///:memory:", "expected sqlite:///mlflow.db"),
        ("postgresql+nonsense://u@host/db", "expected one of sqlite, postgresql"),
    ],
)
def test_an_address_that_mlflow_does_not_take_is_said_with_one_that_it_does(tmp_path, monkeypatch, address, expected):
    monkeypatch.chdir(tmp_path)
    line = refusal(address)
    assert expected in line
    assert not list(tmp_path.iterdir())


def test_a_folder_of_runs_in_mlflows_old_form_is_said_with_the_command_that_moves_them(tmp_path):
    (tmp_path / "my runs").mkdir()
    line = refusal(str(tmp_path / "my runs"))
    assert f"migrate-filestore --source '{tmp_path}/my runs' --target sqlite:///mlflow.db" in line


def test_a_missing_database_driver_is_said_with_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "install 'psycopg[binary]'" in refusal("postgresql+psycopg://u:hush@127.0.0.1:9/db")


@pytest.fixture
def database(empty_store, tmp_path):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path / "mlflow.db"


def execute(database, query, *values):
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(query, values)


def test_a_database_of_this_mlflow_is_fine_and_stays_as_it_is(database):
    before = database.read_bytes()
    check_access(f"sqlite:///{database}")
    assert database.read_bytes() == before


def test_an_older_database_is_said_with_the_command_that_upgrades_it_and_is_not_upgraded(database):
    execute(database, "UPDATE alembic_version SET version_num = '451aebb31d03'")
    before = database.read_bytes()
    assert refusal(f"sqlite:///{database}").endswith(f"db upgrade sqlite:///{database}")
    assert database.read_bytes() == before


def test_a_database_of_a_newer_mlflow_is_not_to_be_upgraded(database):
    execute(database, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    line = refusal(f"sqlite:///{database}")
    assert "database schema ffffffffffff, expected" in line
    assert "install that MLflow" in line
    assert "upgrade" not in line


def test_a_deleted_experiment_of_a_database_is_said_with_the_command_that_restores_it(database, monkeypatch):
    uri = f"sqlite:///{database}"
    columns = "experiment_id, name, lifecycle_stage, workspace"
    execute(database, f"INSERT INTO experiments ({columns}) VALUES (7, 'sepsearch', 'deleted', 'default')")
    line = refusal(uri)
    assert "experiment 'sepsearch' is deleted" in line
    assert f"MLFLOW_TRACKING_URI={uri}" in line
    assert "experiments restore -x 7" in line
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    check_access(uri)


def test_a_file_that_is_no_database_is_said(tmp_path):
    (tmp_path / "mlflow.db").write_text("a text, " * 200)
    assert "cannot be read as MLflow's database" in refusal(f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.mark.parametrize("content", [None, b""])
def test_a_database_that_does_not_exist_yet_is_not_made(tmp_path, content):
    if content is not None:
        (tmp_path / "mlflow.db").write_bytes(content)
    check_access(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert [path.stat().st_size for path in tmp_path.iterdir()] == ([] if content is None else [0])


def test_a_database_that_another_process_holds_is_only_away(database, monkeypatch):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr("sepsearch.tracking.database.TIMEOUT", 0.01)
        check_access(f"sqlite:///{database}")
        connection.rollback()


def test_the_password_of_an_address_is_not_part_of_a_command():
    assert quoted_uri("postgresql://u:hush@host/db") == '"$MLFLOW_TRACKING_URI"'


def test_a_server_that_is_away_and_a_database_are_no_reason_not_to_search(proxy, tmp_path):
    check_access("http://127.0.0.1:9")
    check_access(f"sqlite:///{tmp_path / 'none.db'}")
    assert registry_notes(["vn"], "http://127.0.0.1:9") == []
    assert not (tmp_path / "none.db").exists()


def test_a_password_in_the_address_is_not_shown(proxy):
    proxy.status = 401
    assert "hush" not in refusal(proxy.uri.replace("//", "//alice:hush@"))
