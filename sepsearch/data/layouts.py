"""Layouts of a piece's folder: title, instruments and mixture by the names of URMP's files, or of plain stems.

Layouts from outside the package (`Layout`; entry points of `sepsearch.layouts`) read whole folders of recordings.

Names are compared in Unicode's composed form (NFC), instruments and mixtures without regard to case. URMP's names have
codes; plain stems have any name of an instrument, and a number where several play it.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepsearch.data.instruments import INSTRUMENTS, instrument_code, name_problem, words_of
from sepsearch.data.text_identity import caseless, composed
from sepsearch.utils import plugins
from sepsearch.utils.errors import UserError, raise_all, reason_of

MIXTURES = {"mix", "mixture", "mixdown", "bounce", "master"}
_OF_MIXTURES = {"full", "final", "rough", "stereo", "mono"}  # words that may stand beside those

_URMP_FOLDER = re.compile(rf"\d+_.+_({'|'.join(INSTRUMENTS)})", re.IGNORECASE)
_URMP_STEM = re.compile(r"AuSep_(\d+)_([^_]+)_(?:\d+_)?(.+)")  # number, instrument, title
_ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii", "xiii", "xiv", "xv", "xvi")
_ORDINALS = {"1st": 1, "2nd": 2, "3rd": 3, "4th": 4}
_NUMBERS = {
    **{word: number for number, word in enumerate(_ROMAN, start=1)},
    **{word: number for number, word in enumerate(("first", "second", "third", "fourth"), start=1)},
}

Names = tuple[str, list[tuple[str, Path]], Path | None]  # title, (instrument, file) of each player, mixture


@dataclass(frozen=True)
class PieceFiles:
    """Files of one recording, as a layout from outside the package names them.

    Attributes:
        name: unique among the recordings.
        title: what arrangements and takes of the same music have in common; they are kept in one split.
        stems: code of the instrument (`sepsearch.data.instruments`) and audio file of each player, in score order.
        mixture: file of the mixture that came with the stems, which is only compared with their sum; None for none.
    """

    name: str
    title: str
    stems: Sequence[tuple[str, Path]]
    mixture: Path | None = None


@dataclass(frozen=True)
class Layout:
    """A layout of recordings from outside the package.

    Attributes:
        recognises: whether a folder of recordings has this layout; looks at names only.
        pieces: the pieces of such a folder; raises `UserError` (several: `utils.errors.raise_all`) for what is missing.
    """

    recognises: Callable[[Path], bool]
    pieces: Callable[[Path], Iterable[PieceFiles]]


def register_layout(name: str, layout: Layout) -> None:
    """Make a layout known to this process; raises `UserError` where an installed distribution has the name."""
    plugins.register_plugin(plugins.LAYOUTS, name, layout, (layout.recognises, layout.pieces))


def own_layout(folder: Path) -> tuple[str, Layout] | None:
    """The registered or installed layout that recognises a folder of recordings, with its name; None for none.

    Raises:
        UserError: a layout cannot be loaded or fails, or several recognise the folder.
    """
    found: dict[str, Layout] = {}
    for name in plugins.plugin_names(plugins.LAYOUTS):
        plugin = plugins.find_plugin(plugins.LAYOUTS, name)
        assert plugin is not None
        layout = plugins.load_plugin(plugin)
        if not all(callable(getattr(layout, part, None)) for part in ("recognises", "pieces")):
            raise UserError(f"{plugin}: expected a sepsearch.data.layouts.Layout, found {type(layout).__name__}")
        try:
            if layout.recognises(folder):
                found[str(plugin)] = layout
                chosen = name
        except Exception as error:
            raise UserError(f"{plugin}: fails on {folder}: {reason_of(error)}: correct or uninstall it") from error
    if len(found) > 1:
        raise UserError(f"{folder}: recognised by {' and '.join(found)}: uninstall one of them")
    return next(((chosen, layout) for layout in found.values()), None)


def own_pieces(folder: Path, name: str, layout: Layout) -> list[PieceFiles]:
    """The pieces that a layout from outside the package names, by name; their files are not opened.

    Raises:
        UserError: it names none, an unknown instrument, a file outside the folder, or something twice; or it fails.
    """
    where = f"{folder}: layout {name}"
    try:
        named = [
            PieceFiles(one.name, one.title, [(code, Path(path)) for code, path in one.stems], one.mixture)
            for one in layout.pieces(folder)
        ]
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{where}: fails: {reason_of(error)}: correct or uninstall it") from error
    problems = [] if named else [UserError(f"{where}: expected pieces, found none: give the folder that holds them")]
    for number, piece in enumerate(named):
        if any(not text or not text.isprintable() for text in (piece.name, piece.title)):
            problems.append(UserError(f"{where}: expected names that can be printed, found {piece.name!a}: rename it"))
        if any(piece.name == other.name for other in named[:number]):
            problems.append(UserError(f"{where}: expected pieces of different names, found {piece.name} twice"))
        problems += _stem_problems(f"{where}: {piece.name}", folder, piece)
    raise_all(problems)
    return sorted(named, key=lambda piece: piece.name)


def _stem_problems(where: str, folder: Path, piece: PieceFiles) -> list[UserError]:
    """What is wrong with the stems of a piece by their names, if anything."""
    problems = [] if piece.stems else [UserError(f"{where}: expected stems, found none: add them, or leave it out")]
    paths = [path for _, path in piece.stems]
    for code, path in piece.stems:
        if code not in INSTRUMENTS:
            known = " ".join(INSTRUMENTS)
            problems.append(UserError(f"{where}: {path.name}: instrument is {code!r}, expected a code of {known}"))
        if not Path(os.path.abspath(path)).is_relative_to(folder):
            problems.append(UserError(f"{where}: {path}: expected a file in {folder}: move it there"))
        elif paths.count(path) > 1:
            problems.append(UserError(f"{where}: {path.name}: expected a file for each player, found it twice"))
    return problems


def is_urmp_name(name: str) -> bool:
    """Whether a folder's name is that of a piece in URMP's layout, such as `01_Jupiter_vn_vc`."""
    return _URMP_FOLDER.fullmatch(composed(name)) is not None


def is_mixture(path: Path) -> bool:
    """Whether an audio file is the mixture of a piece by its name, such as `full mix.mp3` or `AuMix_01_A_vn_vc.wav`."""
    words = set(words_of(path.stem))
    return path.name.startswith("AuMix_") or (bool(words & MIXTURES) and words <= MIXTURES | _OF_MIXTURES)


def is_urmp_piece(folder: Path, audio: Sequence[Path]) -> bool:
    """Whether a piece is in URMP's layout: by its folder's name, or by one of its audio files'."""
    return is_urmp_name(folder.name) or any(path.name.startswith("AuSep_") for path in audio)


def read_names(folder: Path, audio: Sequence[Path], notes: list[str]) -> Names:
    """Title, (instrument, file) of each player in score order, and mixture of a piece, by names alone.

    Args:
        folder: of the piece.
        audio: its audio files.
        notes: gets what the user should know.

    Raises:
        UserError: a stem is missing or one too many, or an instrument is unknown or ambiguous; `UserErrors` for
            several of these.
    """
    return (_urmp_piece if is_urmp_piece(folder, audio) else _plain_piece)(folder, audio, notes)


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
            found[number], said[number] = path, (_urmp_code(match[2]), match[3])
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
    codes = [_urmp_code(word) for word in words]
    while cut > 1 and codes[cut - 1] in INSTRUMENTS:
        cut -= 1
    if len(words) - cut != count:
        name = caseless("_".join(words))
        cut = next((title.count("_") + 1 for title in titles if name.startswith(caseless(f"{title}_"))), cut)
    for code in codes[cut:] or codes[-1:]:
        if code not in INSTRUMENTS:
            raise _unknown(code, folder, "correct the folder's name")
    return "_".join(words[:cut]), codes[cut:]


def _urmp_code(text: str) -> str:
    """A code in any case in the spelling of `INSTRUMENTS`; all else, such as "Horn" in a title, as it is."""
    return code if (code := caseless(text)) in INSTRUMENTS else text


def _plain_piece(folder: Path, audio: Sequence[Path], notes: list[str]) -> Names:
    """Title, (instrument, file) of each player by file name, and mixture of a folder in the plain layout."""
    title = composed(folder.name).split("--")[0] or composed(folder.name)
    mixtures = [path for path in audio if is_mixture(path)]
    if len(mixtures) > 1:
        others = ", ".join(path.name for path in mixtures[1:])
        notes.append(f"{composed(folder.name)}: {mixtures[0].name} is taken as its mixture, {others} passed over")
    named: dict[tuple[str, int], Path] = {}
    problems = []
    for path in audio:
        if path in mixtures:
            continue
        code, number = _player(composed(path.stem), title)
        if code not in INSTRUMENTS:
            advice = "name stems like vn.wav, Violin 1.wav or cello_2.wav, a mixture mix.wav"
            problems.append(_unknown(code, path, advice))
        elif (same := named.setdefault((code, number), path)) != path:  # vn_10 comes after vn_9
            name = f"{INSTRUMENTS[code]} {number}" if number else INSTRUMENTS[code]
            problems.append(
                UserError(f"{folder}: expected one {name}, found {same.name} and {path.name}: number or remove one")
            )
    if not named and not problems:
        found = f"only {', '.join(path.name for path in audio)}" if audio else "none"
        problems.append(UserError(f"{folder}: expected stems like vn.wav, vc_1.wav, vc_2.wav, found {found}: add them"))
    raise_all(problems)
    return title, [(code, named[code, number]) for code, number in sorted(named)], mixtures[0] if mixtures else None


def _player(name: str, title: str) -> tuple[str, int]:
    """Instrument and number (0 if there is none) by a stem's name, which may begin with its piece's title.

    What names no instrument comes back as the name as it is.
    """
    words, of_title = words_of(name), words_of(title)
    for found in (words, words[len(of_title) :] if words[: len(of_title)] == of_title else []):
        instrument, number = _without_number(found)
        if (code := instrument_code(" ".join(instrument))) in INSTRUMENTS:
            return code, number
    return name, 0


def _without_number(words: Sequence[str]) -> tuple[Sequence[str], int]:
    """Words without the number before or behind them, and that number, 0 if there is none.

    The number behind is the player's; that before is a track's, as in "03 Violin 1", unless it stands alone.
    """
    ahead, behind, rest = None, None, list(words)
    for length, numbers in ((2, _ORDINALS), (1, _NUMBERS)):  # "1st" is two words: letters and digits are apart
        if ahead is None and len(rest) > length:
            ahead = _number(rest[:length], numbers)
            rest = rest if ahead is None else rest[length:]
        if behind is None and len(rest) > length:
            behind = _number(rest[-length:], numbers)
            rest = rest if behind is None else rest[:-length]
    return rest, (ahead or 0) if behind is None else behind


def _number(words: Sequence[str], numbers: Mapping[str, int]) -> int | None:
    """A number in digits or as one of `numbers`; None for other words."""
    return int(words[0]) if len(words) == 1 and words[0].isdecimal() else numbers.get("".join(words))


def _unknown(name: str, where: Path, advice: str) -> UserError:
    known, instrument = " ".join(INSTRUMENTS), " ".join(_without_number(words_of(name))[0])
    problem = name_problem(name, instrument)
    return UserError(f"{where}: expected an instrument's name or code ({known}), found {problem}: {advice}")
