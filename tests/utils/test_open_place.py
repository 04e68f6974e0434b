"""Places: folders and object stores under one interface; what a person can get wrong in an address."""

import pickle

import pytest
from hostile import HOSTILE_NAMES as HOSTILE

from sepsearch.utils.errors import UserError
from sepsearch.utils.storage import StorageFolder, open_storage


def test_a_file_is_read_as_it_was_written_and_none_where_there_is_none(tmp_path):
    place = open_storage(tmp_path) / "run"
    place.write("a/b.txt", b"old")
    place.write("a/b.txt", b"new")
    assert place.read("a/b.txt") == b"new"
    assert place.read("a/c.txt") is None


def test_names_are_sorted_paths_and_leave_out_what_is_unfinished(tmp_path):
    place = open_storage(tmp_path)
    for name in ("b", "a/z", ".a.half"):
        place.write(name, b"")
    assert place.names() == ["a/z", "b"]


def test_a_place_without_a_folder_has_no_names(tmp_path):
    assert (open_storage(tmp_path) / "nothing").names() == []


def test_removing_passes_over_what_is_not_there(tmp_path):
    place = open_storage(tmp_path)
    place.write("a", b"")
    place.remove("a", "b")
    assert place.names() == []


def test_a_folder_is_published_and_fetched_file_by_file(tmp_path):
    (tmp_path / "here" / "sub").mkdir(parents=True)
    (tmp_path / "here" / "sub" / "x").write_bytes(b"1")
    place = open_storage(tmp_path / "there")
    place.publish(tmp_path / "here")
    place.fetch(tmp_path / "back")
    assert (tmp_path / "back" / "sub" / "x").read_bytes() == b"1"


def test_fetching_leaves_files_with_the_same_content_untouched(tmp_path):
    place = open_storage(tmp_path / "there")
    place.write("x", b"1")
    place.fetch(tmp_path / "here")
    before = (tmp_path / "here" / "x").stat().st_ino
    place.fetch(tmp_path / "here")
    assert (tmp_path / "here" / "x").stat().st_ino == before


def test_a_place_that_cannot_be_written_is_one_line_with_its_name(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/run/x: cannot be written: Not a directory"):
        (open_storage(tmp_path / "file") / "run").write("x", b"")


def test_a_path_becomes_absolute_and_a_file_uri_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_storage("runs") == StorageFolder(str(tmp_path / "runs"))
    assert open_storage(f"file://{tmp_path}/runs") == open_storage("runs")


def test_a_place_is_small_and_goes_to_other_processes(tmp_path):
    place = open_storage(tmp_path) / "run" / "checkpoints"
    assert pickle.loads(pickle.dumps(place)) == place
    assert str(place) == f"{tmp_path}/run/checkpoints"


def test_a_file_is_created_once_and_the_same_content_counts_as_created(tmp_path):
    place = open_storage(tmp_path) / "run"
    assert place.create("a/line", b"first")
    assert not place.create("a/line", b"second")
    assert place.create("a/line", b"first")
    assert place.read("a/line") == b"first"
    assert place.names() == ["a/line"]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3://key:secret@bucket/runs", "credentials in the address"),
        ("s3://secret@bucket/runs", "credentials in the address"),
        ("abfs://box@account/runs?account_key=abc", "credentials in the address"),
        ("s3://", "no bucket"),
        ("ftp://host/runs", "no store is known by ftp://, expected a folder"),
        ("hdfs://host:8020/runs", "s3://bucket/runs, gs://bucket/runs, az://container/runs"),
        ("s3://bucket/runs?reigon=eu-west-1", "unknown parameter 'reigon', expected some of endpoint_override, scheme"),
        ("gs://bucket/../other", "has a part '..'"),
        ("s3://[bucket", "not an address"),
    ],
)
def test_an_address_that_cannot_be_is_refused_without_asking_anyone(address, expected):
    with pytest.raises(UserError) as error:
        open_storage(address)
    assert expected in str(error.value)
    assert "secret" not in str(error.value)
    assert "abc" not in str(error.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_is_no_plain_relative_path_is_refused_by_every_method(tmp_path, name):
    place = open_storage(tmp_path / "store")
    for use in (place.read, place.modified, place.remove, place.__truediv__):
        with pytest.raises(UserError, match="expected a plain relative path"):
            use(name)
    for use in (place.write, place.create):
        with pytest.raises(UserError, match="expected a plain relative path"):
            use(name, b"")
    assert list(tmp_path.iterdir()) == []


def test_fetching_does_not_follow_a_link_out_of_the_folder(tmp_path):
    place = open_storage(tmp_path / "there")
    place.write("models/vn", b"1")
    (tmp_path / "here").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "here" / "models").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match=r"here/models/vn: a symbolic link leads to .*outside/vn"):
        place.fetch(tmp_path / "here")
    assert list((tmp_path / "outside").iterdir()) == []
