"""Corner configurations: a few complete configurations that stand for a whole search space."""

from collections.abc import Callable, Sequence
from typing import Any

from sepsearch.models.families import count_parameters, make_config, make_network
from sepsearch.search.protocol import Params
from sepsearch.spaces.configurations import configuration_key, ordered_names
from sepsearch.spaces.parameter import Parameter, Value
from sepsearch.spaces.space import Space
from sepsearch.utils.errors import UserError, reason_of

MOST_CORNERS = 64


def corner_configs(space: Space, most: int = MOST_CORNERS) -> list[Params]:
    """Complete configurations that stand for the space, each once; the reference is the first.

    They are the reference, the largest (of every family) and the smallest of all numbers at once, and every parameter
    at each of its corners with the others as the reference has them. Conditions hold as in the search: a conditional
    parameter is tried where its condition is met, and has the network's default elsewhere.

    Args:
        space: the search space.
        most: how many at most; parameters with many choices are then tried at some of them, both ends included.
    """
    reference = space.reference_params()
    largest, smallest = _at_ends(space, max), _at_ends(space, min)
    extremes = [*({**largest, "family": family} for family in space.families), smallest]
    # Where the largest values do not meet a condition, what they leave out is tried with it.
    extremes += [{**largest, **space.conditions(name)} for name in space.parameters if space.parameters[name].when]
    configs: list[Params] = []
    longest = max((len(parameter.corners()) for parameter in space.parameters.values()), default=0)
    for kept in range(longest, 1, -1):
        singles = [
            {**space.conditions(name), name: value}
            for name, parameter in space.parameters.items()
            for value in _spread(parameter.corners(), kept)
        ]
        configs = _unique([reference, *(complete_corner(space, chosen) for chosen in [*extremes, {}, *singles])])
        if len(configs) <= most:
            break
    return (configs or _unique([reference, complete_corner(space, {})]))[:most]


def complete_corner(space: Space, chosen: Params) -> Params:
    """The space's configuration with the chosen values where their conditions allow them, and else the reference's.

    Where the space does not hold the reference's value of a parameter, it is the first that it does hold.
    """
    values: Params = {}
    for name in ordered_names(space):
        parameter = space.parameters[name]
        if all(values.get(other) == value for other, value in parameter.when.items()):
            values[name] = chosen[name] if name in chosen else _usual(space, name, parameter)
    return space.complete(values)


def _usual(space: Space, name: str, parameter: Parameter) -> Value:
    """The reference's value of a parameter where the space holds it, else the first that it does."""
    value: Value | None = space.reference_params().get(name)
    return value if value is not None and parameter.holds(value) else parameter.corners()[0]


def _at_ends(space: Space, end: Callable[..., Any]) -> Params:
    """Every parameter whose values are numbers at its largest or smallest."""
    return {
        name: end(parameter.corners())
        for name, parameter in space.parameters.items()
        if not any(isinstance(value, str) for value in parameter.corners())
    }


def _spread(values: Sequence[Value], most: int) -> list[Value]:
    """At most `most` of the values, evenly spread, first and last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(number * (len(values) - 1) / (most - 1))] for number in range(most)]


def _unique(configs: Sequence[Params]) -> list[Params]:
    return list({configuration_key(params): params for params in configs}.values())


def difference(params: Params, reference: Params) -> str:
    """What a configuration has otherwise than the reference, such as "filters 32, batch_size 64"."""
    changes = [f"{name} {value}" for name, value in params.items() if value != reference.get(name)]
    return ", ".join(changes) or "of the reference"


def corner_error(params: Params, reference: Params, reason: str) -> UserError:
    """The error for a corner that cannot be trained; `reason` in one line."""
    names = [name for name, value in params.items() if value != reference.get(name)]
    advice = f"narrow {' or '.join(names)} in the space file" if names else "look at the reason, then run again"
    return UserError(f"the space's corner {difference(params, reference)} cannot be trained: {reason}: {advice}")


def parameter_counts(configs: Sequence[Params]) -> list[int]:
    """Number of trainable parameters of every configuration's network; none of them takes memory.

    Raises:
        UserError: no network can be built from a configuration.
    """
    import torch

    counts = []
    for params in configs:
        try:
            with torch.device("meta"):
                counts.append(count_parameters(make_network(make_config(params))))
        except Exception as error:
            raise corner_error(params, configs[0], reason_of(error)) from error
    return counts
