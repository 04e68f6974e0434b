"""Where a local Ray keeps its sockets: TMPDIR of batch jobs may be too long for their paths, or not this user's."""

import os
from pathlib import Path

import pytest

from sepsearch.distributed import ray_folder as module
from sepsearch.distributed.ray_folder import LONGEST, LONGEST_SOCKET, LONGEST_TMPDIR, ray_folder, short_tmpdir
from sepsearch.utils.errors import UserError

LONG = "/tmp/" + "job" * 30


@pytest.fixture(autouse=True)
def private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No variables, and no folder is made outside of the test's own."""
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    made = tmp_path / "own"
    monkeypatch.setattr(module, "private_path", lambda: made)
    return made


def test_it_is_rays_own_choice_where_that_will_do(monkeypatch):
    from ray._common.utils import get_default_ray_temp_dir

    for name, value in ((None, None), ("TMPDIR", "/var/tmp"), ("RAY_TMPDIR", "/tmp/x")):
        if name:
            monkeypatch.setenv(name, value)
        assert str(ray_folder()) == get_default_ray_temp_dir()


def test_what_ray_adds_to_the_folder_is_what_it_is_taken_for(monkeypatch):
    from ray._private import node, utils
    from ray.dashboard.modules.task_events.task_events_head import TaskEventsHead
    from ray.dashboard.subprocesses.utils import get_socket_path

    assert 'f"session_{date_str}_{os.getpid()}"' in Path(node.__file__).read_text()
    folder = "/" + "f" * (LONGEST - 1)
    sockets = f"{folder}/session_2026-11-25_08-41-13_029898_4194304/sockets"
    longest = get_socket_path(sockets, TaskEventsHead.__name__)  # it checks the length
    assert len(longest) == LONGEST_SOCKET
    with pytest.raises(OSError, match="AF_UNIX path length"):
        utils.validate_socket_filepath(longest + "x")


def test_a_tmpdir_that_is_too_long_gives_way_to_a_short_folder_of_this_user_alone(private, monkeypatch):
    monkeypatch.setenv("TMPDIR", LONG)
    assert ray_folder() == private / "ray"
    assert private.stat().st_mode & 0o777 == 0o700


def test_a_tmpdir_that_cannot_be_written_gives_way_too(private, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/dev/null")
    assert ray_folder() == private / "ray"


def test_the_longest_folder_that_will_do_is_taken_and_no_longer_one(private, monkeypatch):
    monkeypatch.setattr(module, "writable", lambda folder: True)
    most = LONGEST - len("/ray")
    monkeypatch.setenv("TMPDIR", "/" + "x" * (most - 1))
    assert ray_folder() == Path(os.environ["TMPDIR"], "ray")
    monkeypatch.setenv("TMPDIR", "/" + "ü" + "x" * (most - 2))  # two bytes
    assert ray_folder() == private / "ray"


@pytest.mark.parametrize(
    ("value", "why"), [(LONG, "too long for the paths of Ray's sockets"), ("/dev/null", "cannot be written")]
)
def test_a_ray_tmpdir_that_will_not_do_is_one_line_that_says_what_to_set(value, why, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", value)
    with pytest.raises(UserError) as caught:
        ray_folder()
    assert str(caught.value).startswith(f"RAY_TMPDIR={value}: {why}")
    assert "set RAY_TMPDIR to a folder that can be written, of at most 32 bytes" in str(caught.value)


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_short_folder_that_somebody_else_has_put_there_is_not_used(kind, private, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", LONG)
    if kind == "link":
        private.symlink_to(tmp_path)
    else:
        private.write_text("")
    with pytest.raises(UserError, match=rf"TMPDIR={LONG}: too long .* and {private} .*: set RAY_TMPDIR"):
        ray_folder()


def test_rays_processes_get_a_tmpdir_in_which_pythons_own_sockets_find_room(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/" + "x" * LONGEST_TMPDIR)
    with short_tmpdir(tmp_path / "ray"):
        assert os.environ["TMPDIR"] == str(tmp_path)
    assert os.environ["TMPDIR"] == "/" + "x" * LONGEST_TMPDIR
    monkeypatch.setenv("TMPDIR", "/" + "x" * (LONGEST_TMPDIR - 1))
    with short_tmpdir(tmp_path / "ray"):
        assert os.environ["TMPDIR"] == "/" + "x" * (LONGEST_TMPDIR - 1)


def test_a_run_says_so_before_it_prepares_anything(tmp_path, monkeypatch):
    from sepsearch import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_TMPDIR", LONG)
    monkeypatch.setattr(
        "sepsearch.pipeline.driver._prepare", lambda *arguments: pytest.fail("recordings were prepared")
    )
    space = Path(run.__file__).parent.parent / "search_spaces" / "laptop.yaml"
    with pytest.raises(UserError, match="RAY_TMPDIR"):
        run.main(["--space", str(space), "--name", "a"])
