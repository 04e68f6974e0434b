"""What is to be separated and where to: recordings by file, folder, pattern or pipe, targets, instruments and players.

All that can be refused by names alone is refused here, before any audio is read.
"""

import argparse
import glob
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from sepsearch.audio.formats import FORMATS, is_audio_name
from sepsearch.data.instruments import INSTRUMENTS, file_name, parse_codes
from sepsearch.data.text_identity import caseless
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import is_there

PIPE = "-"  # standard input or output
OUTPUT = "separated"  # the folder by default
RESIDUAL = "residual"
SUFFIXES = " or ".join((", ".join(f".{kind}" for kind in list(FORMATS)[:-1]), f".{list(FORMATS)[-1]}"))


def codes_of(text: str) -> list[str] | None:
    """The instruments that were asked for; None for all."""
    if caseless(text.strip()) == "all":
        return None
    return list(parse_codes(text, "--instrument", "all or some"))


def players_of(arguments: argparse.Namespace, codes: Sequence[str] | None) -> list[str] | None:
    """The players that were named; None for a recording in which others may play, too.

    Raises:
        UserError: an instrument that was asked for is not among them, or `--share` was given as well.
    """
    if arguments.players is None:
        return None
    players = list(parse_codes(arguments.players, "--players"))
    if arguments.share:
        raise UserError(
            "--share: divides the sound, as --players does: expected one of them (--residual goes with both)"
        )
    if missing := [code for code in codes or () if code not in players]:
        raise UserError(
            f"--instrument: {missing[0]} is not among --players {','.join(players)}: ask for one of them, or name it"
        )
    return players


def is_file(output: Path) -> bool:
    """Whether an output is one audio file, by its name."""
    return output.suffix.lower().lstrip(".") in FORMATS


def kind_of(arguments: argparse.Namespace) -> str:
    """The format that is written, of `FORMATS`: --format, else that of -o where it names a file, else WAV."""
    suffix = arguments.output.suffix.lower().lstrip(".")
    return arguments.format or (suffix if suffix in FORMATS else "wav")


def find_recordings(given: Iterable[str]) -> list[Path]:
    """The audio files that were given, those directly in folders that were, and those that match patterns.

    Patterns are those of a shell, for shells that leave them alone (quoted ones, Windows): `**` is any depth.

    Raises:
        UserError: there is none in a folder, or none that matches a pattern.
    """
    found = []
    for text in given:
        path = Path(text)
        if is_there(path) and path.is_dir():
            inside = _audio_in(path)
            deeper = "" if inside else f": give its files, or '{glob.escape(text)}/**/*.*' for those of its folders"
            what = f"{text}: expected audio files in this folder, found none{deeper}"
        elif not is_there(path) and glob.has_magic(text):
            inside = sorted(Path(match) for match in glob.glob(text, recursive=True) if is_audio_name(Path(match)))
            what = f"{text}: expected audio files that match, found none: look at the folder and the pattern"
        else:
            inside, what = [path], ""
        if not inside:
            raise UserError(what)
        found += inside
    return found


def _audio_in(folder: Path) -> list[Path]:
    """The audio files directly in a folder, by name; hidden ones are passed over."""
    try:
        return sorted(path for path in folder.iterdir() if is_audio_name(path) and not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}: give a folder that can") from error


def targets_of(
    arguments: argparse.Namespace, mixtures: Sequence[Path], codes: Sequence[str] | None
) -> list[tuple[Path, Path]]:
    """(recording, folder or file to write) for all.

    Args:
        arguments: of the command line; `output`, `format`, `share`, `residual` and `overwrite` are read.
        mixtures: the recordings.
        codes: of the instruments; None for those that there are models of.

    Raises:
        UserError: names clash, or a file is there already and may not be replaced.
    """
    output = arguments.output
    if is_audio_name(output) and not is_file(output):
        raise UserError(f"-o {output}: expected a folder, or a name that ends in {SUFFIXES}")
    if is_file(output):
        require_one_file(arguments, mixtures, codes)
        if (kind := kind_of(arguments)) != output.suffix.lower().lstrip("."):
            raise UserError(f"-o {output}: expected a name that ends in .{kind}, since --format is {kind}")
        targets = [(mixtures[0], output)]
    else:
        if is_there(output) and not output.is_dir():
            raise UserError(f"-o {output}: expected a folder, or a name that ends in {SUFFIXES}, found a file")
        targets = [(mixture, output / mixture.stem) for mixture in mixtures]
    places = {mixture: _resolve(mixture) for mixture in mixtures}
    if twice := [path for path, count in Counter(map(_resolve, mixtures)).items() if count > 1]:
        raise UserError(f"{twice[0]}: given twice, expected every recording once")
    names = Counter(caseless(target.name) for _, target in targets)
    for mixture, target in targets:
        if target.name in ("", ".", "..") or mixture.stem in ("", ".", ".."):
            raise UserError(f"{mixture}: its name gives no name for a folder: rename it")
        if names[caseless(target.name)] > 1:
            raise UserError(f"{mixture}: another recording would be written to {target}, too: rename one of them")
        files = [target] if is_file(output) else _voices_in(target, arguments, codes)
        _require_folder(target, is_file(output))
        for path in files:
            _require_free(path, arguments.overwrite, list(places.values()))
    return targets


def _voices_in(folder: Path, arguments: argparse.Namespace, codes: Sequence[str] | None) -> list[Path]:
    """Files that may be written to a folder: where it is not known yet who plays, those of all instruments."""
    names = [*map(file_name, INSTRUMENTS if codes is None else codes)]
    names += [RESIDUAL] if arguments.residual or arguments.share else []
    return [folder / f"{name}.{kind_of(arguments)}" for name in names]


def require_one_file(arguments: argparse.Namespace, mixtures: Sequence[Path], codes: Sequence[str] | None) -> None:
    """Raise `UserError` where several files would be written to an output, a file or a pipe, that is one."""
    if len(mixtures) > 1 or len(codes or ()) > 1 or arguments.residual or arguments.share:
        raise UserError(f"-o {arguments.output}: expected a folder for several files, found the name of one")


def _require_folder(target: Path, as_file: bool) -> None:
    """Raise `UserError` for a file or a link where files are to be written."""
    if not as_file and is_there(target) and (target.is_symlink() or not target.is_dir()):
        raise UserError(f"{target}: expected a folder to write to, found a file or a link: choose another -o")


def _require_free(path: Path, overwrite: bool, mixtures: Sequence[Path]) -> None:
    """Raise `UserError` unless there is no such file, or it may be replaced."""
    if not is_there(path):
        return
    if not overwrite:
        raise UserError(f"{path}: exists already, expected a new name: --overwrite replaces it, or choose another -o")
    if _resolve(path) in mixtures:
        raise UserError(f"{path}: --overwrite would replace a recording that is to be separated: choose another -o")
    if not path.is_file():
        raise UserError(f"{path}: expected a file to replace, found a folder or a device: choose another -o")


def _resolve(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # loops of links, names that no file can have
        raise UserError(f"{path}: cannot be looked for: {error}: choose another name") from error
