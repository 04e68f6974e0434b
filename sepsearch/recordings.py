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
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np

from sepsearch.errors import UserError
from sepsearch.instruments import INSTRUMENTS

RATE = 48_000  # Hz: everything that is loaded comes at this rate
LOWEST_RATE, HIGHEST_RATE = 8_000, 384_000  # Hz
MOST_PLAYERS = 16
SILENCE = 10 ** (-90 / 20)  # a peak below -90 dBFS is silence
LOUDEST = 1_000.0  # a peak of 60 dB above full scale is a broken file, not music
RIFF = (b"RIFF", b"RIFX", b"RF64", b"BW64")
AUDIO = {".wav": RIFF, ".flac": (b"fLaC",), ".aiff": (b"FORM",), ".aif": (b"FORM",)}  # how the files begin
CUT_OFF = "the file is cut off: copy or export it again"
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
    if not folder.exists():
        raise UserError(f"{folder}: no such folder: give the folder that holds the recordings")
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder of recordings, found a file: give its folder")
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
    """Read a stem: float32, shape (stem.samples,), at `RATE`, full scale = 1.

    Raises `UserError` for a file that ends early, a sample that is not a finite number, and silence.
    """
    return _load(stem.path, stem.frames, stem.rate)


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
    return None if piece.mixture is None else _load(piece.mixture, *_read_header(piece.mixture))


def _load(path: Path, frames: int, rate: int) -> np.ndarray:
    """The audio of a file whose header said `frames` and `rate`: float32, shape (samples,), at `RATE`."""
    import soundfile

    try:
        audio = soundfile.read(path, dtype="float32")[0]
    except (OSError, soundfile.SoundFileError) as error:
        raise _unreadable(path, error) from None
    if len(audio) != frames:
        raise UserError(f"{path}: expected {frames} samples, found {len(audio)}: {CUT_OFF}")
    peak = max(-audio.min(), audio.max())  # a NaN anywhere makes this NaN
    if not np.isfinite(peak):
        where = int(np.argmin(np.isfinite(audio)))
        raise UserError(
            f"{path}: expected finite samples, found {audio[where]} at second {where / rate:.3f}: "
            "render or export the file again"
        )
    if peak < SILENCE:
        raise UserError(
            f"{path}: expected sound, found silence (peak below -90 dBFS): "
            "export the file again, or remove the player from the piece"
        )
    if peak > LOUDEST:
        raise UserError(
            f"{path}: expected samples between -1 and 1, found a peak of {peak:.3g}: "
            "export the file again, scaled to full scale = 1"
        )
    if rate == RATE:
        return audio
    import soxr

    resampled = soxr.resample(audio, rate, RATE, quality="HQ")
    exact = np.zeros(round(frames * RATE / rate), np.float32)  # soxr may round its length the other way
    exact[: len(resampled)] = resampled[: len(exact)]
    return exact


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
        raise _unreadable(folder, error) from None
    return [entry for entry in entries if not entry.name.startswith(".") and entry.name not in PASSED_OVER]


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.is_dir()]


def _audio(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.suffix.lower() in AUDIO]


def _is_piece(folder: Path) -> bool:
    """Whether a folder claims to be a piece: an empty `01_Jupiter_vn_vc` does, and will be refused."""
    return bool(_audio(folder)) or _URMP_FOLDER.fullmatch(folder.name) is not None


def _read_piece(folder: Path, notes: list[str]) -> Piece:
    audio = _audio(folder)
    is_urmp = _URMP_FOLDER.fullmatch(folder.name) or any(path.name.startswith("AuSep_") for path in audio)
    title, named, mixture = (_urmp_piece if is_urmp else _plain_piece)(folder, audio, notes)
    if len(named) > MOST_PLAYERS:
        raise UserError(f"{folder}: expected at most {MOST_PLAYERS} players, found {len(named)}: leave some out")
    stems = tuple(
        Stem(number, instrument, path, *_read_header(path)) for number, (instrument, path) in enumerate(named, start=1)
    )
    if mixture is not None:
        _read_header(mixture)
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


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or getattr(error, "error_string", None) or str(error)
    return UserError(f"{path}: expected readable audio, found: {reason.rstrip('.')}: copy or export it again")


def _read_header(path: Path) -> tuple[int, int]:
    """Frames and rate (Hz) of an audio file; `UserError` unless it is mono, complete and of a usable rate."""
    import soundfile

    if path.is_dir():
        raise UserError(f"{path}: expected an audio file, found a folder: put the file in its place")
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: expected audio, found an empty file: copy the file again")
        _check_complete(path)
        info = soundfile.info(path)
    except (OSError, soundfile.SoundFileError) as error:
        raise _unreadable(path, error) from None
    if info.channels != 1:
        raise UserError(
            f"{path}: expected one channel, found {info.channels}: mix it down with "
            "'sox IN.wav OUT.wav remix -' or 'ffmpeg -i IN.wav -ac 1 OUT.wav'"
        )
    if not LOWEST_RATE <= info.samplerate <= HIGHEST_RATE:
        raise UserError(
            f"{path}: expected a rate of {LOWEST_RATE} to {HIGHEST_RATE} Hz, found {info.samplerate} Hz: "
            "export the file again at 48000 Hz"
        )
    if not 0 < info.frames < 2**40:  # a FLAC file that was streamed has no count
        found = "none" if info.frames <= 0 else "no count of them in the header"
        raise UserError(f"{path}: expected samples, found {found}: export the file again")
    return info.frames, info.samplerate


def _check_complete(path: Path) -> None:
    """Refuse a file of another kind than its name says, or with fewer bytes of audio than its header says.

    libsndfile just shortens the latter.
    RIFF, RF64 and AIFF are lists of chunks: a four-letter name, a length, that many bytes, padded to even.
    RF64 (EBU Tech 3306) keeps lengths beyond 4 GB in a chunk `ds64`: 8 bytes for the file, 8 for the data.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        form = file.read(12)[:4]
        if form not in (kinds := AUDIO[path.suffix.lower()]):
            raise UserError(
                f"{path}: expected a file that begins with {kinds[0].decode()}, found {form!r}: "
                "it is no audio of this kind: export it again"
            )
        if form == b"fLaC":
            return  # no such chunks: reading it will tell
        order = ">" if form in (b"RIFX", b"FORM") else "<"
        promised = 0
        while len(head := file.read(8)) == 8:
            name, length = struct.unpack(order + "4sI", head)
            if name in (b"data", b"SSND"):
                break
            body = file.read(16) if name == b"ds64" else b""
            if len(body) == 16:
                promised = struct.unpack("<8xQ", body)[0]
            file.seek(length + length % 2 - len(body), 1)
        else:
            raise UserError(f"{path}: expected a chunk of audio, found none: {CUT_OFF}")
        there = size - file.tell()
    if length == 0xFFFFFFFF and promised:
        length = promised
    if length == 0xFFFFFFFF or (length == 0 and there > 0):
        raise UserError(
            f"{path}: expected the length of the audio in the header, found {length:#x} as programs write it "
            "that stream: rewrite it with 'sox --ignore-length IN.wav OUT.wav' or 'ffmpeg -i IN.wav OUT.wav'"
        )
    if length > there:
        raise UserError(f"{path}: expected {length} bytes of audio as its header says, found {there}: {CUT_OFF}")
