"""check_layout passes layouts that are right, and names what to correct in those that are not."""

from pathlib import Path

import pytest
from recording_fixtures import melody, write_wav

from sepsearch.data.layouts import Layout, PieceFiles
from sepsearch.testing import check_layout

np = pytest.importorskip("numpy")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two pieces as name.instrument.wav in one folder."""
    for title in ("a", "b"):
        for code in ("vn", "vc"):
            write_wav(tmp_path / "flat" / f"{title}.{code}.wav", melody(code, 0.6, np.random.default_rng(0)))
    return tmp_path / "flat"


def recognises(folder: Path) -> bool:
    return any(folder.glob("*.*.wav"))


def pieces(folder: Path) -> list[PieceFiles]:
    titles = sorted({path.name.split(".")[0] for path in folder.glob("*.*.wav")})
    return [PieceFiles(t, t, [(p.name.split(".")[1], p) for p in sorted(folder.glob(f"{t}.*.wav"))]) for t in titles]


def test_a_layout_that_is_right_passes(folder):
    check_layout(Layout(recognises, pieces), folder)


def changed(**parts: object):
    """The pieces with some parts otherwise."""
    return lambda folder: [PieceFiles(**{**one.__dict__, **parts}) for one in pieces(folder)]


CALLS: list[int] = []


def unsorted(folder: Path) -> list[PieceFiles]:
    CALLS.append(1)
    return changed(title=f"title {len(CALLS)}")(folder)


def writing(folder: Path) -> list[PieceFiles]:
    (folder / "cache.txt").touch()
    return pieces(folder)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout(lambda folder: False, pieces), "not recognised, expected True"),
        (Layout(lambda folder: True, pieces), "claims a folder that is not there, expected False"),
        (Layout(Path.exists, pieces), "claims an empty folder"),
        (Layout(lambda folder: any(folder.rglob("*.wav")), pieces), "claims URMP's layout"),
        (Layout(lambda folder: any(folder.iterdir()), pieces), "recognises fails on a folder that is not there"),
        (Layout(recognises, lambda folder: []), "expected pieces, found none"),
        (Layout(recognises, changed(name="x")), "expected pieces of different names, found x twice"),
        (Layout(recognises, changed(title="")), "expected names that can be printed"),
        (Layout(recognises, changed(stems=[])), "expected stems, found none"),
        (
            Layout(recognises, changed(stems=[("vocals", Path("vocals.wav"))])),
            "instrument is 'vocals', expected a code",
        ),
        (Layout(recognises, changed(stems=[("vn", Path("/etc/passwd"))])), "/etc/passwd: expected a file in"),
        (Layout(recognises, lambda folder: [one.name for one in pieces(folder)]), "layout .* fails: AttributeError"),
        (Layout(recognises, unsorted), "pieces differ when they are read twice"),
        (Layout(recognises, writing), "files were written or removed"),
    ],
)
def test_a_wrong_layout_is_named_with_what_to_correct(layout, message, folder):
    with pytest.raises(AssertionError, match=message):
        check_layout(layout, folder)


def test_one_stem_a_piece_is_nothing_to_separate(folder):
    for path in folder.glob("*.vc.wav"):
        path.unlink()
    with pytest.raises(AssertionError, match="no piece has several stems"):
        check_layout(Layout(recognises, pieces), folder)


def test_a_damaged_file_is_named_as_in_any_other_layout(folder):
    (folder / "a.vn.wav").write_bytes(b"RIFF")
    with pytest.raises(AssertionError, match=r"a\.vn\.wav: "):
        check_layout(Layout(recognises, pieces), folder)
