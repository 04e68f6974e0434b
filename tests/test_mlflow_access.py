"""What of MLflow stops a search before anything is spent: addresses, servers and databases that will not serve it."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sepsearch.errors import UserError
from sepsearch.mlflow_access import check_access, registry_notes
from sepsearch.mlflow_answers import user_name


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

        def do_GET(self):
            self.send_response(self.status)
            self.end_headers()
            self.wfile.write(self.body)

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
        f"MLflow at {proxy.uri} refuses: 401, it wants a user and a password: set MLFLOW_TRACKING_USERNAME"
    )
    assert "~/.mlflow/credentials" in line


def test_a_wrong_password_is_told_with_the_user_it_was_given_for_wherever_that_stands(proxy, tmp_path, monkeypatch):
    proxy.status = 401
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = bob\nmlflow_tracking_password = hush\n"
    )
    assert "it does not know user 'bob' with this password" in refusal(proxy.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "alice")
    assert "it does not know user 'alice' with this password" in refusal(proxy.uri)


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


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (200, b"[]"), (404, b"{}"), (500, b"oops"), (302, b"")])
def test_whatever_else_answers_is_no_reason_not_to_search(proxy, status, body):
    proxy.status, proxy.body = status, body
    check_access(proxy.uri)
    assert registry_notes(["vn"], proxy.uri) == []


def test_a_server_that_is_away_and_a_database_are_no_reason_not_to_search(proxy, tmp_path):
    check_access("http://127.0.0.1:9")
    check_access(f"sqlite:///{tmp_path / 'none.db'}")
    assert registry_notes(["vn"], "http://127.0.0.1:9") == []
    assert not (tmp_path / "none.db").exists()


def test_a_password_in_the_address_is_not_shown(proxy):
    proxy.status = 401
    assert "hush" not in refusal(proxy.uri.replace("//", "//alice:hush@"))
