"""Folders of pieces within a folder of recordings, and the audio files in them; nothing is opened.

What systems leave, hidden files and folders that cannot be read are passed over, with a note where that may matter.
"""

from pathlib import Path

from sepsearch.audio.formats import is_audio_name
from sepsearch.audio.reading import unreadable
from sepsearch.data.layouts import is_mixture, is_urmp_name
from sepsearch.utils.errors import UserError, one_line

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


def find_pieces(folder: Path, notes: list[str], problems: list[UserError]) -> list[Path]:
    """The folders of the pieces in `folder`, at most two levels deep.

    Args:
        folder: of recordings.
        notes: gets what is passed over.
        problems: gets names that cannot be printed, whose folders are left out, and audio beside the pieces.

    Raises:
        UserError: there is no piece, or a folder cannot be read.
    """
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
    if not found and _is_piece(folder):
        return [folder]
    odd = {place: problem for place in found if (problem := unprintable(place, str(place.relative_to(folder))))}
    problems += odd.values()
    found = [place for place in found if place not in odd]
    if not found and not odd:
        raise UserError(
            f"{folder}: expected folders like 01_Jupiter_vn_vc (URMP) or folders with stems like vn.wav, "
            f"found no piece among {len(passed)} folders: give the folder that holds the pieces"
        )
    audio = audio_files(folder) if found else []
    if stems := [path for path in audio if not is_mixture(path)]:
        problems.append(
            UserError(
                f"{folder}: expected either stems or folders of pieces, found both ({one_line(stems[0].name)} "
                f"beside {one_line(found[0].name)}): move the audio files into a folder of their own"
            )
        )
    notes += [f"{one_line(place)}: a mixture beside the pieces, passed over" for place in audio if is_mixture(place)]
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


def unprintable(place: Path, name: str) -> UserError | None:
    """The error for a name, part of the path `place`, that goes into tables, manifests and messages and is no text."""
    if name.isprintable():  # bytes that are no UTF-8 are not, either
        return None
    return UserError(f"{str(place)!a}: expected a name of printable characters: rename it")


def audio_files(folder: Path) -> list[Path]:
    """What is audio by its name in a folder, readable or not, by name; raises `UserError` for an unreadable folder."""
    return [entry for entry in _entries(folder) if is_audio_name(entry)]


def _is_piece(folder: Path) -> bool:
    """Whether a folder claims to be a piece: an empty `01_Jupiter_vn_vc` does, and will be refused."""
    return bool(audio_files(folder)) or is_urmp_name(folder.name)


def find_mixture(folder: Path) -> Path | None:
    """A mixture among recordings, the first by name: in a folder's pieces, or in those one folder deeper.

    None where there is none, or the folder is not there or cannot be read.
    """
    try:
        for pattern in ("*", "*/*", "*/*/*"):
            for path in sorted(folder.glob(pattern)):
                if is_audio_name(path) and is_mixture(path) and not path.name.startswith(".") and path.is_file():
                    return path
    except (OSError, ValueError):
        return None
    return None
