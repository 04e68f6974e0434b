"""Requests to stop something: written whole, read strictly, removed once handled, in a folder and in an object store."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_s3 import fake_s3

from sepsearch.runs.stop_requests import (
    FOLDER,
    MOST_BYTES,
    RequestWatch,
    StopRequest,
    asker,
    parse_request,
    request_name,
    write_request,
)
from sepsearch.utils.errors import UserError
from sepsearch.utils.storage import StorageFolder, open_storage

REQUEST = StopRequest(what="jobs", jobs=("t0001", "c0-s2"), process=0, by="ann@desk")
PATIENCE = 60.0  # seconds that a test waits for a thread before it fails


@pytest.fixture(params=["folder", "store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageFolder]:
    if request.param == "folder":
        yield open_storage(tmp_path) / "duets"
        return
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with fake_s3() as server:
        host = server.address.removeprefix("http://")
        yield open_storage(f"s3://bucket/runs?scheme=http&region=eu&endpoint_override={host}") / "duets"


class Watching:
    """A `RequestWatch` that looks often, with what it has read and warned of."""

    def __init__(self, storage: StorageFolder):
        self.warnings: list[str] = []
        self.read: list[tuple[str, StopRequest]] = []
        self._warned = threading.Event()
        self.watch = RequestWatch(storage, self._warn, seconds=0.02)

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        self._warned.set()

    def wait_for_warning(self) -> str:
        assert self._warned.wait(PATIENCE)
        return self.warnings[-1]

    def wait_for(self, there: Callable[[], bool]) -> None:
        """Look until something is there, which a thread brings about."""
        clock = threading.Event()
        for _ in range(int(PATIENCE / 0.02)):
            self.read += self.watch.taken()
            if there():
                return
            clock.wait(0.02)
        raise AssertionError("nothing came")


@pytest.fixture
def watching(storage: StorageFolder) -> Iterator[Watching]:
    found = Watching(storage)
    yield found
    found.watch.close()


def test_a_request_is_read_once_and_removed_when_it_is_done(storage, watching):
    id = write_request(storage, REQUEST)
    watching.wait_for(lambda: bool(watching.read))
    assert watching.read == [(id, REQUEST)]
    assert (storage / FOLDER).names() == [request_name(id)]
    watching.watch.done(id)
    watching.wait_for(lambda: not (storage / FOLDER).names())
    assert watching.read == [(id, REQUEST)]


def test_what_is_left_when_the_watch_closes_is_removed(storage):
    found = Watching(storage)
    write_request(storage, REQUEST)
    found.watch.close()
    assert (storage / FOLDER).names() == []


@pytest.mark.parametrize("name", ["evil.json", "stop-0.json", "stop-0123456789abcdeg.json", "deep/stop-x.json"])
def test_an_object_of_another_name_is_removed_with_a_warning(storage, watching, name):
    (storage / FOLDER).write(name, REQUEST.model_dump_json().encode())
    assert "expected stop-<16 hexadecimal digits>.json" in watching.wait_for_warning()
    watching.wait_for(lambda: not (storage / FOLDER).names())
    assert watching.read == []


def test_content_that_is_no_request_is_removed_with_a_warning(storage, watching):
    (storage / FOLDER).write(request_name("0" * 16), b'{"what": "everything"}')
    assert "removed, and nothing is stopped" in watching.wait_for_warning()
    assert watching.read == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format"),
        ({"what": "machine"}, "what"),
        ({"jobs": ["../t0001"]}, "jobs"),
        ({"jobs": ["t0001\n"]}, "jobs"),
        ({"jobs": "t0001"}, "jobs"),
        ({"jobs": ["t0001"] * 1001}, "jobs"),
        ({"process": -1}, "process"),
        ({"process": True}, "process"),
        ({"by": "x" * 101}, "by"),
        ({"by": "\x1b[2J"}, "not printable"),
        ({"command": "rm"}, "unknown key"),
    ],
)
def test_a_request_is_parsed_strictly(changes, message):
    content = {**json.loads(REQUEST.model_dump_json()), **changes}
    with pytest.raises(UserError, match=message):
        parse_request(json.dumps(content).encode(), "request")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 50_000, b" " * (MOST_BYTES + 1), b"\xff"])
def test_content_that_is_no_json_object_or_is_too_large_is_refused(content):
    with pytest.raises(UserError, match="request"):
        parse_request(content, "request")


def test_who_asks_is_a_user_and_a_machine():
    user, _, machine = asker().partition("@")
    assert user
    assert machine


def test_a_storage_that_does_not_answer_is_asked_again(tmp_path, monkeypatch):
    storage = open_storage(tmp_path) / "duets"
    answers = iter([True, True])

    def names(self: StorageFolder, after: str = "") -> list[str]:
        if next(answers, False):
            raise UserError("does not answer")
        return before(self, after)

    before = StorageFolder.names
    monkeypatch.setattr(StorageFolder, "names", names)
    found = Watching(storage)
    id = write_request(storage, REQUEST)
    found.wait_for(lambda: bool(found.read))
    found.watch.close()
    assert (found.read, found.warnings) == ([(id, REQUEST)], [])
