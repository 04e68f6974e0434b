"""A user without home folder or passwd entry, as in containers and batch jobs: it runs, or one line names the variable."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from sepsearch.distributed import session
from sepsearch.preflight.checks import check_folders
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import cache_folder, require_space
from sepsearch.utils.home import home_problem, provide_home
from sepsearch.utils.storage import open_storage

VARIABLES = ("HOME", "SEPSEARCH_CACHE", "XDG_CACHE_HOME", "MPLCONFIGDIR", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id that has no entry in the password database, and an environment that names no folder."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what is set meanwhile is taken back
        monkeypatch.delenv(name)

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder that is there and cannot be written, even by root."""
    home = tmp_path / "home"
    home.mkdir()
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: real(path, mode) and not (mode & os.W_OK and Path(path).is_relative_to(home))
    )
    monkeypatch.setenv("HOME", str(home))
    return home


def test_without_a_home_one_line_names_the_variable(nobody):
    with pytest.raises(UserError) as caught:
        cache_folder()
    assert "HOME is not set and user id" in str(caught.value)
    assert "set SEPSEARCH_CACHE to a folder that can be written" in str(caught.value)


def test_preflight_says_so_before_anything_is_spent(nobody, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="SEPSEARCH_CACHE"):
        check_folders(tmp_path / "runs" / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_cache_folder_that_is_named_stands_in_for_the_home(nobody, tmp_path, monkeypatch):
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / "cache"))
    provide_home()
    assert Path.home() == tmp_path / "cache"
    assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "cache" / "matplotlib")
    assert home_problem() == ""


def test_a_home_that_does_not_exist_is_none(nobody, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null/home")
    assert home_problem() == "the home folder /dev/null/home does not exist"
    with pytest.raises(UserError, match="SEPSEARCH_CACHE"):
        cache_folder()
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path))
    provide_home()
    assert os.environ["HOME"] == str(tmp_path)


def test_a_home_that_cannot_be_written_stays_the_home_since_credentials_may_be_in_it(
    nobody, closed, tmp_path, monkeypatch
):
    with pytest.raises(
        UserError, match=r"home/.cache/sepsearch: the cache can neither be read nor made there: set SEP"
    ):
        cache_folder()
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / "cache"))
    provide_home()
    assert os.environ["HOME"] == str(closed)
    assert cache_folder() == tmp_path / "cache"


def test_a_cache_that_is_there_can_be_read_where_it_cannot_be_written(nobody, closed):
    (closed / ".cache" / "sepsearch").mkdir(parents=True)
    assert cache_folder() == closed / ".cache" / "sepsearch"
    with pytest.raises(
        UserError, match=r"may not be written by this user\), expected a folder for a shard set: .*SEPSEARCH_CACHE"
    ):
        require_space(cache_folder() / "shards", 1.0, "a shard set")


def test_a_home_that_can_be_written_is_left_alone(nobody, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / "cache"))
    provide_home()
    assert os.environ["HOME"] == str(tmp_path)
    assert "MPLCONFIGDIR" not in os.environ


def test_rays_token_goes_to_the_cache_where_no_home_can_be_written(nobody, closed, tmp_path, monkeypatch):
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / "cache"))
    session._provide_token()
    path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert path.parent == tmp_path / "cache"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_text()) == 64


def test_a_token_that_is_in_a_home_that_cannot_be_written_is_used(nobody, closed, tmp_path, monkeypatch):
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / "cache"))
    (closed / ".ray").mkdir()
    (closed / ".ray" / "auth_token").write_text("t" * 64)
    session._provide_token()
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ
    assert not (tmp_path / "cache").exists()


def test_ray_is_told_where_the_token_is_if_only_the_password_database_knows_the_home(nobody, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    session._provide_token()
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / ".ray" / "auth_token")


def test_a_place_in_the_home_of_nobody_is_one_line(nobody):
    with pytest.raises(UserError, match="--storage ~/runs: there is no such home folder: give the whole path"):
        open_storage("~/runs")


@pytest.mark.parametrize(
    "words", [["demo"], ["run", "--space", "search_spaces/laptop.yaml"]], ids=lambda words: words[0]
)
def test_a_command_of_a_user_without_home_ends_in_one_line(words, tmp_path):
    code = (
        "import pwd, sys\n"
        "def unknown(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = unknown\n"
        "from sepsearch.__main__ import main\n"
        f"sys.argv = ['sepsearch', *{words!r}]\n"
        "main()"
    )
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: no home folder for the cache: HOME is not set")
    assert done.stderr.count("\n") == 1
