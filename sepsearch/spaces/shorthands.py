"""Short forms of a space file: lists as choices, single values as fixed, several families as a dimension."""

from typing import Any


def written_out(data: dict[str, Any]) -> dict[str, Any]:
    """The values of a space file, whose `parameters` is a mapping, in the long form that the schema has.

    Raises:
        ValueError: something is given twice, `fixed` is no mapping, or `points` no list of mappings to single values.
    """
    _check_points(data.get("points", ()))
    data = _with_families(data)
    given = {} if data.get("fixed") is None else data["fixed"]
    if not isinstance(given, dict):
        raise ValueError(f"fixed: expected names and values, found {given!r}")
    parameters, fixed = {}, {}
    for key, value in data["parameters"].items():
        if isinstance(value, list):
            parameters[key] = {"choices": value}
        elif isinstance(value, dict):
            parameters[key] = value
        else:
            fixed[key] = value
    if twice := sorted(map(str, fixed.keys() & given.keys())):
        raise ValueError(f"parameters: {twice[0]} is given twice, there and below fixed")
    return {**data, "parameters": parameters, "fixed": {**fixed, **given}}


def _check_points(points: Any) -> None:
    if not isinstance(points, list | tuple):
        raise ValueError(f"points: expected a list of configurations, such as - {{filters: 16}}, found {points!r}")
    for number, point in enumerate(points, 1):
        if not isinstance(point, dict):
            raise ValueError(f"points: number {number}: expected names and values, found {point!r}")
        for name, value in point.items():
            if not isinstance(value, bool | int | float | str):
                raise ValueError(f"points: number {number}: {name}: expected one value, found {value!r}")


def _with_families(data: dict[str, Any]) -> dict[str, Any]:
    """The values of a space file with a list of families as the parameter `family`."""
    family, parameters = data.get("family"), data["parameters"]
    if isinstance(family, list | tuple) and family:
        if "family" in parameters:
            raise ValueError("family is given twice, above and below parameters")
        if twice := [name for number, name in enumerate(family) if name in family[:number]]:
            raise ValueError(f"family: {twice[0]!r} is there twice, expected every family once")
        parameters = {"family": list(family), **parameters} if len(family) > 1 else parameters
        data = {**data, "family": family[0], "parameters": parameters}
    choices = parameters.get("family")
    if isinstance(choices, dict) and "choices" not in choices:
        raise ValueError(f"parameters: family is {choices!r}, expected a list of families, such as [report, unet]")
    choices = choices.get("choices") if isinstance(choices, dict) else choices
    if not isinstance(choices, list | tuple) or not choices:
        return data
    if data.get("family", choices[0]) != choices[0]:
        raise ValueError(f"family is {data['family']!r}, and another one first below parameters: remove one of them")
    return {**data, "family": choices[0]}
