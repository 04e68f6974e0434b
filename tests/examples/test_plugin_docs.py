"""The code in docs/plug-ins.md: files with the names that the page gives them, as a reader would copy them."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from recording_fixtures import melody, write_wav

from sepsearch.spaces.space import load_space
from sepsearch.testing import check_family, check_layout, check_sampler
from sepsearch.utils.plugins import FAMILIES, known_as

PAGE = (Path(__file__).parents[2] / "docs" / "plug-ins.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def copied(tmp_path, monkeypatch) -> Path:
    """A folder with the page's files."""
    for name, text in (
        ("my_network", "MyNetwork"),
        ("my_sampler", "def make_sampler"),
        ("my_layout", "def recognises"),
    ):
        (code,) = (block for block in blocks("python") if text in block and "test_" not in block)
        (tmp_path / f"{name}.py").write_text(code)
    (tmp_path / "my-space.yaml").write_text(blocks("yaml")[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_network_passes_and_the_space_file_names_it(copied):
    family = __import__("my_network").FAMILY
    check_family(family, {"hidden": 4, "dropout": 0.3}, onnx=False)
    with known_as(FAMILIES, "my_network", family):
        assert load_space(copied / "my-space.yaml").families == ("report", "my_network")


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_sampler_passes(copied):
    check_sampler(__import__("my_sampler").make_sampler)


def test_the_layout_passes(copied):
    for code in ("vn", "vc"):
        write_wav(copied / "sound" / f"Elise.{code}.wav", melody(code, 0.6, np.random.default_rng(0)))
    check_layout(__import__("my_layout").LAYOUT, copied / "sound")


def test_the_tests_on_the_page_can_be_run(copied):
    tests = [block for block in blocks("python") if "def test_" in block]
    assert len(tests) == 2
    for block in tests:
        compile(block, "test", "exec")
        (module,) = re.findall(r"^from (my_\w+) import", block, re.MULTILINE)
        assert (copied / f"{module}.py").exists()


def test_entry_points_name_objects_of_the_files(copied):
    points = {}
    for block in blocks("toml"):
        points |= tomllib.loads(block)["project"]["entry-points"]
    assert set(points) == {"sepsearch.families", "sepsearch.samplers", "sepsearch.layouts"}
    for values in points.values():
        for value in values.values():
            module, name = value.split(":")
            assert hasattr(__import__(module), name)
