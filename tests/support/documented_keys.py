"""Keys of a command's JSON as docs/command-line.md lists them."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


def documented_keys(command: str) -> set[str]:
    """Every word in the section of a command, or in its line of the last section."""
    text = PAGE.read_text(encoding="utf-8").partition("## JSON")[2].partition("## Completion")[0]
    found = re.search(rf"^### {command}\n(.*?)^### |^- \*{command}\*: (.*?)\n(?=-|\n)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/command-line.md has no JSON of {command}"
    return set(re.findall(r"\w+", found[1] or found[2]))
