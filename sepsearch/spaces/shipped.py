"""Space files that come with sepsearch, by name: `--space laptop`."""

from pathlib import Path

INSTALLED = Path(__file__).parent / "files"  # in a wheel
SOURCE = Path(__file__).parents[2] / "search_spaces"  # in the source tree


def shipped_spaces() -> dict[str, Path]:
    """Space files by name, such as "detector" and "laptop"."""
    folder = INSTALLED if INSTALLED.is_dir() else SOURCE
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def space_path(text: str) -> Path:
    """The space file that a user names: a file or, where no file has that name, one that comes with sepsearch."""
    path = Path(text)
    try:
        there = path.exists()
    except (OSError, ValueError):  # a name that no file can have; who reads it says so
        there = True
    return path if there else shipped_spaces().get(text, path)
