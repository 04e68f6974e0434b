"""Names that others wrote become paths only below their folder."""

import pytest
from hostile import HOSTILE_NAMES

from sepsearch.utils.errors import UserError
from sepsearch.utils.safe_paths import path_below


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_that_is_no_plain_relative_path_is_refused_in_one_line(tmp_path, name):
    with pytest.raises(UserError, match=r"s3://bucket: the name .* expected a plain relative path") as error:
        path_below(tmp_path, name, "s3://bucket")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["vn", "models/vn/model.json", ".hidden", "a b:c", "ü/é", "..."])
def test_a_plain_name_is_a_path_below_the_folder(tmp_path, name):
    assert path_below(tmp_path, name, "") == tmp_path / name


def test_a_link_below_the_folder_must_not_lead_out_of_it(tmp_path):
    folder = tmp_path / "run"
    (folder / "inside").mkdir(parents=True)
    (folder / "out").symlink_to(tmp_path)
    (folder / "in").symlink_to(folder / "inside")
    assert path_below(folder, "in/file", "") == folder / "in" / "file"
    with pytest.raises(UserError, match="out/file: a symbolic link leads to"):
        path_below(folder, "out/file", "")


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    assert path_below(tmp_path / "run", "a/b", "") == tmp_path / "run" / "a" / "b"
