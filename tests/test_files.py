"""Files that are whole or not there."""

import os
import time

import pytest

from sepsearch.errors import UserError, exit_on_user_error
from sepsearch.files import new_folder, require_space, write_atomically


def test_a_file_is_replaced_as_a_whole(tmp_path):
    write_atomically(tmp_path / "a" / "file", "old")
    write_atomically(tmp_path / "a" / "file", "new")
    assert (tmp_path / "a" / "file").read_text() == "new"
    assert os.listdir(tmp_path / "a") == ["file"]


def test_a_folder_appears_only_when_it_is_complete(tmp_path):
    with new_folder(tmp_path / "set") as partial:
        (partial / "x").write_text("x")
        assert not (tmp_path / "set").exists()
    assert (tmp_path / "set" / "x").read_text() == "x"
    assert os.listdir(tmp_path) == ["set"]


def test_an_error_leaves_no_folder_behind(tmp_path):
    with pytest.raises(ValueError, match="midway"), new_folder(tmp_path / "set"):
        raise ValueError("midway")
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_is_removed_once_it_is_old(tmp_path):
    names = [".set.partial-old", ".set.partial-young", ".set.bak", ".other.partial-old"]
    for name in names:
        (tmp_path / name).mkdir()
        if not name.endswith("young"):
            os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    with new_folder(tmp_path / "set"):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted([*names[1:], "set"])


def test_a_name_with_wildcards_sweeps_only_its_own(tmp_path):
    kept = tmp_path / ".set.partial-old"
    kept.mkdir()
    os.utime(kept, (time.time() - 7200,) * 2)
    with new_folder(tmp_path / "*"):
        pass
    assert kept.is_dir()


def test_a_disk_without_enough_space_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match=r"a shard set needs .* MB there, found .* MB free"):
        require_space(tmp_path / "not" / "there", 1e18, "a shard set")


def test_a_user_error_is_one_line_and_exit_code_2(capsys):
    def command() -> None:
        raise UserError("here:\nwrong")

    with pytest.raises(SystemExit) as caught:
        exit_on_user_error(command)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: here: wrong\n"
