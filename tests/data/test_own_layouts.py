"""Layouts from outside the package: who reads a folder, and that all checks of recordings are made of what they name."""

from pathlib import Path

import numpy as np
import pytest
from plugin_fixtures import install
from recording_fixtures import melody, write_urmp_piece, write_wav

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.data.layouts import Layout, PieceFiles
from sepsearch.data.preparation import prepare
from sepsearch.data.recordings import read_folder
from sepsearch.utils.errors import UserError, each_problem
from sepsearch.utils.plugins import LAYOUTS, forget_plugin, known_as, register_plugin

SOURCE = """
from sepsearch.data.layouts import Layout, PieceFiles
LAYOUT = Layout(lambda folder: RECOGNISES, lambda folder: [])
"""


def pieces(folder: Path) -> list[PieceFiles]:
    """Of files such as one.vn.wav."""
    names = sorted({path.name.split(".")[0] for path in folder.glob("*.*.wav")})
    return [PieceFiles(n, n, [(p.name.split(".")[1], p) for p in sorted(folder.glob(f"{n}.*.wav"))]) for n in names]


FLAT = Layout(lambda folder: any(folder.glob("*.*.wav")), pieces)


@pytest.fixture
def flat(tmp_path):
    """A folder in the layout FLAT, which is registered."""
    for code, seconds in (("vn", 1.2), ("vc", 1.2)):
        write_wav(tmp_path / "flat" / f"one.{code}.wav", melody(code, seconds, np.random.default_rng(0)))
    register_plugin(LAYOUTS, "flat", FLAT)
    yield tmp_path / "flat"
    forget_plugin(LAYOUTS, "flat")


def test_a_folder_that_a_layout_recognises_is_read_by_it_and_prepared(flat, tmp_path, monkeypatch):
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / "cache"))
    recordings, shards = prepare(flat, FrontEnd(clip_seconds=1.0), lambda stage, done, total: None)
    assert recordings.layout == "flat"
    assert [(piece.name, [stem.instrument for stem in piece.stems]) for piece in recordings.pieces] == [
        ("one", ["vc", "vn"])
    ]
    assert any("read by the layout flat" in note for note in recordings.notes)
    assert shards.rows > 0


def test_other_folders_are_read_as_without_it(flat, tmp_path):
    write_urmp_piece(tmp_path / "urmp", "01_Jupiter_vn_vc", 0.6)
    assert read_folder(tmp_path / "urmp").layout == ""


def test_stems_have_the_checks_of_any_other_layout_all_at_once(flat):
    (flat / "one.vn.wav").write_bytes(b"")
    write_wav(flat / "two.vn.wav", np.full(48_000, np.nan), subtype="FLOAT")
    write_wav(flat / "two.vc.wav", melody("vc", 1.0, np.random.default_rng(1)), rate=4000)
    with pytest.raises(UserError) as caught:
        read_folder(flat)
    problems = [str(problem) for problem in each_problem(caught.value)]
    assert len(problems) == 3
    for name, reason in (("one.vn.wav", "empty file"), ("two.vn.wav", "NaN|finite"), ("two.vc.wav", "4000 Hz")):
        assert any(name in problem and any(r in problem for r in reason.split("|")) for problem in problems)


def test_other_rates_and_several_channels_are_read_with_their_notes(flat):
    sound = melody("fl", 1.0, np.random.default_rng(2), rate=44_100)
    write_wav(flat / "one.fl.wav", np.stack([sound, sound], 1), rate=44_100)
    notes = " ".join(read_folder(flat).notes)
    assert "resampled to 48000 Hz" in notes
    assert "mixed down to one channel" in notes


def test_titles_that_differ_in_case_only_are_one_title(tmp_path):
    for name in ("a", "b"):
        for code in ("vn", "vc"):
            write_wav(tmp_path / f"{name}.{code}.wav", melody(code, 0.6, np.random.default_rng(0)))
    titles = {"a": "Elise", "b": "ELISE"}
    takes = Layout(
        FLAT.recognises, lambda folder: [PieceFiles(p.name, titles[p.name], p.stems) for p in pieces(folder)]
    )
    with known_as(LAYOUTS, "takes", takes):
        assert {piece.title for piece in read_folder(tmp_path).pieces} == {"Elise"}


def test_two_layouts_that_recognise_one_folder_are_both_named(flat):
    with (
        known_as(LAYOUTS, "other", FLAT),
        pytest.raises(UserError, match=r"recognised by layout flat .* and layout other"),
    ):
        read_folder(flat)


def test_a_layout_that_fails_is_one_line(flat):
    def failing(folder: Path) -> bool:
        raise KeyError("no index")

    with (
        known_as(LAYOUTS, "other", Layout(failing, pieces)),
        pytest.raises(UserError, match=r"layout other .*KeyError"),
    ):
        read_folder(flat)


def test_an_installed_layout_names_its_distribution_where_it_is_none(flat, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    install_at = tmp_path / "site"
    install_at.mkdir()
    install(install_at, "odd-layouts", {"_odd": "LAYOUT = 3"}, {f"{LAYOUTS}: odd": "_odd:LAYOUT"})
    with pytest.raises(
        UserError, match=r"layout odd \(odd-layouts 1.0\): expected a sepsearch.data.layouts.Layout, found int"
    ):
        read_folder(flat)


def test_an_installed_layout_reads_its_folders(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    source = SOURCE.replace("RECOGNISES", "folder.name == 'mine'")
    install(tmp_path, "more-layouts", {"_more": source}, {f"{LAYOUTS}: more": "_more:LAYOUT"})
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match=r"mine: layout more: expected pieces, found none"):
        read_folder(tmp_path / "mine")
