"""Command lines for the user to type: programs of the Python environment at work."""

import os
import sys
from pathlib import Path


def program(name: str) -> str:
    """What to type for a program installed beside this Python: its path, unless the environment is active."""
    folder = Path(sys.executable).parent
    if os.environ.get("VIRTUAL_ENV") or not (folder / name).exists():
        return name
    return str((folder / name).relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder / name)
