"""Folders of multi-track recordings, read as pieces made of stems.

Two layouts are understood, piece by piece:

- URMP's: a folder `01_Jupiter_vn_vc` with `AuSep_1_vn_01_Jupiter.wav`, `AuSep_2_vc_01_Jupiter.wav` and,
  where there is one, `AuMix_01_Jupiter_vn_vc.wav`. The folder's name is the truth about who plays.
- a plain one: a folder of any name with `vn.wav`, `vc_1.wav`, `vc_2.wav` and, if wanted, `mix.wav`.
  Its title is its name up to a double dash, so `Elise--take1` and `Elise--take2` are two takes of `Elise`.

Hidden files, scores, videos, notes and anything else that is no stem are passed over, unreadable folders with a note.
Names are compared in Unicode's composed form; instruments and titles without regard to case. Files are opened under
the names that they have.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from sepsearch.audio.reading import RATE, SUFFIXES, load_audio, read_audio, read_header, unreadable
from sepsearch.data.layouts import is_mixture, is_urmp_name, read_names
from sepsearch.data.text_identity import caseless, composed
from sepsearch.utils.errors import UserError, one_line

MOST_PLAYERS = 16
SUPPLEMENT = "Supplementary_Files"  # of URMP: no piece
# What macOS, Windows, Linux and network drives leave: it may hold pieces that were deleted. Hidden ones need no name.
SYSTEM_FOLDERS = {
    "__MACOSX",
    "System Volume Information",
    "$RECYCLE.BIN",
    "RECYCLER",
    "lost+found",
    "@eaDir",
    "#recycle",
    "Network Trash Folder",
    "Temporary Items",
}


@dataclass(frozen=True)
class Stem:
    """One player's track of a piece."""

    number: int  # the player's number in score order, from 1
    instrument: str  # a code of `sepsearch.data.instruments`
    path: Path
    frames: int  # samples, at the file's own rate
    rate: int  # the file's own rate, Hz

    @property
    def name(self) -> str:
        """Number and instrument, such as `1_vn`: unique within a piece."""
        return f"{self.number}_{self.instrument}"

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.rate

    @property
    def samples(self) -> int:
        """Length in samples at `RATE`: what `load_stem` returns."""
        return round(self.frames * RATE / self.rate)


@dataclass(frozen=True)
class Piece:
    """One recording: the stems of all its players, in score order."""

    name: str  # the folder's name, composed (NFC), unique among the recordings
    title: str  # what arrangements and takes of the same music have in common, such as `Jupiter`
    stems: tuple[Stem, ...]
    mixture: Path | None  # the file of the mixture that came with the stems, not looked into yet

    @property
    def seconds(self) -> float:
        """Length of the longest stem in seconds."""
        return max(stem.seconds for stem in self.stems)


@dataclass(frozen=True)
class Recordings:
    """Everything that was found in a data folder."""

    folder: Path
    pieces: tuple[Piece, ...]  # sorted by name
    notes: tuple[str, ...]  # one line each: what the user should know about these recordings


def read_folder(folder: Path) -> Recordings:
    """Find the pieces in `folder` and check the headers of their audio files; no audio is read.

    Pieces lie directly in `folder` or one folder deeper (`URMP/Dataset/01_…`). A folder that is itself a
    piece is accepted as recordings of that one piece.

    Raises `UserError` for a folder without pieces, a stem that is missing or one too many, an unknown
    instrument, and a stem that is no complete mono audio file. Mixtures are not looked at: see `load_mixture`.
    """
    folder = Path(os.path.abspath(folder))  # so that "." has a name, and stems are found from anywhere
    _require_readable_name(folder, str(folder))
    try:
        if not folder.exists():
            raise UserError(f"{folder}: no such folder: give the folder that holds the recordings")
        if not folder.is_dir():
            raise UserError(f"{folder}: expected a folder of recordings, found a file: give its folder")
    except OSError as error:
        raise unreadable(folder, error) from None
    notes: list[str] = []
    places = sorted(_find_pieces(folder, notes), key=lambda place: (composed(place.name), str(place)))
    for one, other in pairwise(places):
        if composed(one.name) == composed(other.name):
            spelt = f", spelt {one.name!a} and {other.name!a}" if one.name != other.name else ""
            raise UserError(
                f"{folder}: expected every piece under a name of its own, found {composed(one.name)} twice "
                f"({one} and {other}{spelt}): rename or remove one"
            )
    pieces = _unite_titles([_read_piece(place, notes) for place in places], notes)
    unmixed = [p.name for p in pieces if p.mixture is None and p.stems[0].path.name.startswith("AuSep_")]
    if unmixed:
        notes.append(f"no AuMix file in {', '.join(unmixed)}: nothing to compare the sum of the stems with")
    return Recordings(folder, tuple(pieces), tuple(notes))


def load_stem(stem: Stem) -> np.ndarray:
    """Read a stem: float32, shape (stem.samples,), at `RATE`, full scale = 1; raises `UserError` as `load_audio`."""
    return load_audio(stem.path, stem.frames, stem.rate)


def load_piece(piece: Piece) -> np.ndarray:
    """Read all stems of a piece: float32, shape (players, samples), at `RATE`, full scale = 1.

    Zeros follow the shorter stems' ends. Raises `UserError` as `load_stem` does.
    """
    loaded = np.zeros((len(piece.stems), max(stem.samples for stem in piece.stems)), np.float32)
    for row, stem in zip(loaded, piece.stems, strict=True):
        row[: stem.samples] = load_stem(stem)
    return loaded


def load_mixture(piece: Piece) -> np.ndarray | None:
    """Read the mixture that came with a piece, if any: float32, shape (samples,), at `RATE`.

    Its length need not be that of the stems. Raises `UserError` as `read_audio` does: nothing needs the mixture, so
    that this is no reason to stop.
    """
    return None if piece.mixture is None else read_audio(piece.mixture)


def _find_pieces(folder: Path, notes: list[str]) -> list[Path]:
    """The folders of the pieces in `folder`, at most two levels deep."""
    found: list[Path] = []
    passed: list[Path] = []
    for child in _folders(folder, notes):
        if _is_piece(child):
            found.append(child)
            continue
        deeper = _folders(child, notes)
        inside = [inner for inner in deeper if _is_piece(inner)]
        found += inside
        passed += [inner for inner in deeper if inner not in inside] if inside else [child]
    for place in found:
        _require_readable_name(place, str(place.relative_to(folder)))
    if not found and _is_piece(folder):
        return [folder]
    if not found:
        raise UserError(
            f"{folder}: expected folders like 01_Jupiter_vn_vc (URMP) or folders with stems like vn.wav, "
            f"found no piece among {len(passed)} folders: give the folder that holds the pieces"
        )
    audio = _audio(folder)
    if stems := [path for path in audio if not is_mixture(path)]:
        raise UserError(
            f"{folder}: expected either stems or folders of pieces, found both ({stems[0].name} beside "
            f"{found[0].name}): move the audio files into a folder of their own"
        )
    notes += [f"{one_line(place)}: a mixture beside the pieces, passed over" for place in audio]
    notes += [f"{one_line(place)}: holds no stems and is passed over" for place in passed]
    return found


def _entries(folder: Path) -> list[Path]:
    """What is to be seen in a folder, sorted by name; macOS's `.DS_Store` and `._AuSep…` are hidden files."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise unreadable(folder, error) from None
    return [entry for entry in entries if not entry.name.startswith(".")]


def _folders(folder: Path, notes: list[str]) -> list[Path]:
    """The folders in a folder, less those that a system leaves and those that cannot be read, which are noted.

    Raises `UserError` if one that cannot be read has the name of a piece.
    """
    folders = []
    for entry in _entries(folder):
        try:
            if entry.name == SUPPLEMENT or not entry.is_dir():
                continue
            if entry.name in SYSTEM_FOLDERS:
                notes.append(f"{entry}: left by the system and passed over")
                continue
            next(entry.iterdir(), None)
        except OSError as error:
            if is_urmp_name(entry.name):
                raise unreadable(entry, error) from None
            notes.append(f"{one_line(entry)}: cannot be read ({error.strerror}) and is passed over")
            continue
        folders.append(entry)
    return folders


def _require_readable_name(place: Path, name: str) -> None:
    """Names go into tables, manifests and messages: they must be text, without line breaks and the like."""
    if not name.isprintable():  # bytes that are no UTF-8 are not, either
        raise UserError(f"{str(place)!a}: expected a name of printable characters: rename it")


def _audio(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.suffix.lower() in SUFFIXES]


def _is_piece(folder: Path) -> bool:
    """Whether a folder claims to be a piece: an empty `01_Jupiter_vn_vc` does, and will be refused."""
    return bool(_audio(folder)) or is_urmp_name(folder.name)


def _unite_titles(pieces: Iterable[Piece], notes: list[str]) -> list[Piece]:
    """The pieces, with one spelling for titles that differ in case only: takes of one piece must share their title."""
    spelling: dict[str, str] = {}
    united = []
    for piece in pieces:
        title = spelling.setdefault(caseless(piece.title), piece.title)
        if title != piece.title:
            notes.append(f"{piece.name}: its title is taken as {title}, since {piece.title} differs in case only")
        united.append(replace(piece, title=title))
    return united


def _read_piece(folder: Path, notes: list[str]) -> Piece:
    audio, name = _audio(folder), composed(folder.name)
    for path in audio:
        _require_readable_name(path, path.name)
    title, named, mixture = read_names(folder, audio, notes)
    if len(named) > MOST_PLAYERS:
        raise UserError(f"{folder}: expected at most {MOST_PLAYERS} players, found {len(named)}: leave some out")
    stems = tuple(_read_stem(name, number, *which, notes) for number, which in enumerate(named, start=1))
    if len(stems) == 1:
        notes.append(f"{name}: has one player only, so there is nothing to separate in it")
    shortest, longest = min(stem.seconds for stem in stems), max(stem.seconds for stem in stems)
    if shortest < longest:
        notes.append(f"{name}: stems last from {shortest:.3f} to {longest:.3f} s: shorter ones are padded with silence")
    if rates := sorted({stem.rate for stem in stems if stem.rate != RATE}):
        notes.append(f"{name}: stems at {', '.join(map(str, rates))} Hz are resampled to {RATE} Hz")
    return Piece(name, title, stems, mixture)


def _read_stem(piece: str, number: int, instrument: str, path: Path, notes: list[str]) -> Stem:
    header = read_header(path)
    notes += [f"{piece}/{composed(path.name)}: {note}" for note in header.notes]
    return Stem(number, instrument, path, header.frames, header.rate)
