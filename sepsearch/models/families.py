"""The networks: spectrogram of a mixture in, spectrogram of one instrument out.

A family of networks is one configuration and one module, listed in `FAMILIES`.
Tensors are (batch, channel, time, frequency).
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from sepsearch.audio.spectrogram import BINS, FRAMES
from sepsearch.utils.errors import UserError
from sepsearch.utils.validation import STRICT, validated

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU}


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("expected an odd number")
    return kernel


OddKernel = Annotated[int, Field(ge=1, le=31), AfterValidator(_odd)]


@dataclass(frozen=True, config=STRICT)
class ReferenceConfig:
    """One point of the search space around the reference network; the defaults are its final architecture.

    `detector_layers` = 1 is the reference's single linear layer; 2 puts a hidden layer of `detector_width` units
    before it.
    `head`: "relu" regenerates the spectrogram, "mask" multiplies the input with a sigmoid.
    Raises pydantic's `ValidationError` for values that no network can be built from.
    """

    family: ClassVar[str] = "report"

    filters: Annotated[int, Field(ge=1, le=1024)] = 16
    preparer_kernel_1: OddKernel = 5
    preparer_kernel_2: OddKernel = 3
    activation: Literal["relu", "elu", "gelu", "silu"] = "elu"
    detector_kernel_time: Annotated[int, Field(ge=1, le=FRAMES // 2)] = 2
    detector_kernel_frequency: Annotated[int, Field(ge=1, le=BINS // 2)] = 16
    detector_layers: Annotated[int, Field(ge=1, le=2)] = 1
    detector_width: Annotated[int, Field(ge=1, le=65536)] = 128
    regenerator_kernel: Annotated[int, Field(ge=2, le=31)] = 3
    head: Literal["relu", "mask"] = "relu"
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 1e-3
    l2: Annotated[float, Field(ge=0, le=10)] = 0.0
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32


REFERENCE_FINAL = ReferenceConfig()
REPORT_INITIAL = ReferenceConfig(filters=8, activation="relu")


class ReferenceNetwork(nn.Module):
    """Preparer × Detector → Re-Generator, as in the reference (its final architecture with the default configuration).

    Input and output are (batch, 1, time 128, frequency 128), amplitudes at or above 0.
    """

    def __init__(self, config: ReferenceConfig):
        super().__init__()
        activation = ACTIVATIONS[config.activation]
        filters = config.filters
        self.preparer = nn.Sequential(
            nn.Conv2d(1, filters, config.preparer_kernel_1, stride=2, padding=config.preparer_kernel_1 // 2),
            activation(),
            nn.Conv2d(filters, filters, config.preparer_kernel_2, padding="same"),
            activation(),
        )
        kernel = (config.detector_kernel_time, config.detector_kernel_frequency)
        time = (FRAMES // 2 - kernel[0]) // 2 + 1
        frequency = (BINS // 2 - kernel[1]) // 2 + 1
        widths = [time * frequency, FRAMES // 2]
        if config.detector_layers == 2:
            widths.insert(1, config.detector_width)
        layers: list[nn.Module] = [nn.Conv2d(filters, 1, kernel, stride=2), nn.Flatten()]
        for width_in, width_out in itertools.pairwise(widths):
            layers += [nn.Linear(width_in, width_out), activation()]
        self.detector = nn.Sequential(*layers)
        # Odd kernels come out one row and column too large and are cropped, as in the reference; even ones fit.
        kernel_out = config.regenerator_kernel
        self.regenerator = nn.ConvTranspose2d(filters, 1, kernel_out, stride=2, padding=(kernel_out - 2) // 2)
        self.head = config.head

    def forward(self, mixture: Tensor) -> Tensor:
        """(batch, 1, time, frequency) → the same shape: the instrument's part of the mixture."""
        prepared = self.preparer(mixture)  # (batch, filters, time / 2, frequency / 2)
        timeline = self.detector(prepared)[:, None, :, None]  # (batch, 1, time / 2, 1)
        regenerated = self.regenerator(prepared * timeline)[..., :FRAMES, :BINS]
        if self.head == "mask":
            return torch.sigmoid(regenerated) * mixture
        return torch.relu(regenerated)


Config = ReferenceConfig  # becomes a union with the second family
FAMILIES: dict[str, tuple[type[Config], type[ReferenceNetwork]]] = {"report": (ReferenceConfig, ReferenceNetwork)}


def make_network(config: Config) -> nn.Module:
    """The untrained network of a configuration, initialised from torch's global random state."""
    return FAMILIES[config.family][1](config)


def config_class(family: str) -> type[Config]:
    """The configuration class of a family; raises `UserError` for an unknown one."""
    if family not in FAMILIES:
        raise UserError(f"family is {family!r}, expected one of {', '.join(FAMILIES)}")
    return FAMILIES[family][0]


def make_config(params: Mapping[str, Any]) -> Config:
    """A configuration from plain values, `family` among them (default "report").

    Raises `UserError` for an unknown key (the valid ones are listed), a wrong type, or a value out of range.
    """
    values = dict(params)
    return validated(config_class(values.pop("family", "report")), values, "configuration")


def config_params(config: Config) -> dict[str, Any]:
    """The configuration as plain values, `family` first; `make_config` reads it back."""
    return {"family": config.family, **dataclasses.asdict(config)}


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())
