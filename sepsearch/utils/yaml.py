"""Plain YAML 1.2 files: mappings with names as keys, lists, text, decimal numbers; the parser is ruamel.yaml.

Tags, which make objects, aliases, which fill the memory, repeated keys, and numbers that are not read as they are
written (octal and other bases, underscores, beyond float64) are refused with the line in the file.
"""

import io
import math
import re
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from sepsearch.utils.errors import UserError, one_line

LARGEST_FILE = 100_000  # bytes; the parser takes seconds for that much
DEEPEST = 20  # levels of lists and mappings
PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "bool", "null")}


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
        return _parse(content.decode("utf-8"))
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: not YAML: {one_line(getattr(error, 'problem', None) or error)}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: expected text in UTF-8, found byte {error.start} to be none: save it again"
        ) from error
    except (ValueError, OverflowError) as error:  # an escape of no character, which the parser leaves to Python
        raise UserError(f"{path}: not YAML: {one_line(error)}") from error


def dump_yaml(value: object) -> str:
    """Plain values as YAML; keys in their order."""
    stream = io.StringIO()
    _yaml().dump(value, stream)
    return stream.getvalue()


def _yaml() -> YAML:
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    return yaml


def _parse(text: str) -> Any:
    """The value of a YAML document; raises `YAMLError`."""
    depth = 0
    for event in _yaml().parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > DEEPEST:
            _refuse(f"nested deeper than {DEEPEST} levels", event)
        if isinstance(event, AliasEvent):
            _refuse("aliases are not allowed here", event)
        if tag := getattr(event, "tag", None):
            _refuse(f"tags such as {tag!r} are not allowed here", event)
    return _yaml().load(text)


def _refuse(problem: str, node: Any) -> NoReturn:
    raise ConstructorError(None, None, problem, node.start_mark)


class _Constructor(SafeConstructor):
    """Makes only dict, list, str, bool, int, float and None."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                _refuse(f"expected a name as key, found {one_line(key.value)}", key)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: Any) -> int | float:
        """A decimal number, unless float64 turns it into infinity or zero."""
        text, is_int = node.value, node.tag.endswith(":int")
        pattern = "[-+]?(0|[1-9][0-9]{0,17})" if is_int else r"[-+]?[0-9]*\.?[0-9]*([eE][-+]?[0-9]+)?"
        if re.fullmatch(pattern, text):
            value = int(text) if is_int else float(text)
            if math.isfinite(value) and (value or not re.search("[1-9]", re.split("[eE]", text)[0])):
                return value
        _refuse(f"number {one_line(text)} is not decimal or out of range", node)

    def refuse_other(self, node: Any) -> NoReturn:
        _refuse(f"{one_line(node.value)}: expected text in quotes, a number, true or false", node)


_Constructor.yaml_constructors = {tag: SafeConstructor.yaml_constructors[tag] for tag in PLAIN_TAGS}
_Constructor.add_constructor("tag:yaml.org,2002:int", _Constructor.construct_number)
_Constructor.add_constructor("tag:yaml.org,2002:float", _Constructor.construct_number)
_Constructor.add_constructor(None, _Constructor.refuse_other)  # dates
