"""Layouts of a piece's folder: title, instruments and mixture by the names of URMP's files, or of plain stems.

Names are compared in Unicode's composed form (NFC), instruments and mixtures without regard to case.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from sepsearch.data.instruments import INSTRUMENTS, instrument_code
from sepsearch.data.text_identity import caseless, composed
from sepsearch.utils.errors import UserError

MIXTURES = {"mix", "mixture"}

_URMP_FOLDER = re.compile(rf"\d+_.+_({'|'.join(INSTRUMENTS)})", re.IGNORECASE)
_URMP_STEM = re.compile(r"AuSep_(\d+)_([^_]+)_(?:\d+_)?(.+)")  # number, instrument, title
_PLAIN_STEM = re.compile(r"(.+?)(?:_(\d+))?")  # instrument, number

Names = tuple[str, list[tuple[str, Path]], Path | None]  # title, (instrument, file) of each player, mixture


def is_urmp_name(name: str) -> bool:
    """Whether a folder's name is that of a piece in URMP's layout, such as `01_Jupiter_vn_vc`."""
    return _URMP_FOLDER.fullmatch(composed(name)) is not None


def is_mixture(path: Path) -> bool:
    """Whether an audio file is the mixture of a piece by its name, such as `Mix.wav` or `AuMix_01_A_vn_vc.wav`."""
    return path.name.startswith("AuMix_") or caseless(path.stem) in MIXTURES


def read_names(folder: Path, audio: Sequence[Path], notes: list[str]) -> Names:
    """Title, (instrument, file) of each player in score order, and mixture of a piece, by names alone.

    Args:
        folder: of the piece.
        audio: its audio files.
        notes: gets what the user should know.

    Raises:
        UserError: a stem is missing or one too many, or an instrument is unknown.
    """
    is_urmp = is_urmp_name(folder.name) or any(path.name.startswith("AuSep_") for path in audio)
    return (_urmp_piece if is_urmp else _plain_piece)(folder, audio, notes)


def _urmp_piece(folder: Path, audio: Sequence[Path], notes: list[str]) -> Names:
    """Title, (instrument, file) of each player in score order, and mixture of a folder in URMP's layout."""
    found: dict[int, Path] = {}
    said: dict[int, tuple[str, str]] = {}  # instrument and title by the files' own names
    for path in audio:
        if match := _URMP_STEM.fullmatch(composed(path.stem)):
            number = int(match[1])
            if number in found:
                raise UserError(
                    f"{folder}: expected one stem number {number}, "
                    f"found {found[number].name} and {path.name}: remove one"
                )
            found[number], said[number] = path, (instrument_code(match[2]), match[3])
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
            claim = f"{composed(found[number].name)} says {said[number][0]}"
            notes.append(f"{composed(folder.name)}: {claim}, the folder says {code}: taken as {code}")
    mixture = next((path for path in audio if path.name.startswith("AuMix_")), None)
    return title, [(code, found[number]) for number, code in enumerate(codes, start=1)], mixture


def _urmp_name(folder: Path, count: int, titles: Iterable[str]) -> tuple[str, list[str]]:
    """Title and instruments from the name of a URMP folder, given its `count` stems and their `titles`.

    The last words that are codes are the instruments. Where they are not `count`, the title may end in a
    word that looks like a code, or a code may be misspelt: then the stems' own title decides.
    """
    number, *words = composed(folder.name).split("_")
    if not number.isdigit() or len(words) < 2:
        raise UserError(
            f"{folder}: expected a name like 01_Jupiter_vn_vc (number, title, instruments) for a folder of "
            f"AuSep files, found {folder.name}: rename the folder"
        )
    cut = len(words)
    codes = [instrument_code(word) for word in words]
    while cut > 1 and codes[cut - 1] in INSTRUMENTS:
        cut -= 1
    if len(words) - cut != count:
        name = caseless("_".join(words))
        cut = next((title.count("_") + 1 for title in titles if name.startswith(caseless(f"{title}_"))), cut)
    for code in codes[cut:] or codes[-1:]:
        if code not in INSTRUMENTS:
            _refuse_instrument(code, folder, "correct the folder's name")
    return "_".join(words[:cut]), codes[cut:]


def _plain_piece(folder: Path, audio: Sequence[Path], notes: list[str]) -> Names:
    """Title, (instrument, file) of each player by file name, and mixture of a folder in the plain layout."""
    mixture = next((path for path in audio if caseless(path.stem) in MIXTURES), None)
    named: dict[tuple[str, int], Path] = {}
    for path in audio:
        match = _PLAIN_STEM.fullmatch(composed(path.stem))
        if match is None or caseless(path.stem) in MIXTURES:
            continue
        if (code := instrument_code(match[1])) not in INSTRUMENTS:
            _refuse_instrument(code, path, "name stems like vn.wav or vn_1.wav, a mixture mix.wav")
        key = (code, int(match[2] or 0))  # vn_10 comes after vn_9
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
        composed(folder.name).split("--")[0] or composed(folder.name),
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
