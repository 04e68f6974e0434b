"""The networks: spectrogram of a mixture in, spectrogram of one instrument out.

A family of networks is one configuration and one module, listed in `FAMILIES`.
Tensors are (batch, channel, time, frequency).
"""

import dataclasses
import difflib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sepsearch.audio.spectrogram import BINS, FRAMES
from sepsearch.utils.errors import UserError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
HEADS = ("relu", "mask")


def _check(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise UserError(f"configuration: {name} is {value!r}, expected {expected}")


@dataclass(frozen=True)
class ReportConfig:
    """One point of the search space around the report's network; the defaults are its final architecture.

    `detector_layers` = 1 is the report's single linear layer; 2 puts a hidden layer of `detector_width` units
    before it.
    `head`: "relu" regenerates the spectrogram, "mask" multiplies the input with a sigmoid.
    """

    family: ClassVar[str] = "report"

    filters: int = 16
    preparer_kernel_1: int = 5
    preparer_kernel_2: int = 3
    activation: str = "elu"
    detector_kernel_time: int = 2
    detector_kernel_frequency: int = 16
    detector_layers: int = 1
    detector_width: int = 128
    regenerator_kernel: int = 3
    head: str = "relu"
    learning_rate: float = 1e-3
    l2: float = 0.0
    batch_size: int = 32

    def __post_init__(self) -> None:
        """Refuse values that no network can be built from; raises `UserError`."""
        half = (FRAMES // 2, BINS // 2)
        _check("filters", self.filters, 1 <= self.filters <= 1024, "1 to 1024")
        for name in ("preparer_kernel_1", "preparer_kernel_2"):
            size = getattr(self, name)
            _check(name, size, size % 2 == 1 and 1 <= size <= 31, "an odd number from 1 to 31")
        _check("activation", self.activation, self.activation in ACTIVATIONS, ", ".join(ACTIVATIONS))
        time, frequency = self.detector_kernel_time, self.detector_kernel_frequency
        _check("detector_kernel_time", time, 1 <= time <= half[0], f"1 to {half[0]}")
        _check("detector_kernel_frequency", frequency, 1 <= frequency <= half[1], f"1 to {half[1]}")
        _check("detector_layers", self.detector_layers, self.detector_layers in (1, 2), "1 or 2")
        _check("detector_width", self.detector_width, 1 <= self.detector_width <= 65536, "1 to 65536")
        _check("regenerator_kernel", self.regenerator_kernel, 2 <= self.regenerator_kernel <= 31, "2 to 31")
        _check("head", self.head, self.head in HEADS, ", ".join(HEADS))
        _check("learning_rate", self.learning_rate, 0 < self.learning_rate <= 10, "above 0, at most 10")
        _check("l2", self.l2, 0 <= self.l2 <= 10, "0 to 10")
        _check("batch_size", self.batch_size, 1 <= self.batch_size <= 65536, "1 to 65536")


REPORT_FINAL = ReportConfig()
REPORT_INITIAL = ReportConfig(filters=8, activation="relu")


class ReportNetwork(nn.Module):
    """Preparer × Detector → Re-Generator, as in the report (its final architecture with the default configuration).

    Input and output are (batch, 1, time 128, frequency 128), amplitudes at or above 0.
    """

    def __init__(self, config: ReportConfig):
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
        # Odd kernels come out one row and column too large and are cropped, as in the report; even ones fit.
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


Config = ReportConfig  # becomes a union with the second family
FAMILIES: dict[str, tuple[type[Config], type[ReportNetwork]]] = {"report": (ReportConfig, ReportNetwork)}


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
    cls = config_class(values.pop("family", "report"))
    fields = {field.name: field.type for field in dataclasses.fields(cls)}
    for key, value in values.items():
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise UserError(f"configuration: unknown key {key!r}{hint}, expected one of {', '.join(fields)}")
        wanted = fields[key]
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            values[key] = float(value)
        elif type(value) is not wanted:
            kind = getattr(wanted, "__name__", wanted)
            raise UserError(f"configuration: {key} is {value!r}, expected a value of type {kind}")
    return cls(**values)


def config_params(config: Config) -> dict[str, Any]:
    """The configuration as plain values, `family` first; `make_config` reads it back."""
    return {"family": config.family, **dataclasses.asdict(config)}


def count_parameters(network: nn.Module) -> int:
    """The number of trainable numbers in a network."""
    return sum(parameter.numel() for parameter in network.parameters())
