"""What of a folder's files is on the disk for good, and what a power cut takes.

The rules are those of POSIX, harsher than most file systems: the content of a file lasts once the file was fsynced; a
name (a file made, renamed or removed) lasts once the folder that holds it was fsynced. What of the rest survives is up
to chance, so that two extremes are built: all changes of names that were not fsynced are undone, or all are kept while
the content that was not fsynced is lost (the file of length 0 after a rename).
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

UNDONE, KEPT = "undone", "kept"  # names that were not fsynced
Files = dict[str, bytes | None]  # path → content; None for a folder


class Node:
    """A file or folder.

    Attributes:
        names: entries of a folder as they are now; None for a file.
        lasting: those that a power cut leaves, if no change of names is kept.
        content: of a file, at its last fsync; what a power cut leaves of it.
        size: of a file, as it is now.
    """

    def __init__(self, folder: bool, content: bytes = b""):
        self.names: dict[str, Node] | None = {} if folder else None
        self.lasting: dict[str, Node] = {}
        self.content = content
        self.size = len(content)


class Tree:
    """A model of all that is below a folder; what is there at the beginning is on the disk for good."""

    def __init__(self, root: Path):
        self._root = root
        self._top = self._load(root)

    def _load(self, folder: Path) -> Node:
        node = Node(True)
        assert node.names is not None
        with os.scandir(folder) as entries:
            for entry in entries:
                path = folder / entry.name
                node.names[entry.name] = self._load(path) if entry.is_dir() else Node(False, path.read_bytes())
        node.lasting = dict(node.names)
        return node

    def _folder(self, path: str) -> tuple[dict[str, Node], str]:
        *parents, name = path.split(os.sep)
        node = self._top
        for part in parents:
            node = (node.names or {})[part]
        assert node.names is not None
        return node.names, name

    def _node(self, path: str) -> Node:
        if not path:
            return self._top
        names, name = self._folder(path)
        return names[name]

    def exists(self, path: str) -> bool:
        """Whether something has this path now."""
        try:
            self._node(path)
        except (KeyError, AssertionError):
            return False
        return True

    def can_remove(self, path: str, kind: str) -> bool:
        """Whether an "unlink" or "rmdir" of this path does something."""
        if not self.exists(path):
            return False
        names = self._node(path).names
        return names is None if kind == "unlink" else names == {}

    def create(self, path: str, folder: bool = False) -> None:
        """An empty file or folder was made."""
        names, name = self._folder(path)
        names[name] = Node(folder)

    def write(self, path: str, size: int) -> None:
        """A file was written to; it has `size` bytes now."""
        self._node(path).size = size

    def truncate(self, path: str, size: int) -> None:
        """A file was made this short (or long): that may last, though it was not fsynced."""
        node = self._node(path)
        node.size, node.content = size, node.content[:size]

    def rename(self, old: str, new: str) -> None:
        """Something got another name, in place of what had it."""
        names, name = self._folder(old)
        node = names.pop(name)
        names, name = self._folder(new)
        names[name] = node

    def link(self, old: str, new: str) -> None:
        """A file got another name beside its own."""
        names, name = self._folder(new)
        names[name] = self._node(old)

    def remove(self, path: str) -> None:
        """A file or folder was removed."""
        names, name = self._folder(path)
        del names[name]

    def sync(self, path: str) -> None:
        """A file or folder was fsynced."""
        node = self._node(path)
        if node.names is None:
            node.content = (self._root / path).read_bytes()
        else:
            node.lasting = dict(node.names)

    def after_power_cut(self, names: str) -> Files:
        """All that is there after a power cut now; `names` is UNDONE or KEPT."""
        return dict(_walk(self._top, names, ""))

    def differences(self) -> list[str]:
        """Paths and sizes that are not those of the real files."""
        real = {path: None if content is None else len(content) for path, content in read_files(self._root).items()}
        model = {path: node.size if node.names is None else None for path, node in _nodes(self._top, "")}
        return sorted(path for path in real.keys() | model.keys() if real.get(path, -1) != model.get(path, -1))


def _walk(node: Node, names: str, prefix: str) -> Iterator[tuple[str, bytes | None]]:
    entries = node.lasting if names == UNDONE else node.names or {}
    for name, child in sorted(entries.items()):
        path = prefix + name
        yield path, None if child.names is not None else child.content
        yield from _walk(child, names, path + os.sep)


def _nodes(node: Node, prefix: str) -> Iterator[tuple[str, Node]]:
    for name, child in (node.names or {}).items():
        yield prefix + name, child
        yield from _nodes(child, prefix + name + os.sep)


def read_files(root: Path) -> Files:
    """All that is below a folder."""
    found: Files = {}
    for path in sorted(root.rglob("*")):
        found[str(path.relative_to(root))] = None if path.is_dir() else path.read_bytes()
    return found


def write_files(root: Path, files: Files) -> None:
    """Make a folder hold these and nothing else."""
    shutil.rmtree(root)
    root.mkdir()
    for path, content in files.items():
        if content is None:
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)


def digest(files: Files) -> str:
    """The same for the same names and contents."""
    found = hashlib.sha256()
    for path, content in sorted(files.items()):
        kind = "folder" if content is None else hashlib.sha256(content).hexdigest()
        found.update(f"{path}\0{kind}\0".encode())
    return found.hexdigest()
