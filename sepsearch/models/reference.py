"""Family "report": the reference network, Preparer × Detector → Re-Generator, and the space around it."""

import itertools
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from sepsearch.audio.spectrogram import BINS, FRAMES
from sepsearch.models.layers import ACTIVATIONS, Activation, OddKernel, Width
from sepsearch.utils.validation import STRICT


@dataclass(frozen=True, config=STRICT)
class ReferenceConfig:
    """Architecture of the reference network; the defaults are its final one.

    `detector_width`: units of a hidden layer of the detector; 0 is the reference's single linear layer.
    `head`: "relu" regenerates the spectrogram, "mask" multiplies the input with a sigmoid.
    Raises pydantic's `ValidationError` for values that no network can be built from.
    """

    family: ClassVar[str] = "report"
    fixed_size: ClassVar[bool] = True  # its linear layers fit rows of FRAMES frames alone

    filters: Annotated[int, Field(ge=1, le=1024)] = 16
    preparer_kernel_1: OddKernel = 5
    preparer_kernel_2: OddKernel = 3
    activation: Activation = "elu"
    detector_kernel_time: Annotated[int, Field(ge=1, le=FRAMES // 2)] = 2
    detector_kernel_frequency: Annotated[int, Field(ge=1, le=BINS // 2)] = 16
    detector_width: Width = 0
    regenerator_kernel: Annotated[int, Field(ge=2, le=31)] = 3
    head: Literal["relu", "mask"] = "relu"


REFERENCE_FINAL = ReferenceConfig()
REPORT_INITIAL = ReferenceConfig(filters=8, activation="relu")


class ReferenceNetwork(nn.Module):
    """Preparer × Detector → Re-Generator, as in the reference (its final architecture with the default configuration).

    Input is (batch, 1, time 128, frequency 128), amplitudes at or above 0; output the same with a channel per output.
    All outputs share preparer and detector.
    """

    output_axes: ClassVar[dict[str, int]] = {"regenerator.weight": 1, "regenerator.bias": 0}

    def __init__(self, config: ReferenceConfig, outputs: int = 1):
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
        widths = [time * frequency, *([config.detector_width] if config.detector_width else []), FRAMES // 2]
        layers: list[nn.Module] = [nn.Conv2d(filters, 1, kernel, stride=2), nn.Flatten()]
        for width_in, width_out in itertools.pairwise(widths):
            layers += [nn.Linear(width_in, width_out), activation()]
        self.detector = nn.Sequential(*layers)
        # Odd kernels come out one row and column too large and are cropped, as in the reference; even ones fit.
        kernel_out = config.regenerator_kernel
        self.regenerator = nn.ConvTranspose2d(filters, outputs, kernel_out, stride=2, padding=(kernel_out - 2) // 2)
        self.head = config.head

    def forward(self, mixture: Tensor) -> Tensor:
        """(batch, 1, time, frequency) → (batch, output, time, frequency): the instruments' parts of the mixture."""
        prepared = self.preparer(mixture)  # (batch, filters, time / 2, frequency / 2)
        timeline = self.detector(prepared)[:, None, :, None]  # (batch, 1, time / 2, 1)
        regenerated = self.regenerator(prepared * timeline)[..., :FRAMES, :BINS]
        if self.head == "mask":
            return torch.sigmoid(regenerated) * mixture
        return torch.relu(regenerated)
