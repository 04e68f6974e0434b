"""Recordings as MUSDB18-HQ has them: train/<artist - title>/<stem>.wav beside mixture.wav.

Stems are read whose names are instruments that sepsearch knows, `bass` as double bass. Of MUSDB itself that is the bass
alone: vocals, drums and other are refused in one line. Folders of other recordings in the same layout are read.
"""

from collections.abc import Iterator
from pathlib import Path

from sepsearch.data.instruments import INSTRUMENTS, instrument_code
from sepsearch.data.layouts import Layout, PieceFiles
from sepsearch.utils.errors import UserError, raise_all

MIXTURE = "mixture.wav"
PARTS = ("train", "test")
NAMES = {"bass": "db"}  # beside all names in sepsearch.data.instruments


def tracks(folder: Path) -> list[Path]:
    """Folders with a mixture in train and test, sorted."""
    return sorted(path.parent for part in PARTS for path in folder.glob(f"{part}/*/{MIXTURE}"))


def recognises(folder: Path) -> bool:
    """Whether there is a track in train or test."""
    return bool(tracks(folder))


def pieces(folder: Path) -> Iterator[PieceFiles]:
    """Every track with its stems by name; raises `UserError` for stems that are no known instrument."""
    unknown: dict[str, list[Path]] = {}
    found = []
    for track in tracks(folder):
        stems = []
        for path in sorted(track.glob("*.wav")):
            code = NAMES.get(path.stem, instrument_code(path.stem))
            if code in INSTRUMENTS:
                stems.append((code, path))
            elif path.name != MIXTURE and not path.name.startswith("."):
                unknown.setdefault(path.name, []).append(path)
        found.append(PieceFiles(f"{track.parent.name}-{track.name}", track.name, stems, track / MIXTURE))
    raise_all(
        [
            UserError(
                f"{paths[0]}: {name} is none of the instruments that sepsearch knows ({' '.join(INSTRUMENTS)}),"
                f" found in {len(paths)} tracks: move it out of the folder, and so out of the mixtures"
            )
            for name, paths in unknown.items()
        ]
    )
    yield from found


LAYOUT = Layout(recognises, pieces)
