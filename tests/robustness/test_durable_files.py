"""What a power cut takes, and that every way in which Python code changes files is seen."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from disk_operations import Disk
from durable_files import KEPT, UNDONE, read_files, write_files


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Operations below the working directory, and the disk that sees them."""
    monkeypatch.chdir(tmp_path)
    seen = []
    disk = Disk(tmp_path, after=lambda disk, operation: seen.append((operation.kind, operation.path)))
    with disk.watching():
        yield seen, disk


def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def test_what_is_buffered_is_written_where_it_reaches_the_disk(watched):
    seen, disk = watched
    with open("a", "w", encoding="utf-8") as file:
        file.write("one")
        assert seen == [("create", "a")]
        file.write("two")
    assert seen == [("create", "a"), ("write", "a")]
    assert Path("a").read_text() == "onetwo"
    assert disk.missed() == []


def test_files_of_all_kinds_are_seen_and_hold_what_was_written(watched):
    seen, disk = watched
    Path("b").write_bytes(b"x" * 100_000)
    with Path("b").open("r+b") as file:
        file.seek(10)
        file.write(b"yy")
        file.truncate(20)
    with open("b", "ab", buffering=0) as file:
        file.write(b"z")
    descriptor, name = tempfile.mkstemp(dir=".")
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"temporary")
    os.replace(name, "c")
    os.link("c", "d")
    shutil.copy("c", "e")
    assert Path("b").read_bytes() == b"x" * 10 + b"yy" + b"x" * 8 + b"z"
    assert Path("d").read_bytes() == Path("e").read_bytes() == b"temporary"
    assert disk.missed() == []
    assert {kind for kind, _ in seen} == {"create", "write", "truncate", "rename", "link", "chmod"}


def test_every_removal_of_a_tree_is_seen(watched):
    seen, disk = watched
    Path("a/b").mkdir(parents=True)
    Path("a/b/c").touch()
    shutil.rmtree("a")
    assert seen == [
        ("mkdir", "a"),
        ("mkdir", "a/b"),
        ("create", "a/b/c"),
        ("unlink", "a/b/c"),
        ("rmdir", "a/b"),
        ("rmdir", "a"),
    ]
    assert disk.missed() == []


def test_arrow_and_libsndfile_are_seen(watched):
    import numpy
    import pyarrow
    import soundfile

    seen, disk = watched
    table = pyarrow.table({"a": [1, 2]})
    with pyarrow.OSFile("t.arrow", "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    soundfile.write("s.wav", numpy.zeros(10), 48_000)
    assert disk.missed() == []
    assert {path for _, path in seen} == {"t.arrow", "s.wav"}
    with pyarrow.memory_map("t.arrow") as source:
        assert pyarrow.ipc.open_file(source).read_all() == table
    assert len(soundfile.read("s.wav")[0]) == 10


def test_an_fsync_of_a_file_opened_to_be_read_counts(watched):
    _, disk = watched
    Path("file").write_text("content")
    with open("file", "rb") as file:
        assert file.read() == b"content"
        os.fsync(file.fileno())
    assert disk.tree.after_power_cut(KEPT) == {"file": b"content"}


def test_what_cannot_be_done_is_no_operation(watched):
    seen, _ = watched
    Path("a").mkdir()
    Path("a/b").mkdir()
    for cannot in (lambda: os.rmdir("a"), lambda: os.mkdir("a"), lambda: os.mkdir("c/d"), lambda: os.unlink("e")):
        with pytest.raises(OSError, match=r"a|c/d|e"):
            cannot()
    assert seen == [("mkdir", "a"), ("mkdir", "a/b")]


def test_what_is_written_past_the_watch_is_found(watched):
    _, disk = watched
    disk._real_open("hidden", "w").close()
    assert disk.missed() == ["hidden"]


def test_a_file_that_was_renamed_and_not_fsynced_is_empty_or_not_there(watched):
    _, disk = watched
    Path("new").write_text("content")
    os.replace("new", "file")
    assert disk.tree.after_power_cut(KEPT) == {"file": b""}
    assert disk.tree.after_power_cut(UNDONE) == {}


def test_a_file_lasts_when_it_and_its_folder_were_fsynced(watched):
    _, disk = watched
    Path("file").write_text("content")
    sync("file")
    assert disk.tree.after_power_cut(KEPT) == {"file": b"content"}
    assert disk.tree.after_power_cut(UNDONE) == {}
    sync(".")
    assert disk.tree.after_power_cut(UNDONE) == {"file": b"content"}


def test_of_a_file_that_grows_what_was_fsynced_lasts(watched):
    _, disk = watched
    with open("log", "ab", buffering=0) as file:
        file.write(b"one\n")
        os.fsync(file.fileno())
        file.write(b"two\n")
    sync(".")
    assert disk.tree.after_power_cut(UNDONE) == {"log": b"one\n"}


def test_a_removal_or_replacement_that_was_not_fsynced_may_be_undone(watched):
    _, disk = watched
    for name in ("a", "b", "c"):
        Path(name).write_text(name)
        sync(name)
    sync(".")
    Path("a").unlink()
    os.replace("b", "c")
    assert disk.tree.after_power_cut(UNDONE) == {"a": b"a", "b": b"b", "c": b"c"}
    assert disk.tree.after_power_cut(KEPT) == {"c": b"b"}


def test_a_folder_lasts_with_what_lasts_in_it(watched):
    _, disk = watched
    Path("a").mkdir()
    Path("a/b").write_text("b")
    sync("a/b")
    sync("a")
    assert disk.tree.after_power_cut(UNDONE) == {}
    sync(".")
    assert disk.tree.after_power_cut(UNDONE) == {"a": None, "a/b": b"b"}


def test_files_are_written_as_they_were_read(tmp_path):
    files = {"a": None, "a/b": b"1", "c": b""}
    write_files(tmp_path, files)
    assert read_files(tmp_path) == files
