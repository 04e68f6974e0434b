"""Protection against path traversal: names from a bucket, a journal or a manifest, checked before they become paths."""

from pathlib import Path

from sepsearch.utils.errors import UserError, one_line

PLANTED = (
    "it could choose a file elsewhere on this machine, so nothing of it is used: remove it, and see who can write it"
)


def name_problem(name: object) -> str:
    """What forbids a name as a relative path, if anything: "" for printable parts between single slashes.

    Refused are absolute names, empty parts, "." and "..", backslashes, drive letters and characters that are not
    printable (NUL, escape sequences).
    """
    if not isinstance(name, str) or not name:
        return "no name at all"
    if not name.isprintable():
        return "a character that is not printable"
    if "\\" in name:
        return "a backslash"
    if name.startswith("/"):
        return "a leading slash"
    parts = name.split("/")
    if any(part[1:2] == ":" and part[0].isascii() and part[0].isalpha() for part in parts):
        return "a drive letter"
    return next((f"a part {part!r}" for part in parts if part in ("", ".", "..")), "")


def require_plain(name: str, where: object) -> str:
    """The name unchanged; raises `UserError` for one that `name_problem` forbids. `where` is who named it."""
    if problem := name_problem(name):
        raise UserError(
            f"{where}: the name {one_line(repr(name))} has {problem}, expected a plain relative path: {PLANTED}"
        )
    return name


def path_below(folder: Path, name: str, where: object) -> Path:
    """The path of `name` in `folder`, also after symbolic links below the folder are followed.

    Args:
        folder: what the path has to stay below; may be a link itself.
        name: relative path, not trusted.
        where: who named it, for the message.

    Raises:
        UserError: the name is no plain relative path, or a link leads out of the folder.
    """
    target = folder / require_plain(name, where)
    if not target.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{target}: a symbolic link leads to {target.resolve()}, expected a file below {folder}: remove the link"
        )
    return target
