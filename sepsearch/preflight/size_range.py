"""Sizes of a space's networks: their range at its corners, and whether any is small enough for its constraints."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from sepsearch.models.size import known_parameters
from sepsearch.preflight.corner_configurations import corner_configs
from sepsearch.search.protocol import Params
from sepsearch.spaces.configurations import ordered_names
from sepsearch.spaces.constraints import rate
from sepsearch.spaces.parameter import Parameter
from sepsearch.spaces.space import Space
from sepsearch.utils.errors import UserError

DRAWS = 200  # of a space none of whose corners is small enough


def require_small_enough(space: Space) -> None:
    """See that a space holds a configuration with as few parameters as its constraints ask.

    The corners of the space are looked at and, if none is small enough, as many as DRAWS random configurations: where
    none is found either, a search would find none in reasonable time. The reference network, which is trained whether
    it keeps the constraint or not, does not count.

    Raises:
        UserError: none was found.
    """
    most = space.constraints.parameters
    if most is None:
        return
    corners = corner_configs(space)
    reference, others = corners[0], corners[1:]
    smallest: int | None = None
    for params in (*others, *_draws(space)):
        found = known_parameters(params)
        if found is not None and found <= most and params != reference:
            return
        smallest = min(filter(None, (smallest, found)), default=None)
    raise UserError(
        f"constraints: parameters: at most {most:,.0f} asked, but no configuration of the space was found that has so"
        f" few, at its {len(others)} corners and in {DRAWS} random ones; the smallest has {smallest or 0:,}: raise the"
        " limit, or widen the space"
    )


def _draws(space: Space) -> Iterator[Params]:
    """Random configurations of a space, always the same."""
    generator = random.Random(0)
    for _ in range(DRAWS):
        values: Params = {}
        for name in ordered_names(space):
            parameter = space.parameters[name]
            if all(values.get(other) == value for other, value in parameter.when.items()):
                values[name] = _draw(parameter, generator)
        yield space.complete(values)


def _draw(parameter: Parameter, generator: random.Random) -> Any:
    values = parameter.steps if parameter.choices is None else parameter.choices
    return generator.choice(values) if values else generator.uniform(*map(float, parameter.ends))


def small_corners(space: Space, corners: Sequence[Params], sizes: Sequence[int]) -> tuple[list[Params], list[str]]:
    """The corners that a search can train, the reference first, and lines for the user on the sizes of all.

    Args:
        space: with its constraints.
        corners: of the space, the reference first.
        sizes: number of parameters of each.
    """
    limits, own = space.constraints, list(zip(corners[1:], sizes[1:], strict=True)) or [(corners[0], sizes[0])]
    low, high = min(size for _, size in own), max(size for _, size in own)
    spread = f"from {low:,} to {high:,} parameters" if low < high else f"{low:,} parameters"
    line = f"networks at the corners of the space have {spread}; the reference network {sizes[0]:,}"
    larger = [params for params, size in zip(corners, sizes, strict=True) if limits.violation(size, None)]
    if limits.parameters is not None:
        asked = f"at most {limits.parameters:,.0f} asked"
        line += f"; {asked}: {len(larger) - (corners[0] in larger)} of {len(own)} corners are larger"
        line += ", and so is the reference, which is trained for comparison" if corners[0] in larger else ""
    notes = [line]
    if limits.examples_per_second is not None:
        notes.append(
            f"trials that train on fewer than {rate(limits.examples_per_second)} examples/s in each of their first"
            " epochs end as infeasible"
        )
    return [corners[0], *(params for params in corners[1:] if params not in larger)], notes
