"""Configurations of a search space: which ones it holds, how many there are, and all of them one after the other."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sepsearch.spaces.space import Space

MOST_CASES = 100_000  # combinations of conditions that are gone through to count a space

_EXACT = 2**53  # whole numbers up to here are the same as floats


def sampled_names(space: "Space", params: Mapping[str, Any]) -> list[str]:
    """The parameters that are sampled for a configuration: those whose conditions hold, each after those it names."""
    return list(_active(space, ordered_names(space), params))


def _active(space: "Space", names: Iterable[str], values: Mapping[str, Any]) -> list[str]:
    """Those of the ordered names whose conditions hold; a parameter that is not sampled itself meets none."""
    active: dict[str, None] = {}
    for name in names:
        when = space.parameters[name].when
        if all(other in active and values.get(other) == value for other, value in when.items()):
            active[name] = None
    return list(active)


def ordered_names(space: "Space") -> list[str]:
    """All parameters, each after those that its conditions name; else as in the space file."""
    return sorted(space.parameters, key=lambda name: _depth(space, name))


def _depth(space: "Space", name: str) -> int:
    """Levels of conditions above a parameter."""
    return 1 + max((_depth(space, other) for other in space.parameters[name].when), default=-1)


def holds(space: "Space", params: Mapping[str, Any]) -> bool:
    """Whether a sampler can propose this complete configuration."""
    names = sampled_names(space, params)
    return space.complete({name: params[name] for name in names if name in params}) == params and all(
        space.parameters[name].holds(params[name]) for name in names
    )


def configuration_key(params: Mapping[str, Any]) -> bytes:
    """The same 16 bytes for equal configurations, on every machine; 1 and 1.0 are equal, 1 and True are not."""
    text = json.dumps({name: _plain(value) for name, value in params.items()}, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _EXACT else value


def count_configurations(space: "Space") -> int | None:
    """How many different configurations a space holds.

    None where there is no end to them (a parameter takes any number of a range), or too many conditions to go through.
    """
    sizes: dict[str, int] = {}
    for name, parameter in space.parameters.items():
        values = parameter.steps if parameter.choices is None else parameter.choices
        if values is None:
            return None
        sizes[name] = len(values)
    names = ordered_names(space)
    deciding = {other for parameter in space.parameters.values() for other in parameter.when}
    if math.prod(sizes[name] for name in deciding) > MOST_CASES:
        return None
    first, rest = [name for name in names if name in deciding], [name for name in names if name not in deciding]
    total = 0
    for case in _assignments(space, first, {}):
        total += math.prod(sizes[name] for name in _active(space, [*case, *rest], case) if name not in deciding)
    return total


def iterate_configurations(space: "Space") -> Iterator[dict[str, Any]]:
    """All complete configurations of a space that has an end (`count_configurations`), one after the other."""
    return (space.complete(values) for values in _assignments(space, ordered_names(space), {}))


def _assignments(space: "Space", names: list[str], values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All ways to go on with the `values` of some parameters over the other `names`."""
    if not names:
        yield values
        return
    name, *rest = names
    parameter = space.parameters[name]
    if any(values.get(other) != value for other, value in parameter.when.items()):
        yield from _assignments(space, rest, values)
        return
    for value in (parameter.steps or ()) if parameter.choices is None else parameter.choices:
        yield from _assignments(space, rest, {**values, name: value})


def limit_trials(space: "Space", trials: int) -> tuple[int, str]:
    """How many of so many trials find a configuration of their own, and why they are fewer ("" if they are not).

    The reference is always one of the trials, whether the space holds it or not.
    """
    count = count_configurations(space)
    inside = holds(space, space.reference_params())
    most = trials if count is None else count + (not inside)
    if most >= trials:
        return trials, ""
    held = f"the space holds {count} configuration{'' if count == 1 else 's'}"
    beside = "" if inside else " beside the reference"
    return most, f"{held}{beside}: {most} trial{'' if most == 1 else 's'} instead of {trials}"
