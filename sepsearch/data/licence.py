"""Licence of recordings, from a licence file in their folder."""

import re
from contextlib import suppress
from pathlib import Path

from sepsearch.utils.errors import one_line
from sepsearch.utils.files import cache_folder

DEMO = "scores under sepsearch's MIT licence, sounds of the soundfont TimGM6mb (GPL-2); see its docs/demo.md"
UNKNOWN = "unknown: ask the people who recorded them before passing the model or its output on"
NAMES = re.compile(r"(licen[cs]e|copying)([.-].*)?", re.IGNORECASE)
LONGEST = 120  # characters of a first line


def find_licence(folder: Path) -> str:
    """The licence of a folder of recordings in a line: the demo ensemble's, or that of a file LICENSE in the folder."""
    if folder.parent == cache_folder() and folder.name.startswith("demo-"):
        return DEMO
    try:
        paths = sorted(path for path in folder.iterdir() if NAMES.fullmatch(path.name))
    except OSError:
        return UNKNOWN
    for path in paths:
        with suppress(OSError):  # a file that cannot be read says nothing
            if not path.is_file():
                continue
            with path.open(encoding="utf-8", errors="replace") as file:
                text = file.read(10_000).split("\n")
            first = next((line.strip(" #\t") for line in text if line.strip(" #\t")), "")
            return f"{one_line(first)[:LONGEST]} (file {path.name} of the recordings)" if first else UNKNOWN
    return UNKNOWN
