"""YAML without its traps: plain values and names only, numbers as they are written, nothing that grows or runs.

YAML 1.1 reads 010 as eight and 1:30 as ninety, 2024-01-01 as a date, and 3e-4 as text; tags make objects, aliases fill
the memory, a doubled key hides the first. Here 3e-4 is a number, the others stay text, and what is left is refused.
"""

import math
import re
from pathlib import Path
from typing import Any

import yaml

from sepsearch.utils.errors import UserError, one_line

LARGEST_FILE = 100_000  # bytes; PyYAML takes seconds for that much
DEEPEST = 20  # levels of lists and mappings
_INT = r"[-+]?(?:0|[1-9][0-9]{0,17})"
_FLOAT = r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"


def load_yaml(path: Path, expected: str) -> Any:
    """The content of a YAML file; `expected` says what else could have been given where there is no such file.

    Raises `UserError` for a file that cannot be read, is larger than `LARGEST_FILE` or no plain YAML.
    """
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such space file, expected {expected}")
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}: expected {expected}") from error
    if len(content) > LARGEST_FILE:
        raise UserError(f"{path}: too large, expected a space file of at most {LARGEST_FILE:,} bytes")
    try:
        return yaml.load(content.decode("utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: not YAML: {one_line(getattr(error, 'problem', None) or error)}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: expected text in UTF-8, found byte {error.start} to be none: save it again"
        ) from error
    except (ValueError, OverflowError) as error:  # an escape of no character, which PyYAML leaves to Python
        raise UserError(f"{path}: not YAML: {one_line(error)}") from error


class _Loader(yaml.SafeLoader):
    """Plain scalars, lists and mappings with names as keys."""

    depth = 0

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        """Refuse here, too: PyYAML looks 1,024 characters ahead, in a time that grows with the square of the depth."""
        if self.flow_level >= DEEPEST:
            raise yaml.scanner.ScannerError(None, None, f"nested deeper than {DEEPEST} levels", self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.events.AliasEvent):
            self._refuse("aliases are not allowed here", event)
        if getattr(event, "tag", None) is not None:
            self._refuse(f"tags such as {event.tag!r} are not allowed here", event)
        if self.depth == DEEPEST:
            self._refuse(f"nested deeper than {DEEPEST} levels", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                found = repr(key.value) if isinstance(key.value, str) else "a list or mapping"
                self._refuse(f"expected a name as key, found {found}", key)
            if key.value in seen:
                self._refuse(f"key {key.value!r} is there twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_float(self, node: Any) -> float:
        """A number as it is written: not one that float64 turns into infinity or zero."""
        value = float(node.value)
        lost = value == 0 and re.search("[1-9]", re.split("[eE]", node.value)[0])
        if lost or math.isinf(value):
            self._refuse(f"number {node.value} is out of range", node)
        return value

    def _refuse(self, problem: str, place: Any) -> None:
        raise yaml.constructor.ConstructorError(None, None, problem, place.start_mark)


def _resolve(kind: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(rf"(?:{pattern})\Z"), list(first))


_Loader.yaml_implicit_resolvers = {}  # those of YAML 1.1 are left behind
_resolve("int", _INT, "-+0123456789")
_resolve("float", _FLOAT, "-+.0123456789")
_WORDS = ("true", "false", "yes", "no", "on", "off")
_resolve("bool", "|".join(f"{word}|{word.title()}|{word.upper()}" for word in _WORDS), "tTfFyYnNoO")
_resolve("null", "~|null|Null|NULL|", "~nN")
_Loader.yaml_implicit_resolvers[""] = [("tag:yaml.org,2002:null", re.compile(r"\Z"))]
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_float)
