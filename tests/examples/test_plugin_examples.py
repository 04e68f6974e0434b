"""The plug-ins in examples/: each passes its contract (tests/wheel installs them as a distribution)."""

from pathlib import Path

import numpy as np
import pytest
from recording_fixtures import melody, write_wav

from sepsearch.data.recordings import read_folder
from sepsearch.testing import check_family, check_layout, check_sampler
from sepsearch.utils.errors import UserError
from sepsearch.utils.plugins import LAYOUTS, known_as

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch):
    """Imports a file of the examples."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return __import__


def test_the_family_keeps_the_contract(example):
    check_family(example("own_family").FAMILY, {"hidden": 4, "dropout": 0.2}, onnx=False)


def test_the_sampler_keeps_the_contract_and_draws_around_the_best(example):
    check_sampler(example("own_sampler").LocalSampler)


def stems(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        code = ("vn", "sax", "vc")[number % 3]
        write_wav(folder / f"{name}.wav", melody(code, 0.6, np.random.default_rng(number)))


def test_the_layout_of_bach10_reads_its_chorales(example, tmp_path):
    for name in ("01-AchGottundHerr", "02-AchLiebenChristen"):
        stems(tmp_path / name, f"{name}-violin", f"{name}-saxphone", name)
        (tmp_path / name / f"{name}.mid").touch()
    layout = example("bach10_layout").LAYOUT
    check_layout(layout, tmp_path)
    with known_as(LAYOUTS, "bach10", layout):
        first = read_folder(tmp_path).pieces[0]
    assert (first.name, first.title) == ("01-AchGottundHerr", "AchGottundHerr")
    assert sorted(stem.instrument for stem in first.stems) == ["sax", "vn"]
    assert first.mixture == tmp_path / first.name / f"{first.name}.wav"


def test_an_unknown_instrument_of_bach10_is_one_line(example, tmp_path):
    stems(tmp_path / "01-A", "01-A-violin", "01-A-theremin")
    with known_as(LAYOUTS, "bach10", example("bach10_layout").LAYOUT), pytest.raises(UserError) as caught:
        read_folder(tmp_path)
    assert "01-A-theremin.wav: expected one of vn va" in str(caught.value)


def test_the_layout_of_musdb_reads_tracks_of_instruments(example, tmp_path):
    stems(tmp_path / "train" / "Band - Song", "violin", "saxophone", "bass", "mixture")
    stems(tmp_path / "test" / "Band - Other", "cello", "bass", "mixture")
    layout = example("musdb_layout").LAYOUT
    check_layout(layout, tmp_path)
    with known_as(LAYOUTS, "musdb", layout):
        pieces = read_folder(tmp_path).pieces
    assert {piece.title: {stem.instrument for stem in piece.stems} for piece in pieces} == {
        "Band - Song": {"vn", "sax", "db"},
        "Band - Other": {"vc", "db"},
    }


def test_stems_of_musdb_that_are_no_instruments_are_refused_a_line_each(example, tmp_path):
    for track in ("A", "B"):
        stems(tmp_path / "train" / track, "bass", "drums", "other", "vocals", "mixture")
    with known_as(LAYOUTS, "musdb", example("musdb_layout").LAYOUT), pytest.raises(UserError) as caught:
        read_folder(tmp_path)
    problems = caught.value.problems
    assert [str(one).split(": ")[1].split(" ")[0] for one in problems] == ["drums.wav", "other.wav", "vocals.wav"]
    assert all("found in 2 tracks" in str(one) for one in problems)
