"""Checks of a space file beyond its schema: parameters exist, values build networks, conditions can hold."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sepsearch.models.families import FAMILIES, config_class, family, family_plugin, is_parameter, make_config
from sepsearch.models.family_checks import check_networks
from sepsearch.utils import plugins
from sepsearch.utils.errors import UserError

if TYPE_CHECKING:
    from sepsearch.spaces.space import Space

SAMPLERS = ("tpe", "random", "gp", "qmc")  # built in; others are plug-ins


def check_sampler(name: str) -> None:
    """Raise `UserError` unless a sampler is built in, registered or installed; it is not loaded."""
    if name in SAMPLERS:
        plugins.refuse_builtin_name(plugins.SAMPLERS, name)
    elif plugins.find_plugin(plugins.SAMPLERS, name) is None:
        raise UserError(f"search: {plugins.unknown_name(plugins.SAMPLERS, name, SAMPLERS)}")


def check_family(name: str) -> None:
    """Raise `UserError` unless a family is there and, where it is a plug-in, gives networks as it says."""
    config_class(name)
    if name in FAMILIES:
        plugins.refuse_builtin_name(plugins.FAMILIES, name)
    else:
        check_networks(family(name), make_config({"family": name}).network, str(family_plugin(name)))


def check_parameters(space: "Space") -> None:
    """Every parameter exists, every value it can take builds a network, every condition can hold."""
    for name in space.families:
        check_family(name)
    for name in space.fixed:
        if not any(is_parameter(chosen, name) for chosen in space.families):
            make_config({"family": space.families[0], name: space.fixed[name]})  # raises, with the valid names
    bases = {chosen: space.complete({"family": chosen}) for chosen in space.families}
    for base in bases.values():
        make_config(base)
    for name, parameter in space.parameters.items():
        if name in space.fixed:
            raise UserError(f"parameters: {name} is given twice, as a range and fixed")
        _check_conditions(space, name)
        conditions = space.conditions(name)
        families = [chosen for chosen in space.families if conditions.get("family", chosen) == chosen]
        _check_known(space, name, families)
        for chosen in families:
            for value in parameter.corners():
                if name != "family":
                    make_config({**bases[chosen], **conditions, name: value})
                check_harmonics(space, name, value)


def _check_conditions(space: "Space", name: str) -> None:
    """Raise `UserError` unless every condition of a parameter names another one and one of its choices."""
    for other, value in space.parameters[name].when.items():
        if other == name or other not in space.parameters:
            valid = ", ".join(key for key in space.parameters if key != name)
            raise UserError(f"parameters: {name}: when names {other!r}, expected one of {valid}")
        choices = space.parameters[other].choices
        if choices is None or not any(same_value(value, choice) for choice in choices):
            raise UserError(f"parameters: {name}: when {other} is {value!r}, expected one of its choices {choices}")


def _check_known(space: "Space", name: str, families: Sequence[str]) -> None:
    """Raise `UserError` unless all families that a parameter is sampled for have it."""
    if name == "family":
        return
    for chosen in families:
        if not is_parameter(chosen, name):
            others = [other for other in (*FAMILIES, *space.families) if is_parameter(other, name)]
            if not others or len(space.families) == 1:
                make_config({"family": chosen, name: space.parameters[name].corners()[0]})  # raises, with the names
            raise UserError(
                f"parameters: {name}: family {chosen} has no such parameter: add when: {{family: {others[0]}}}"
            )


def check_harmonics(space: "Space", name: str, value: object) -> None:
    """Raise `UserError` unless harmonics' distances in bands are those of the front end."""
    if name == "harmonic_bins" and value and value != (found := space.front_end.resolve().bands_per_octave):
        what = f"{found:g} bands an octave" if found else "no logarithmic axis"
        raise UserError(
            f"{name} is {value}, but the front end has {what}: expected front_end: {{preset: log15}} and 15"
        )


def same_value(one: object, other: object) -> bool:
    """Equal, and not one of them a truth value: True is no 1 here."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other
