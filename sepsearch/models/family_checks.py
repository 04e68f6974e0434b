"""Checks of a family from outside the package when it is loaded: its parts, its parameters, its networks' weights."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import pydantic.dataclasses
import torch
from torch import nn

from sepsearch.models.training_config import TrainingConfig
from sepsearch.utils.errors import UserError, reason_of
from sepsearch.utils.validation import STRICT, validated

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")  # of a family: it is in file names, tags and tables
OUTPUTS = 2  # of the network that one with a single output is compared with


@functools.lru_cache(maxsize=64)
def strict_config(config: type) -> type[Any]:
    """A configuration class that checks the values it is made of: of a plain dataclass a subclass by pydantic."""
    _mark_missing(config)
    if hasattr(config, "__pydantic_fields__"):
        return config
    return pydantic.dataclasses.dataclass(config, frozen=True, config=STRICT)


def _mark_missing(config: Any) -> None:
    """Give a class that was sent to this process from a notebook dataclasses' own mark of what is not given.

    It is sent by value, and with it a copy of that mark, which dataclasses and pydantic compare by identity.
    """
    for parameter in config.__dataclass_fields__.values():
        for part in ("default", "default_factory"):
            if isinstance(getattr(parameter, part), type(dataclasses.MISSING)):
                setattr(parameter, part, dataclasses.MISSING)


def check_family_object(family: Any, name: str, where: str) -> None:
    """Raise `UserError` unless an object is a family of that name whose configuration space files can set.

    Args:
        family: what an entry point or a user has given.
        name: that it must have.
        where: begins the messages.
    """
    missing = [part for part in ("config", "network", "output_axes") if not hasattr(family, part)]
    if missing:
        found = family.__name__ if isinstance(family, type) else type(family).__name__
        raise UserError(
            f"{where}: expected sepsearch.models.families.Family(config, network, output_axes), found {found}"
        )
    config: Any = family.config
    if not (isinstance(config, type) and dataclasses.is_dataclass(config) and _is_frozen(config)):
        raise UserError(f"{where}: config is {_said(config)}, expected a class with @dataclass(frozen=True)")
    called = getattr(config, "family", None)
    if not isinstance(called, str) or not NAME.fullmatch(called):
        raise UserError(
            f"{where}: {config.__name__}.family is {called!r}, expected a name of letters, digits, _ . and -:"
            ' add family: ClassVar[str] = "mine"'
        )
    if called != name:
        raise UserError(f"{where}: {config.__name__}.family is {called!r}, expected {name!r}: give both one name")
    if not isinstance(getattr(config, "fixed_size", None), bool):
        raise UserError(f"{where}: {config.__name__} has no fixed_size: add fixed_size: ClassVar[bool] = True")
    if not callable(family.network):
        raise UserError(f"{where}: network is {_said(family.network)}, expected a class or function (config, outputs)")
    axes = family.output_axes
    if not isinstance(axes, Mapping) or not all(
        isinstance(name, str) and isinstance(axis, int) and axis >= 0 for name, axis in axes.items()
    ):
        raise UserError(f'{where}: output_axes is {_said(axes)}, expected weights and axes: {{"head.weight": 0}}')
    _check_parameters(config, where)


def _check_parameters(config: Any, where: str) -> None:
    """Every parameter has a plain default, a name of its own, and a type that its default is of."""
    taken = {"family"} | {parameter.name for parameter in dataclasses.fields(TrainingConfig)}
    defaults = {}
    for parameter in dataclasses.fields(config):
        if parameter.name in taken:
            raise UserError(f"{where}: parameter {parameter.name}: all families have one: choose another name")
        if not isinstance(parameter.default, bool | int | float | str):
            found = "none" if parameter.default is dataclasses.MISSING else repr(parameter.default)
            raise UserError(
                f"{where}: parameter {parameter.name}: default is {found}, expected a number, text, True or False"
            )
        defaults[parameter.name] = parameter.default
    try:
        strict = strict_config(config)
    except Exception as error:  # an annotation that pydantic cannot read
        raise UserError(f"{where}: {config.__name__}: annotations cannot be read: {reason_of(error)}") from error
    validated(strict, defaults, where)


def check_networks(family: Any, config: Any, where: str) -> None:
    """Raise `UserError` unless networks with one and several outputs can be built and differ as `output_axes` says.

    They are built on torch's meta device, as when a model is loaded: that takes neither memory nor time.

    Args:
        family: the family.
        config: its networks' configuration.
        where: begins the messages.
    """
    try:
        with torch.device("meta"):
            single, several = family.network(config, 1), family.network(config, OUTPUTS)
    except Exception as error:
        raise UserError(
            f"{where}: its network cannot be built with the default configuration: {reason_of(error)}:"
            " expected network(config, outputs), such as a class with __init__(self, config, outputs=1)"
        ) from error
    if not isinstance(single, nn.Module):
        raise UserError(f"{where}: network gives {_said(single)}, expected a torch.nn.Module")
    shapes = {name: tuple(tensor.shape) for name, tensor in single.state_dict().items()}
    for name, tensor in several.state_dict().items():
        found, axis = tuple(tensor.shape), family.output_axes.get(name)
        expected = shapes.pop(name, None)
        of_one = found if axis is None or axis >= len(found) else (*found[:axis], 1, *found[axis + 1 :])
        if expected != of_one or (axis is not None and found[axis : axis + 1] != (OUTPUTS,)):
            raise UserError(
                f"{where}: {name} is {found} with {OUTPUTS} outputs and {expected} with one, which does not fit"
                f" output_axes ({axis}): name there every weight with a part per output, and its axis"
            )
    if missing := sorted({*shapes, *family.output_axes} - set(several.state_dict())):
        raise UserError(
            f"{where}: {missing[0]} is no weight of the network with {OUTPUTS} outputs: correct output_axes"
        )


def _is_frozen(config: Any) -> bool:
    return bool(config.__dataclass_params__.frozen)


def _said(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else f"{value!r}"[:60]
