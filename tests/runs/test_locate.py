"""Runs by name, path and address of a storage."""

import pytest
from compared_runs import finished_run, write_finished
from event_fixtures import journal, write_run
from fake_s3 import fake_s3

from sepsearch.runs.locate import locate_journal
from sepsearch.search.run_lock import RunLock
from sepsearch.utils.errors import UserError


@pytest.fixture
def server(monkeypatch, tmp_path):
    """An object store with the run bucket/runs/far."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    lines = (write_run(tmp_path / "far", journal(finished_run("far"))) / "journal.jsonl").read_bytes().splitlines(True)
    with fake_s3() as server:
        server.objects |= {f"bucket/runs/far/journal/{number:09d}.jsonl": line for number, line in enumerate(lines)}
        yield server


def query(server):
    return f"?scheme=http&region=eu&endpoint_override={server.address.removeprefix('http://')}"


def test_an_address_gives_a_copy_of_the_journal_in_the_folder_for_copies(server, tmp_path):
    copies = tmp_path / "copies"
    copies.mkdir()
    path = locate_journal(f"s3://bucket/runs/far{query(server)}", tmp_path / "runs", copies)
    assert path.parent == copies
    assert path.read_bytes() == (tmp_path / "far" / "journal.jsonl").read_bytes()
    assert not (tmp_path / "runs").exists()


def test_an_address_without_a_run_is_one_line(server, tmp_path):
    with pytest.raises(UserError, match=r"NAME near: no such run in s3://bucket/runs\?"):
        locate_journal(f"s3://bucket/runs/near{query(server)}", tmp_path / "runs", tmp_path)


def test_a_name_is_looked_for_among_the_runs_and_a_path_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_finished(tmp_path / "elsewhere", "alpha")
    assert locate_journal("alpha", tmp_path / "elsewhere", tmp_path) == folder / "journal.jsonl"
    with pytest.raises(UserError, match="RUN alpha: no such run"):
        locate_journal("alpha", tmp_path / "runs", tmp_path)
    for given in ("./elsewhere/alpha", "elsewhere/alpha/", str(folder / "journal.jsonl")):
        assert locate_journal(given, tmp_path / "runs", tmp_path).resolve() == folder / "journal.jsonl"


def test_a_run_that_gets_ready_is_named_as_such(tmp_path):
    (tmp_path / "new").mkdir()
    lock = RunLock(tmp_path / "new" / "journal.jsonl")
    with pytest.raises(UserError, match="RUN new: the run gets ready"):
        locate_journal("new", tmp_path, tmp_path)
    lock.release()
    with pytest.raises(UserError, match="RUN new: no such run"):
        locate_journal("new", tmp_path, tmp_path)
