"""Recordings as Bach10 has them: 01-AchGottundHerr/01-AchGottundHerr-violin.wav, and the mixture 01-AchGottundHerr.wav.

Its own spelling `saxphone` is read, too. Files beside the audio (MIDI, pitches) are passed over.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from sepsearch.data.instruments import INSTRUMENTS, instrument_code
from sepsearch.data.layouts import Layout, PieceFiles
from sepsearch.utils.errors import UserError, raise_all

NAME = re.compile(r"\d\d-(\w+)")
SPELT = {"saxphone": "sax"}


def chorales(folder: Path) -> list[Path]:
    """Folders that hold a file of their own name and a dash, sorted."""
    return sorted(
        path for path in folder.glob("*") if NAME.fullmatch(path.name) and any(path.glob(f"{path.name}-*.wav"))
    )


def recognises(folder: Path) -> bool:
    """Whether there is a folder such as 01-AchGottundHerr with stems of its name."""
    return bool(chorales(folder))


def pieces(folder: Path) -> Iterator[PieceFiles]:
    """Every chorale with its stems; raises `UserError` for an instrument that is not known."""
    problems = []
    for chorale in chorales(folder):
        stems = []
        for path in sorted(chorale.glob(f"{chorale.name}-*.wav")):
            name = path.stem.removeprefix(f"{chorale.name}-")
            code = SPELT.get(name, instrument_code(name))
            stems.append((code, path))
            if code not in INSTRUMENTS:
                problems.append(UserError(f"{path}: expected one of {' '.join(INSTRUMENTS)}, found {name}: rename it"))
        mixture = chorale / f"{chorale.name}.wav"
        title = chorale.name.partition("-")[2]
        yield PieceFiles(chorale.name, title, stems, mixture if mixture.is_file() else None)
    raise_all(problems)


LAYOUT = Layout(recognises, pieces)
