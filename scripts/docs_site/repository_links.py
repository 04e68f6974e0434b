"""Links of Markdown files that lie in the repository, as links of the site: other pages, or pages that show a file."""

import json
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HOME = "index.md"
SHOWN = "files"  # folder of the pages that show a file
LINK = re.compile(r"(?<!\\)(!?\[(?:[^\[\]]|\[[^\]]*\]\([^)]*\))*\])\(([^()\s]+)\)")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".sh": "sh", ".toml": "toml", ".json": "json"}
BLOCK = re.compile(r"^(```.*?^```|(?: {4}|\t).*?$)", re.MULTILINE | re.DOTALL)


def repository_path(page: str) -> str:
    """Where the source of a page of the site is in the repository; both are paths with `/`."""
    return f"docs/{page}" if (ROOT / "docs" / page).exists() else page


def site_path(path: str) -> str | None:
    """The page of a file or folder of the repository; None for what has none, such as a folder without a README."""
    if path in ("README.md", "."):
        return HOME
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if (ROOT / path).is_dir():
        return f"{path}/README.md" if (ROOT / path / "README.md").exists() else None
    return path if path.endswith(".md") else f"{SHOWN}/{path}.md"


def linked_files(page: str, markdown: str) -> list[str]:
    """Files of the repository outside docs/ that a page links to, each once."""
    found = []
    for _, target in LINK.findall(BLOCK.sub("", markdown)):
        path = _target(page, target)
        if path and (ROOT / path).is_dir() and (ROOT / path / "README.md").exists():
            path = f"{path}/README.md"
        if path and not path.startswith("docs/") and path != "README.md" and (ROOT / path).is_file():
            found.append(path)
    return list(dict.fromkeys(found))


def site_links(page: str, markdown: str) -> str:
    """The text of a page with links to files of the repository replaced by links within the site.

    Args:
        page: its path within the site.
        markdown: its text as it is in the repository.
    """

    def replaced(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        path = _target(page, target)
        if path is None or not (ROOT / path).exists():
            return match[0]
        place = site_path(path)
        if place is None:
            return text.removeprefix("!")[1:-1]
        _, mark, anchor = target.partition("#")
        return f"{text}({posixpath.relpath(place, posixpath.dirname(page) or '.')}{mark}{anchor})"

    parts = BLOCK.split(markdown)
    return "".join(part if number % 2 else LINK.sub(replaced, part) for number, part in enumerate(parts))


def _target(page: str, target: str) -> str | None:
    """The path in the repository that a link of a page leads to; None for one to another host, or within the page."""
    if re.match(r"[a-z]+:|#|/", target):
        return None
    folder = posixpath.dirname(repository_path(page))
    return posixpath.normpath(posixpath.join(folder, target.partition("#")[0]))


def shown_file(path: str) -> str:
    """The page that shows a file of the repository; of a notebook its cells with what they print."""
    text = (ROOT / path).read_text(encoding="utf-8").rstrip()
    shown = (
        _notebook(json.loads(text)) if path.endswith(".ipynb") else _fenced(text, LANGUAGES.get(Path(path).suffix, ""))
    )
    return f"# {path}\n\n{shown}\n"


def _notebook(content: dict[str, Any]) -> str:
    """The cells of a notebook as Markdown: text, code, printed text; pictures and sounds are left out."""
    parts = []
    for cell in content["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"^# ", "## ", source, flags=re.MULTILINE))
            continue
        parts.append(_fenced(source, "python"))
        for output in cell.get("outputs", ()):
            lines = output.get("text") or output.get("data", {}).get("text/plain") or ()
            parts += [_fenced("".join(lines).rstrip(), "")] if lines else []
    return "\n\n".join(parts)


def _fenced(text: str, language: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}{language or 'text'}\n{text}\n{fence}"
