"""Joining a cluster by `--address auto`: whose word is taken for where it is, and what Ray is told."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sepsearch.distributed import cluster_connection
from sepsearch.utils.errors import UserError

STRANGER = 12345  # a user id


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of something that listens where a cluster might; the token goes to nobody."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster_connection, "_require_token", lambda address, target: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str) -> Path:
    """The file in which `ray start` leaves the address, with nobody but its owner allowed to write file or folder."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir(mode=0o755)
    path = tmp_path / "ray" / "ray_current_cluster"
    path.write_text(cluster)
    path.chmod(0o644)
    return path


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file another user's; where only root could, be another user from here on."""
    if os.getuid() == 0:
        os.chown(path, STRANGER, STRANGER)
    else:
        mine = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: mine + 1)


def refusal() -> str:
    with pytest.raises(UserError) as caught:
        cluster_connection.require_cluster("auto")
    return str(caught.value)


def test_auto_is_the_address_in_a_file_that_only_its_user_can_write(file, cluster):
    assert cluster_connection.require_cluster("auto") == cluster


def test_an_address_that_another_user_has_planted_is_refused_by_name_and_owner(file, monkeypatch):
    asked = []
    monkeypatch.setattr(socket, "create_connection", lambda *arguments, **options: asked.append(arguments))
    give_away(file, monkeypatch)
    text = refusal()
    assert f"{file} belongs to " in text
    assert "such as --address 10.0.0.1:6379" in text
    assert asked == []


def test_a_folder_of_another_user_is_refused(file, monkeypatch):
    give_away(file.parent, monkeypatch)
    assert "belongs to " in refusal()


@pytest.mark.parametrize(("name", "mode"), [("file", 0o664), ("file", 0o646), ("folder", 0o777), ("folder", 0o1777)])
def test_a_file_or_folder_that_others_can_write_is_refused(file, name, mode):
    path = file if name == "file" else file.parent
    path.chmod(mode)
    assert f"{path} of " in (text := refusal())
    assert f"can be written by others (mode {mode:o})" in text


def test_links_and_pipes_are_not_followed_or_waited_for(file, tmp_path, cluster):
    elsewhere = tmp_path / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    assert "symbolic link" in refusal()
    file.unlink()
    os.mkfifo(file, 0o600)
    assert "no regular file" in refusal()
    file.unlink()
    file.parent.rename(tmp_path / "moved")
    file.parent.symlink_to(tmp_path / "moved")
    assert "symbolic link" in refusal()


def test_an_open_folder_as_ray_leaves_it_is_no_matter_where_a_raylet_of_ones_own_runs_in_that_cluster(
    file, tmp_path, cluster
):
    file.parent.chmod(0o777)
    raylet = tmp_path / "raylet"
    shutil.copy(shutil.which("sh"), raylet)
    line = [raylet, "-c", "read line", "raylet", f"--gcs-address={cluster}"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert cluster_connection.require_cluster("auto") == cluster
            file.write_text("127.0.0.1:1")
            assert "can be written by others" in refusal()
        finally:
            process.kill()


def test_a_process_that_only_calls_itself_a_raylet_vouches_for_nothing(file, cluster):
    file.parent.chmod(0o777)
    line = ["raylet", "-c", "read line", "raylet", f"--gcs-address={cluster}"]
    with subprocess.Popen(line, executable=shutil.which("sh"), stdin=subprocess.PIPE) as process:
        try:
            assert "can be written by others" in refusal()
        finally:
            process.kill()


def test_the_environments_address_comes_before_the_file(file, cluster, monkeypatch):
    file.write_text("127.0.0.1:1")
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    assert cluster_connection.require_cluster("auto") == cluster


def test_no_file_is_no_cluster(file):
    file.unlink()
    assert "no Ray cluster found (none is known here)" in refusal()


def test_ray_is_given_the_address_that_was_looked_at_and_not_auto(file, cluster, monkeypatch):
    import ray

    from sepsearch.distributed import session

    class Joined(Exception):
        pass

    def init(**options: object) -> None:
        assert options["address"] == cluster
        raise Joined

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # other tests of this process may have started one
    with pytest.raises(UserError) as caught, session.ray_session("auto"):
        pass
    assert isinstance(caught.value.__cause__, Joined)
