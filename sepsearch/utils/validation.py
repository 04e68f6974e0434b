"""Values from files, checked by pydantic: the first problem in one line, with what was expected and found."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BeforeValidator, ConfigDict, ValidationError

from sepsearch.utils.errors import UserError, one_line

Checked = TypeVar("Checked")
# No conversions but int to float, no unknown keys, no NaN.
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")  # of a model, of a dataclass
UNION_BRANCHES = ("int", "float", "str", "bool")  # pydantic names them as if they were places in the file


def validated(cls: type[Checked], values: Any, where: str) -> Checked:
    """An object of a pydantic class from plain values; raises `UserError`, whose message begins with `where`."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: found {type(values).__name__}, expected keys: {', '.join(_fields(cls))}")
    try:
        return cls(**values)
    except ValidationError as error:
        raise UserError(one_line(f"{where}: {problem_of(error, cls)}".removeprefix(": "))) from error


def from_mapping(make: Callable[[Mapping[str, Any]], object]) -> BeforeValidator:
    """For a field of a strict class: also accepts plain values, which `make` makes an object of (or `UserError`)."""

    def convert(value: Any) -> Any:
        try:
            return make(value) if isinstance(value, Mapping) else value
        except UserError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(convert)


def problem_of(error: ValidationError, cls: type) -> str:
    """The first problem found in the values of a pydantic class; a misspelt key comes before what is missing."""
    problem = min(error.errors(), key=lambda problem: problem["type"] not in UNKNOWN_KEY)
    location = [str(part) for part in problem["loc"]]
    where = ": ".join(part for depth, part in enumerate(location) if depth < 2 or part not in UNION_BRANCHES)
    if problem["type"] in UNKNOWN_KEY:
        keys = _keys_at(cls, location[:-1])
        close = difflib.get_close_matches(location[-1], keys, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"{where}: unknown key{hint}, expected one of {', '.join(keys)}"
    if problem["type"] in ("missing", "missing_argument"):
        return f"{where}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    text = repr(problem["input"])
    plain = isinstance(problem["input"], bool | int | float | str | list | None)
    found = f", found {text if len(text) <= 60 else f'{text[:59]}…'}" if plain else ""
    return f"{where}{': ' if where else ''}{message[0].lower()}{message[1:]}{found}"


def _fields(cls: Any) -> dict[str, Any]:
    """The fields of a class, or of the class that may be None."""
    if (branches := get_args(cls)) and type(None) in branches:
        cls = branches[0]
    return dict(getattr(cls, "__pydantic_fields__", {}))


def _keys_at(cls: Any, location: list[str]) -> list[str]:
    """The keys that a class has at a place of its values."""
    for part in location:
        fields = _fields(cls)
        cls = fields[part].annotation if part in fields else get_args(cls)[-1]
    return list(_fields(cls))
