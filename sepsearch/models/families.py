"""The networks: spectrogram of a mixture in, spectrogram of one instrument, or of every one, out.

A family of networks is one configuration and one module, in a file of its own, listed in `FAMILIES`.
Tensors are (batch, channel, time, frequency).
"""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from sepsearch.audio.spectrogram import FRAMES
from sepsearch.models.reference import ReferenceConfig, ReferenceNetwork
from sepsearch.models.training_config import TrainingConfig
from sepsearch.models.unet import UNet, UNetConfig
from sepsearch.utils.errors import UserError
from sepsearch.utils.validation import validated


class NetworkConfig(Protocol):
    """Architecture of a network: a frozen dataclass of plain values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    family: ClassVar[str]
    fixed_size: ClassVar[bool]  # whether it takes rows of FRAMES frames alone


@dataclass(frozen=True)
class Family:
    """A family of networks.

    Attributes:
        config: class of its configurations.
        network: makes a network of a configuration and a number of outputs, from torch's global random state.
        output_axes: the weights that hold a part per output, with the axis of it.
    """

    config: type[NetworkConfig]
    network: Callable[[Any, int], nn.Module]
    output_axes: Mapping[str, int]


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


def make_network(config: Config, outputs: int = 1) -> nn.Module:
    """The untrained network of a configuration, initialised from torch's global random state."""
    return FAMILIES[config.family].network(config.network, outputs)


def output_weights(config: Config, weights: Mapping[str, Tensor], output: int) -> dict[str, Tensor]:
    """Copies of the weights of the network with that one output alone, from those of a network with several."""
    axes = FAMILIES[config.family].output_axes
    return {
        name: (tensor.narrow(axes[name], output, 1) if name in axes else tensor).detach().clone().contiguous()
        for name, tensor in weights.items()
    }


def config_class(family: str) -> type[NetworkConfig]:
    """The configuration class of a family; raises `UserError` for an unknown one."""
    if family not in FAMILIES:
        raise UserError(f"family is {family!r}, expected one of {', '.join(FAMILIES)}")
    return FAMILIES[family].config


def parameter_names(family: str) -> list[str]:
    """Names of all parameters of a family's configurations, those of training included."""
    classes: tuple[Any, ...] = (config_class(family), TrainingConfig)
    return [parameter.name for cls in classes for parameter in dataclasses.fields(cls)]


def is_parameter(family: str, name: str) -> bool:
    """Whether a family's configurations have a parameter, in its present or a former spelling."""
    return name in parameter_names(family) or (family == "report" and name == "detector_layers")


def make_config(params: Mapping[str, Any]) -> Config:
    """A configuration from plain values, `family` among them (default "report").

    Raises `UserError` for an unknown key (the valid ones are listed), a wrong type, or a value out of range.
    """
    values = _present_spelling(dict(params))
    family = values.pop("family", "report")
    names = parameter_names(family)
    if unknown := [key for key in values if key not in names]:
        close = difflib.get_close_matches(str(unknown[0]), names, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(f"configuration: {unknown[0]}: unknown key{hint}, expected one of {', '.join(names)}")
    training = {f.name: values.pop(f.name) for f in dataclasses.fields(TrainingConfig) if f.name in values}
    return Config(
        validated(config_class(family), values, "configuration"), validated(TrainingConfig, training, "configuration")
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
