"""What a layout of recordings must do: recognise its folders and no others, and name pieces that can be read."""

import tempfile
from pathlib import Path

from sepsearch.data.layouts import Layout, own_pieces
from sepsearch.data.recordings import read_folder
from sepsearch.utils import plugins
from sepsearch.utils.errors import UserError

NAME = "layout-under-test"
URMP = ("01_Jupiter_vn_vc", ("AuSep_1_vn_01_Jupiter.wav", "AuSep_2_vc_01_Jupiter.wav"))
PLAIN = ("Jupiter", ("vn.wav", "vc.wav"))


def check_layout(layout: Layout, folder: Path) -> None:
    """Check a layout, as a test of one's own package calls it.

    Args:
        layout: what the entry point names, or `register_layout` gets.
        folder: recordings in that layout, as small as can be; all checks that a search makes are made of them.

    Raises:
        AssertionError: something must be corrected; the message says what.
    """
    folder = folder.absolute()
    try:
        assert layout.recognises(folder), f"{folder}: not recognised, expected True of recognises"
        before = _listing(folder)
        with tempfile.TemporaryDirectory() as temporary:
            _check_others(layout, Path(temporary))
        pieces, again = (own_pieces(folder, NAME, layout) for _ in range(2))
        assert pieces == again, f"{folder}: pieces differ when they are read twice: sort what a folder lists"
        assert any(len(piece.stems) > 1 for piece in pieces), f"{folder}: no piece has several stems to separate"
        with plugins.known_as(plugins.LAYOUTS, NAME, layout):
            found = read_folder(folder)
    except UserError as error:
        raise AssertionError(str(error)) from error
    assert found.layout == NAME, f"{folder}: read by another layout, {found.layout or 'one of sepsearch'}"
    assert len(found.pieces) == len(pieces), f"{folder}: {len(pieces)} pieces named, {len(found.pieces)} read"
    assert _listing(folder) == before, f"{folder}: files were written or removed, expected none: only read there"


def _check_others(layout: Layout, empty: Path) -> None:
    """Folders that are not there, empty, or in a layout of sepsearch's own are not recognised."""
    others = {"a folder that is not there": empty / "nowhere", "an empty folder": empty / "empty"}
    others["an empty folder"].mkdir()
    for what, (piece, files) in (("URMP's layout", URMP), ("plain stems", PLAIN)):
        place = others[what] = empty / what.replace(" ", "-")
        (place / piece).mkdir(parents=True)
        for name in files:
            (place / piece / name).touch()
    for what, place in others.items():
        try:
            claimed = layout.recognises(place)
        except Exception as error:
            raise AssertionError(
                f"recognises fails on {what}, expected False: {type(error).__name__}: {error}"
            ) from error
        assert not claimed, f"recognises claims {what}, expected False: look for names that only this layout has"


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))
