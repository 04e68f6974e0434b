"""The networks: spectrogram of a mixture in, spectrogram of one instrument, or of every one, out.

A family of networks is one configuration and one module, in a file of its own, listed in `FAMILIES`. Families from
outside the package are found by entry point (group `sepsearch.families`) or registered in this process by
`register_family`; docs/plug-ins.md says how to write one. Tensors are (batch, channel, time, frequency).
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from sepsearch.audio.spectrogram import FRAMES
from sepsearch.models.family_checks import check_family_object, strict_config
from sepsearch.models.reference import ReferenceConfig, ReferenceNetwork
from sepsearch.models.training_config import TrainingConfig
from sepsearch.models.unet import UNet, UNetConfig
from sepsearch.utils import plugins
from sepsearch.utils.errors import UserError
from sepsearch.utils.validation import validated


class NetworkConfig(Protocol):
    """Architecture of a network: a frozen dataclass of plain values, all with defaults.

    Types, `Literal` and `Annotated[int, Field(ge=1)]` are checked by pydantic, in a plain dataclass as well.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    family: ClassVar[str]
    fixed_size: ClassVar[bool]  # whether it takes rows of FRAMES frames alone


@dataclass(frozen=True)
class Family:
    """A family of networks.

    Attributes:
        config: class of its configurations.
        network: makes a network of a configuration and a number of outputs, from torch's global random state.
        output_axes: the weights that hold a part per output, with the axis of it; others are shared by all outputs.
    """

    config: type[NetworkConfig]
    network: Callable[[Any, int], nn.Module]
    output_axes: Mapping[str, int]

    @property
    def name(self) -> str:
        """That space files name it by."""
        return self.config.family


FAMILIES: dict[str, Family] = {
    "report": Family(ReferenceConfig, ReferenceNetwork, ReferenceNetwork.output_axes),
    "unet": Family(UNetConfig, UNet, UNet.output_axes),
}


@dataclass(frozen=True)
class Config:
    """One point of a search space: a network's architecture, and how it is trained.

    Raises `UserError` where the two do not fit.
    """

    network: NetworkConfig = field(default_factory=ReferenceConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if self.network.fixed_size and self.training.frames != FRAMES:
            raise UserError(f"frames is {self.training.frames}, expected {FRAMES} for family {self.family}")
        if self.training.frames != FRAMES and self.training.offsets == "clip":
            raise UserError(f"frames is {self.training.frames}, expected {FRAMES} with offsets: clip")

    @property
    def family(self) -> str:
        """Name of the network's family."""
        return self.network.family


def register_family(added: Family) -> None:
    """Make a family known to this process, such as one of a notebook; one of the same name is replaced.

    Workers of a search that is started in this process get it, too. Models of it can be loaded only where it is
    registered; an installed distribution with an entry point has no such limit.

    Raises:
        UserError: it is no valid family, or a built-in or an installed distribution has its name.
    """
    name = getattr(getattr(added, "config", None), "family", "")
    check_family_object(added, name, f"family {name}")
    if name in FAMILIES:
        raise UserError(f"family {name}: built into sepsearch: choose another name")
    plugins.register_plugin(plugins.FAMILIES, name, added, (added.config, added.network))


def registered_families(names: Iterable[str]) -> tuple[Family, ...]:
    """Those of the named families that were registered in this process, which workers must be given."""
    found = [plugins.find_plugin(plugins.FAMILIES, name) for name in names if name not in FAMILIES]
    return tuple(plugins.load_plugin(plugin) for plugin in found if plugin and not plugin.distribution)


def family_plugin(name: object) -> plugins.Plugin | None:
    """Where a family from outside the package is from; None for a built-in and for one that is not there."""
    return None if isinstance(name, str) and name in FAMILIES else plugins.find_plugin(plugins.FAMILIES, name)


def family(name: str) -> Family:
    """A family by name: built-in, registered in this process, or of an installed distribution.

    Raises:
        UserError: there is none of that name, or the distribution's cannot be loaded or is no valid family.
    """
    if isinstance(name, str) and name in FAMILIES:
        return FAMILIES[name]
    plugin = plugins.find_plugin(plugins.FAMILIES, name)
    if plugin is None:
        raise plugins.unknown_name(plugins.FAMILIES, name, FAMILIES)
    found = plugins.load_plugin(plugin)
    check_family_object(found, name, str(plugin))
    # Registered models import a copy of this package by another name, where a plug-in's is of the package itself.
    return Family(found.config, found.network, found.output_axes)


def make_network(config: Config, outputs: int = 1) -> nn.Module:
    """The untrained network of a configuration, initialised from torch's global random state."""
    return family(config.family).network(config.network, outputs)


def output_weights(config: Config, weights: Mapping[str, Tensor], output: int) -> dict[str, Tensor]:
    """Copies of the weights of the network with that one output alone, from those of a network with several."""
    axes = family(config.family).output_axes
    return {
        name: (tensor.narrow(axes[name], output, 1) if name in axes else tensor).detach().clone().contiguous()
        for name, tensor in weights.items()
    }


def config_class(name: str) -> type[NetworkConfig]:
    """The configuration class of a family, which checks values strictly; raises `UserError` for an unknown family."""
    return strict_config(family(name).config)


def parameter_names(family_name: str) -> list[str]:
    """Names of all parameters of a family's configurations, those of training included."""
    classes: tuple[Any, ...] = (config_class(family_name), TrainingConfig)
    return [parameter.name for cls in classes for parameter in dataclasses.fields(cls)]


def is_parameter(family_name: str, name: str) -> bool:
    """Whether a family's configurations have a parameter, in its present or a former spelling."""
    return name in parameter_names(family_name) or (family_name == "report" and name == "detector_layers")


def make_config(params: Mapping[str, Any]) -> Config:
    """A configuration from plain values, `family` among them (default "report").

    Raises `UserError` for an unknown key (the valid ones are listed), a wrong type, or a value out of range.
    """
    values = _present_spelling(dict(params))
    chosen = values.pop("family", "report")
    names = parameter_names(chosen)
    if unknown := [key for key in values if key not in names]:
        close = difflib.get_close_matches(str(unknown[0]), names, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(f"configuration: {unknown[0]}: unknown key{hint}, expected one of {', '.join(names)}")
    training = {f.name: values.pop(f.name) for f in dataclasses.fields(TrainingConfig) if f.name in values}
    return Config(
        validated(config_class(chosen), values, "configuration"), validated(TrainingConfig, training, "configuration")
    )


def _present_spelling(values: dict[str, Any]) -> dict[str, Any]:
    """Values as they are spelt now. Before detector_width could be 0, detector_layers said whether there is a layer."""
    layers = values.pop("detector_layers", None) if values.get("family", "report") == "report" else None
    if layers is not None:
        if layers not in (1, 2) or isinstance(layers, bool):
            raise UserError(f"configuration: detector_layers: expected 1 or 2, found {layers!r}")
        values["detector_width"] = 0 if layers == 1 else values.get("detector_width") or 128
    return values


def config_params(config: Config) -> dict[str, Any]:
    """The configuration as plain values, `family` first; `make_config` reads it back."""
    network: Any = config.network
    return {"family": config.family, **dataclasses.asdict(network), **dataclasses.asdict(config.training)}


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())
