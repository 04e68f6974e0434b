"""Points of a space file: configurations to try first, each with values for some or all parameters.

points:
  - {filters: 16, learning_rate: 1e-3}               # parameters that are not named are sampled
  - {detector_layers: 2, detector_width: 64}         # a parameter with a condition stands beside what it depends on
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sepsearch.models.families import make_config
from sepsearch.spaces.checks import same_value
from sepsearch.spaces.configurations import configuration_key, ordered_names, sampled_names
from sepsearch.utils.errors import UserError

if TYPE_CHECKING:
    from sepsearch.spaces.parameter import Parameter
    from sepsearch.spaces.space import Space

Point = dict[str, Any]


def read_points(space: "Space") -> list[Point]:
    """The sampled values of every point, in the order of the space file, as the sampler proposes them.

    Names of parameters that are not sampled are left out: they are accepted with the value that the space gives them,
    so that the `params` of a trial in `results.json` are a point.

    Raises:
        UserError: a name that the space does not have, a value outside it, a condition that does not hold, a point
            given twice, or the reference network's configuration, which is in every search.
    """
    points: list[Point] = []
    seen: dict[bytes, int] = {}
    reference = configuration_key(space.reference_params())
    for number, given in enumerate(space.points, 1):
        where = f"points: number {number}"
        point = _sampled_values(space, given, where)
        if (before := seen.setdefault(configuration_key(point), number)) != number:
            raise UserError(f"{where} is the same as number {before}: remove one of them")
        if is_complete(space, point) and configuration_key(space.complete(point)) == reference:
            raise UserError(f"{where} is the reference network's configuration, which is in every search: leave it out")
        points.append(point)
    return points


def is_complete(space: "Space", point: Mapping[str, Any]) -> bool:
    """Whether a point has a value for every parameter that is sampled beside its own values."""
    return all(name in point for name in sampled_names(space, point))


def matches(point: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Whether a configuration has all values of a point."""
    return all(name in params and same_value(value, params[name]) for name, value in point.items())


def check_room(space: "Space", trials: int, where: str) -> None:
    """Raise `UserError` if a search of so many trials has no room for all points beside the reference network."""
    if len(space.points) >= trials:
        raise UserError(
            f"{where}: points has {len(space.points)} configurations, and the reference network is one more, but the"
            f" search has {trials} trials: ask for more with --trials {len(space.points) + 1}, or remove some points"
        )


def _sampled_values(space: "Space", given: Mapping[str, Any], where: str) -> Point:
    """The checked values of one point, of sampled parameters alone and in the space's own types."""
    if not given:
        raise UserError(f"{where} is empty, expected names of parameters with values, such as {_example(space)}")
    point: Point = {}
    for name in [name for name in ordered_names(space) if name in given]:
        parameter = space.parameters[name]
        missing = [other for other in parameter.when if other not in given]
        if missing:
            other = missing[0]
            raise UserError(
                f"{where}: {name} is sampled only when {other} is {parameter.when[other]!r}: add"
                f" {other}: {parameter.when[other]}, or leave {name} out"
            )
        if all(other in point and same_value(point[other], value) for other, value in parameter.when.items()):
            point[name] = _value(parameter, given[name], f"{where}: {name}")
    complete = _complete(space, point, where)
    for name, value in given.items():
        if name not in point:
            _require_given(space, name, value, complete, where)
    return point


def _complete(space: "Space", point: Point, where: str) -> dict[str, Any]:
    """The configuration of a point with defaults for what is sampled; raises `UserError` if it builds no network."""
    try:
        complete = space.complete(dict(point))
        make_config(complete)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return complete


def _require_given(space: "Space", name: str, value: Any, complete: Mapping[str, Any], where: str) -> None:
    """Raise `UserError` unless a value that is not sampled here is the one that the space gives the parameter."""
    if name in complete and same_value(value, complete[name]):
        return
    if name in space.parameters:
        other, wanted = next(iter(space.parameters[name].when.items()))
        raise UserError(
            f"{where}: {name} is sampled only when {other} is {wanted!r}: leave {name} out, or change {other}"
        )
    if name in space.fixed:
        raise UserError(f"{where}: {name} is {value!r}, but the space fixes it to {space.fixed[name]!r}: leave it out")
    if name in complete:
        raise UserError(
            f"{where}: {name} is {value!r}, but the space does not search {name}: it is {complete[name]!r} in all"
            f" trials: add it below parameters, or leave it out"
        )
    raise UserError(f"{where}: {name}: unknown parameter, expected one of {', '.join(space.parameters)}")


def _value(parameter: "Parameter", value: Any, where: str) -> Any:
    """A value in the type that the sampler proposes; raises `UserError` for one outside the parameter's values."""
    if not parameter.holds(value):
        raise UserError(f"{where} is {value!r}, expected {_expected(parameter)}")
    if parameter.choices is not None:
        return next(choice for choice in parameter.choices if same_value(choice, value))
    return int(value) if parameter.steps is not None else float(value)


def _expected(parameter: "Parameter") -> str:
    """The values of a parameter in words."""
    if parameter.choices is not None:
        return f"one of {', '.join(map(str, parameter.choices))}"
    low, high = parameter.ends
    step = f" in steps of {parameter.step}" if parameter.step else ""
    return f"{'a whole number' if parameter.whole else 'a number'} from {low:g} to {high:g}{step}"


def _example(space: "Space") -> str:
    """A point with one value, as it is written in a space file."""
    name, parameter = next(iter(space.parameters.items()))
    return f"{{{name}: {parameter.corners()[0]}}}"
