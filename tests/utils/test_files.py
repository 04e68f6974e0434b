"""Files that are whole or not there."""

import os
import time

import pytest

from sepsearch.utils.errors import StorageFault, UserError, exit_on_user_error
from sepsearch.utils.files import damage, folder_sha256, new_folder, require_space, write_atomically


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


@pytest.fixture
def disk(monkeypatch):
    """What reaches the disk, in order: ("sync", path) and ("name", path), and the paths as they are now."""
    done: list[tuple[str, str]] = []
    fsync, replace, rename = os.fsync, os.replace, os.rename

    def sync(descriptor):
        done.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def named(move):
        def act(source, target, **options):
            move(source, target, **options)
            done.append(("name", str(target)))

        return act

    monkeypatch.setattr("os.fsync", sync)
    monkeypatch.setattr("os.replace", named(replace))
    monkeypatch.setattr("os.rename", named(rename))
    return done


def test_a_files_content_its_name_and_its_new_folders_reach_the_disk_in_this_order(tmp_path, disk):
    write_atomically(tmp_path / "new" / "deeper" / "file", "content")
    folders = [("sync", str(tmp_path / "new")), ("sync", str(tmp_path))]
    assert disk[:2] == folders
    (kind, content), *rest = disk[2:]
    assert (kind, os.path.dirname(content)) == ("sync", str(tmp_path / "new" / "deeper"))
    assert rest == [("name", str(tmp_path / "new" / "deeper" / "file")), ("sync", str(tmp_path / "new" / "deeper"))]


def test_a_folders_files_and_folders_reach_the_disk_before_its_name_and_the_name_after(tmp_path, disk):
    with new_folder(tmp_path / "set") as partial:
        (partial / "x").write_text("x")
        (partial / "below").mkdir()
        (partial / "below" / "y").write_text("y")
    name = disk.index(("name", str(tmp_path / "set")))
    before = {path.removeprefix(str(partial)) for kind, path in disk[:name] if kind == "sync"}
    assert before >= {"/x", "/below/y", "/below", ""}
    assert disk[name + 1 :] == [("sync", str(tmp_path))]


def test_a_damaged_folder_of_an_earlier_attempt_is_replaced_where_that_is_wanted(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "x").touch()
    with new_folder(tmp_path / "set", replace=True) as partial:
        (partial / "x").write_text("whole")
    assert (tmp_path / "set" / "x").read_text() == "whole"


def test_checksums_tell_a_missing_and_a_damaged_file_by_name(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("a", "below/b"):
        (tmp_path / name).write_text(name)
    checksums = folder_sha256(tmp_path)
    assert list(checksums) == ["a", "below/b"]
    assert damage(tmp_path, checksums) == ""
    os.truncate(tmp_path / "below" / "b", 0)
    assert damage(tmp_path, checksums).startswith(f"{tmp_path}/below/b: damaged")
    (tmp_path / "a").unlink()
    assert damage(tmp_path, checksums) == f"{tmp_path}/a: missing"


def test_a_disk_that_cannot_be_written_is_a_fault_of_the_storage(tmp_path, monkeypatch):
    def broken(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(StorageFault, match="Input/output error"):
        write_atomically(tmp_path / "file", "content")
    with pytest.raises(StorageFault, match="Input/output error"), new_folder(tmp_path / "set") as partial:
        (partial / "x").touch()
    assert os.listdir(tmp_path) == []
