"""Folders of multi-track recordings, read as pieces made of stems.

Two layouts are understood, piece by piece:

- URMP's: a folder `01_Jupiter_vn_vc` with `AuSep_1_vn_01_Jupiter.wav`, `AuSep_2_vc_01_Jupiter.wav` and,
  where there is one, `AuMix_01_Jupiter_vn_vc.wav`. The folder's name is the truth about who plays.
- a plain one: a folder of any name with `vn.wav`, `vc_1.wav`, `vc_2.wav` and, if wanted, `mix.wav`.
  Its title is its name up to a double dash, so `Elise--take1` and `Elise--take2` are two takes of `Elise`.

Hidden files, scores, videos, notes and anything else that is no stem are passed over.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np

from sepsearch.audio import RATE, SUFFIXES, load_audio, read_audio, read_header, unreadable
from sepsearch.errors import UserError
from sepsearch.instruments import INSTRUMENTS

MOST_PLAYERS = 16
PASSED_OVER = {"Supplementary_Files", "__MACOSX"}

_URMP_FOLDER = re.compile(rf"\d+_.+_({'|'.join(INSTRUMENTS)})")
_URMP_STEM = re.compile(r"AuSep_(\d+)_([^_]+)_(?:\d+_)?(.+)")  # number, instrument, title
_PLAIN_STEM = re.compile(r"(.+?)(?:_(\d+))?")  # instrument, number


@dataclass(frozen=True)
class Stem:
    """One player's track of a piece."""

    number: int  # the player's number in score order, from 1
    instrument: str  # a code of `sepsearch.instruments`
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

    name: str  # the folder's name, unique among the recordings
    title: str  # what arrangements and takes of the same music have in common, such as `Jupiter`
    stems: tuple[Stem, ...]
    mixture: Path | None  # the mixture that came with the stems

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
    instrument, and a file that is no complete mono audio file.
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
    places = sorted(_find_pieces(folder, notes), key=lambda place: place.name)
    for one, other in pairwise(places):
        if one.name == other.name:
            raise UserError(
                f"{folder}: expected every piece under a name of its own, found {one.name} twice "
                f"({one} and {other}): rename or remove one"
            )
    pieces = [_read_piece(place, notes) for place in places]
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

    Its length need not be that of the stems. Raises `UserError` as `load_stem` does.
    """
    return None if piece.mixture is None else read_audio(piece.mixture)


def _find_pieces(folder: Path, notes: list[str]) -> list[Path]:
    """The folders of the pieces in `folder`, at most two levels deep."""
    found: list[Path] = []
    passed: list[Path] = []
    for child in _folders(folder):
        if _is_piece(child):
            found.append(child)
            continue
        deeper = _folders(child)
        inside = [inner for inner in deeper if _is_piece(inner)]
        found += inside
        passed += [inner for inner in deeper if inner not in inside] if inside else [child]
    for place in (*found, *passed):
        _require_readable_name(place, str(place.relative_to(folder)))
    if not found and _is_piece(folder):
        return [folder]
    if not found:
        raise UserError(
            f"{folder}: expected folders like 01_Jupiter_vn_vc (URMP) or folders with stems like vn.wav, "
            f"found no piece among {len(passed)} folders: give the folder that holds the pieces"
        )
    if audio := _audio(folder):
        raise UserError(
            f"{folder}: expected either stems or folders of pieces, found both ({audio[0].name} beside "
            f"{found[0].name}): move the audio files into a folder of their own"
        )
    notes += [f"{place}: holds no stems and is passed over" for place in passed]
    return found


def _entries(folder: Path) -> list[Path]:
    """What is to be seen in a folder, sorted by name; macOS's `.DS_Store` and `._AuSep…` are hidden files."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise unreadable(folder, error) from None
    return [entry for entry in entries if not entry.name.startswith(".") and entry.name not in PASSED_OVER]


def _require_readable_name(place: Path, name: str) -> None:
    """Names go into tables, manifests and messages: they must be text, without line breaks and the like."""
    if not name.isprintable():  # bytes that are no UTF-8 are not, either
        raise UserError(f"{str(place)!a}: expected a name of printable characters: rename it")


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.is_dir()]


def _audio(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.suffix.lower() in SUFFIXES]


def _is_piece(folder: Path) -> bool:
    """Whether a folder claims to be a piece: an empty `01_Jupiter_vn_vc` does, and will be refused."""
    return bool(_audio(folder)) or _URMP_FOLDER.fullmatch(folder.name) is not None


def _read_piece(folder: Path, notes: list[str]) -> Piece:
    audio = _audio(folder)
    for path in audio:
        _require_readable_name(path, path.name)
    is_urmp = _URMP_FOLDER.fullmatch(folder.name) or any(path.name.startswith("AuSep_") for path in audio)
    title, named, mixture = (_urmp_piece if is_urmp else _plain_piece)(folder, audio, notes)
    if len(named) > MOST_PLAYERS:
        raise UserError(f"{folder}: expected at most {MOST_PLAYERS} players, found {len(named)}: leave some out")
    stems = tuple(
        Stem(number, instrument, path, *read_header(path)) for number, (instrument, path) in enumerate(named, start=1)
    )
    if mixture is not None:
        read_header(mixture)
    if len(stems) == 1:
        notes.append(f"{folder.name}: has one player only, so there is nothing to separate in it")
    shortest, longest = min(stem.seconds for stem in stems), max(stem.seconds for stem in stems)
    if shortest < longest:
        notes.append(
            f"{folder.name}: stems last from {shortest:.3f} to {longest:.3f} s: shorter ones are padded with silence"
        )
    if rates := sorted({stem.rate for stem in stems if stem.rate != RATE}):
        notes.append(f"{folder.name}: stems at {', '.join(map(str, rates))} Hz are resampled to {RATE} Hz")
    return Piece(folder.name, title, stems, mixture)


def _urmp_piece(folder: Path, audio: list[Path], notes: list[str]) -> tuple[str, list[tuple[str, Path]], Path | None]:
    """Title, (instrument, file) of each player in score order, and mixture of a folder in URMP's layout."""
    found: dict[int, Path] = {}
    said: dict[int, tuple[str, str]] = {}  # instrument and title by the files' own names
    for path in audio:
        if match := _URMP_STEM.fullmatch(path.stem):
            number = int(match[1])
            if number in found:
                raise UserError(
                    f"{folder}: expected one stem number {number}, "
                    f"found {found[number].name} and {path.name}: remove one"
                )
            found[number], said[number] = path, (match[2], match[3])
    title, codes = _urmp_name(folder, len(found), [title for _, title in said.values()])
    there = ", ".join(path.name for path in found.values() or audio) or "none"
    if extra := sorted(set(found) - set(range(1, len(codes) + 1))):
        raise UserError(
            f"{found[extra[0]]}: expected stems 1 to {len(codes)} as the folder's name says ({' '.join(codes)}), "
            f"found {there}: remove the stem, or name its instrument in the folder's name"
        )
    for number, code in enumerate(codes, start=1):
        if number not in found:
            raise UserError(
                f"{folder}: expected {len(codes)} stems ({' '.join(codes)}), found {there}: "
                f"copy the missing AuSep_{number}_{code}_…wav, or correct the folder's name"
            )
        if said[number][0] != code:
            claim = f"{found[number].name} says {said[number][0]}"
            notes.append(f"{folder.name}: {claim}, the folder says {code}: taken as {code}")
    mixture = next((path for path in audio if path.name.startswith("AuMix_")), None)
    return title, [(code, found[number]) for number, code in enumerate(codes, start=1)], mixture


def _urmp_name(folder: Path, count: int, titles: Iterable[str]) -> tuple[str, list[str]]:
    """Title and instruments that the name of a URMP folder tells, given its `count` stems and their `titles`.

    The last words that are codes are the instruments. Where they are not `count`, the title may end in a
    word that looks like a code, or a code may be misspelt: then the stems' own title tells them apart.
    """
    number, *words = folder.name.split("_")
    if not number.isdigit() or len(words) < 2:
        raise UserError(
            f"{folder}: expected a name like 01_Jupiter_vn_vc (number, title, instruments) for a folder of "
            f"AuSep files, found {folder.name}: rename the folder"
        )
    cut = len(words)
    while cut > 1 and words[cut - 1] in INSTRUMENTS:
        cut -= 1
    if len(words) - cut != count:
        name = "_".join(words)
        cut = next((title.count("_") + 1 for title in titles if name.startswith(f"{title}_")), cut)
    for code in words[cut:] or words[-1:]:
        if code not in INSTRUMENTS:
            _refuse_instrument(code, folder, "correct the folder's name")
    return "_".join(words[:cut]), words[cut:]


def _plain_piece(folder: Path, audio: list[Path], notes: list[str]) -> tuple[str, list[tuple[str, Path]], Path | None]:
    """Title, (instrument, file) of each player by file name, and mixture of a folder in the plain layout."""
    mixture = next((path for path in audio if path.stem in ("mix", "mixture")), None)
    named: dict[tuple[str, int], Path] = {}
    for path in audio:
        match = _PLAIN_STEM.fullmatch(path.stem)
        if match is None or path.stem in ("mix", "mixture"):
            continue
        if match[1] not in INSTRUMENTS:
            _refuse_instrument(match[1], path, "name stems like vn.wav or vn_1.wav, a mixture mix.wav")
        key = (match[1], int(match[2] or 0))  # vn_10 comes after vn_9
        if key in named:
            both = f"{named[key].name} and {path.name}"
            raise UserError(f"{folder}: expected one {path.stem}, found {both}: remove one")
        named[key] = path
    if not named:
        raise UserError(
            f"{folder}: expected stems like vn.wav, vc_1.wav, vc_2.wav, "
            f"found only {', '.join(path.name for path in audio)}: add the stems"
        )
    return (
        folder.name.split("--")[0] or folder.name,
        [(code, named[code, count]) for code, count in sorted(named)],
        mixture,
    )


def _refuse_instrument(code: str, where: Path, advice: str) -> NoReturn:
    close = get_close_matches(code.lower(), INSTRUMENTS, n=1, cutoff=0.5)
    names = get_close_matches(code.lower(), INSTRUMENTS.values(), n=1)
    close = close or [short for short, name in INSTRUMENTS.items() if name in names]
    hint = f" (did you mean {close[0]}?)" if close else ""
    known = " ".join(INSTRUMENTS)
    raise UserError(f"{where}: expected an instrument among {known}, found {code!r}{hint}: {advice}")
