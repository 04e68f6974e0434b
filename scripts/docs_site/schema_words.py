"""Types, limits and defaults of pydantic fields as words, for the tables of the documentation."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "nothing", Any: "any"}


def type_words(annotation: Any) -> str:
    """A type for people: "whole number", "one of tpe, random", "list of text"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in WORDS:
        return WORDS[annotation]
    if origin is Annotated:
        return type_words(arguments[0])
    if origin is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        if {bool, int, float, str} <= set(arguments):
            return "number, text, true or false"
        return " or ".join(dict.fromkeys(type_words(one) for one in arguments if one is not type(None)))
    if origin in (list, tuple):
        return f"list of {type_words(arguments[0])}" if arguments else "list"
    if origin is dict:
        return f"table of {type_words(arguments[1])}" if arguments and not models_in(arguments[1]) else "table"
    return "table" if isinstance(annotation, type) and issubclass(annotation, BaseModel) else "text"


def limit_words(field: FieldInfo) -> str:
    """The range of a field: "1 to 1000000", "above 0, below 1"; "" for none."""
    found = {}
    for one in _metadata(field):
        found |= {name: value for name in ("ge", "gt", "le", "lt") if (value := getattr(one, name, None)) is not None}
    if found.keys() == {"ge", "le"}:
        return f"{found['ge']:g} to {found['le']:g}" if found["le"] < 1e6 else f"{found['ge']:g} to {found['le']}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return ", ".join(f"{words[name]} {value:g}" for name, value in found.items())


def _metadata(field: FieldInfo) -> Iterator[Any]:
    """Constraints of a field, also those within a union such as `Annotated[int, Ge(1)] | None`."""
    yield from field.metadata
    for one in get_args(field.annotation):
        if get_origin(one) is Annotated:
            for part in get_args(one)[1:]:
                yield from getattr(part, "metadata", ()) or (part,)


def default_words(field: FieldInfo) -> str:
    """The default of a field; "required" without one."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return "below"
    if value is None or value in ({}, (), []):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models that a type mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for one in get_args(annotation) for model in models_in(one)]


def table(headings: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [headings, ["---"] * len(headings), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
