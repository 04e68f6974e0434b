"""Folders of multi-track recordings, read as pieces made of stems.

Two layouts are understood, piece by piece:

- URMP's: a folder `01_Jupiter_vn_vc` with `AuSep_1_vn_01_Jupiter.wav`, `AuSep_2_vc_01_Jupiter.wav` and,
  where there is one, `AuMix_01_Jupiter_vn_vc.wav`. The folder's name is the truth about who plays.
- a plain one: a folder of any name with `vn.wav`, `Violin 2.flac`, `cello_1.mp3` and, if wanted, `mix.wav`.
  Its title is its name up to a double dash, so `Elise--take1` and `Elise--take2` are two takes of `Elise`.

Others are read by layouts from outside the package (`sepsearch.data.layouts.Layout`), each a whole folder.

Hidden files, scores, videos, notes and anything else that is no audio are passed over, unreadable folders with a note.
Audio that cannot be read is refused. Plain stems with several channels are mixed down; URMP's must have one.
Names are compared in Unicode's composed form; instruments and titles without regard to case. Files are opened under
the names that they have.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np

from sepsearch.audio.reading import (
    RATE,
    Sound,
    check_audio,
    inspect_audio,
    load_audio,
    read_audio,
    read_header,
    unreadable,
)
from sepsearch.data.layouts import Layout, Names, is_mixture, is_urmp_piece, own_layout, own_pieces, read_names
from sepsearch.data.piece_folders import audio_files, find_pieces, unprintable
from sepsearch.data.text_identity import caseless, composed
from sepsearch.utils.errors import UserError, raise_all
from sepsearch.utils.progress import in_threads

Result = TypeVar("Result")

MOST_PLAYERS = 16


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
    layout: str = ""  # from outside the package, by name


@dataclass
class _Findings:
    """What is found while pieces are read: notes, problems, and the audio files whose headers are sound."""

    notes: list[str]
    problems: list[UserError]
    sounds: list[Sound]

    def attempt(self, work: Callable[[], Result]) -> Result | None:
        """What `work` gives; None if that is a `UserError`, which is kept."""
        try:
            return work()
        except UserError as error:
            self.problems.append(error)
            return None


def require_recordings(folder: Path) -> Path:
    """The absolute path of a folder; raises `UserError` unless it is there. Takes no time, unlike `read_folder`."""
    folder = Path(os.path.abspath(folder))  # so that "." has a name, and stems are found from anywhere
    if problem := unprintable(folder, str(folder)):
        raise problem
    try:
        if not folder.exists():
            raise UserError(f"{folder}: no such folder: give the folder that holds the recordings")
        if not folder.is_dir():
            raise UserError(f"{folder}: expected a folder of recordings, found a file: give its folder")
    except OSError as error:
        raise unreadable(folder, error) from None
    return folder


def read_folder(folder: Path) -> Recordings:
    """Find the pieces in `folder` and check the headers of their audio files.

    Pieces lie directly in `folder` or one folder deeper (`URMP/Dataset/01_…`). A folder that is itself a
    piece is accepted as recordings of that one piece. No audio is read, unless there is a problem: then all of it is,
    so that all problems are found at once.

    Raises `UserError`, or `UserErrors` for several, for a folder without pieces, a stem that is missing or one too
    many, an unknown instrument, and a stem that is no complete audio file. Mixtures are not looked at: see
    `load_mixture`.
    """
    folder = require_recordings(folder)
    found = _Findings([], [], [])
    layout = own_layout(folder)
    pieces = _read_own(folder, *layout, found) if layout else _read_pieces(folder, found)
    if found.problems:
        checks = in_threads(_audio_problem, found.sounds)
        raise_all([*found.problems, *(problem for problem in checks if problem)])
    pieces = _unite_titles(pieces, found.notes)
    unmixed = [p.name for p in pieces if p.mixture is None and p.stems[0].path.name.startswith("AuSep_")]
    if unmixed:
        found.notes.append(f"no AuMix file in {', '.join(unmixed)}: nothing to compare the sum of the stems with")
    notes = (*found.notes, *_form_notes(folder, found.sounds))
    return Recordings(folder, tuple(pieces), notes, layout[0] if layout else "")


def _read_pieces(folder: Path, found: _Findings) -> list[Piece]:
    """The pieces in a folder, in the layouts of sepsearch itself."""
    places = find_pieces(folder, found.notes, found.problems)
    places.sort(key=lambda place: (composed(place.name), str(place)))
    for one, other in pairwise(places):
        if composed(one.name) == composed(other.name):
            spelt = f", spelt {one.name!a} and {other.name!a}" if one.name != other.name else ""
            found.problems.append(
                UserError(
                    f"{folder}: expected every piece under a name of its own, found {composed(one.name)} twice "
                    f"({one} and {other}{spelt}): rename or remove one"
                )
            )
    return [piece for place in places if (piece := _read_piece(place, found))]


def _read_own(folder: Path, name: str, layout: Layout, found: _Findings) -> list[Piece]:
    """The pieces in a folder that a layout from outside the package reads."""
    found.notes.append(f"read by the layout {name}, which is not sepsearch's own")
    pieces = []
    for one in found.attempt(lambda: own_pieces(folder, name, layout)) or []:
        named = one.title, list(one.stems), one.mixture
        pieces.append(_checked_piece(f"{folder}: {one.name}", one.name, named, inspect_audio, found))
    return [piece for piece in pieces if piece]


def _audio_problem(sound: Sound) -> UserError | None:
    """What is wrong with the samples of an audio file, if anything."""
    try:
        check_audio(sound.path, sound.frames, sound.rate)
    except UserError as error:
        return error
    return None


def _form_notes(folder: Path, sounds: Sequence[Sound]) -> list[str]:
    """A note for all stems of several channels, and one for all that are compressed with losses."""
    notes = []
    for which, text in (
        ([s for s in sounds if s.channels > 1], "mixed down to one channel, the mean of their channels"),
        (
            [s for s in sounds if s.lossy],
            "read as they are; networks learn the losses, too: use WAV or FLAC if you can",
        ),
    ):
        what = "have several channels" if which and which[0].channels > 1 else "are MP3 or Ogg"
        if which:
            amount = f"{len(which)} of {len(sounds)} stems {what}"
            notes.append(f"{amount}, such as {composed(str(which[0].path.relative_to(folder)))}: {text}")
    return notes


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


def _read_piece(folder: Path, found: _Findings) -> Piece | None:
    """The piece in a folder; None if there is a problem with it."""
    name, audio = composed(folder.name), found.attempt(lambda: audio_files(folder)) or []
    if odd := [one for path in audio if (one := unprintable(path, path.name))]:
        found.problems += odd
        return None
    named = found.attempt(lambda: read_names(folder, audio, found.notes))
    read = read_header if is_urmp_piece(folder, audio) else inspect_audio
    if named is None:  # at least its audio files are looked at
        for path in audio:
            if not is_mixture(path) and (sound := found.attempt(partial(read, path))):
                found.sounds.append(sound)
        return None
    return _checked_piece(str(folder), name, named, read, found)


def _checked_piece(
    where: str, name: str, named: Names, read: Callable[[Path], Sound], found: _Findings
) -> Piece | None:
    """The piece of that name, of the files that were `named`; None where a header is not sound."""
    before = len(found.problems)
    title, players, mixture = named
    if len(players) > MOST_PLAYERS:
        text = f"{where}: expected at most {MOST_PLAYERS} players, found {len(players)}: leave some out"
        found.problems.append(UserError(text))
    stems = []
    for number, (instrument, path) in enumerate(players, start=1):
        if header := found.attempt(partial(read, path)):
            found.sounds.append(header)
            found.notes += [f"{name}/{composed(path.name)}: {note}" for note in header.notes]
            stems.append(Stem(number, instrument, path, header.frames, header.rate))
    if len(found.problems) > before:
        return None
    _note_stems(name, stems, found.notes)
    return Piece(name, title, tuple(stems), mixture)


def _note_stems(name: str, stems: Sequence[Stem], notes: list[str]) -> None:
    """Note what is unusual about the stems of a piece."""
    if len(stems) == 1:
        notes.append(f"{name}: has one player only, so there is nothing to separate in it")
    shortest, longest = min(stem.seconds for stem in stems), max(stem.seconds for stem in stems)
    if shortest < longest:
        notes.append(f"{name}: stems last from {shortest:.3f} to {longest:.3f} s: shorter ones are padded with silence")
    if rates := sorted({stem.rate for stem in stems if stem.rate != RATE}):
        notes.append(f"{name}: stems at {', '.join(map(str, rates))} Hz are resampled to {RATE} Hz")
