"""Family "unet": a small residual U-Net that puts out a mask of the mixture per instrument.

Encoder, decoder and skip connections as in U-Net (Ronneberger et al. 2015; for voices Jansson et al. 2017), residual
blocks with normalisation first (He et al. 2016), GroupNorm (Wu and He 2018), a frequency coordinate as an input
channel (CoordConv, Liu et al. 2018), and harmonics as shifted copies on a logarithmic axis (Bittner et al. 2017).
"""

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from sepsearch.models.layers import ACTIVATIONS, Activation, OddKernel, Width
from sepsearch.utils.validation import STRICT

HARMONICS = (0.5, 2, 3, 4, 5, 6, 8)  # beside the row itself
GROUPS = 8  # of GroupNorm, at most
FIRST_BIAS = -1.0  # of the masks: they begin at sigmoid(-1) = 0.27, about the share of one voice in four


@dataclass(frozen=True, config=STRICT)
class UNetConfig:
    """Architecture of the U-Net.

    `channels` at half the resolution, twice and three times as many below it; `kernel_time` and `kernel_frequency` of
    the residual blocks; `detector_width`: hidden units of a gate per frame at the bottleneck, 0 for none.
    `harmonic_bins`: bands of an octave of a logarithmic front end, for copies of the input shifted by harmonics'
    distances; 0 for none.
    """

    family: ClassVar[str] = "unet"
    fixed_size: ClassVar[bool] = False

    channels: Annotated[int, Field(ge=1, le=256)] = 16
    first_kernel: OddKernel = 5
    kernel_time: OddKernel = 3
    kernel_frequency: OddKernel = 3
    bottom_blocks: Annotated[int, Field(ge=0, le=16)] = 2
    activation: Activation = "silu"
    detector_width: Width = 0
    harmonic_bins: Annotated[int, Field(ge=0, le=64)] = 0


class UNet(nn.Module):
    """U-Net over time and frequency with a sigmoid mask of the mixture per output.

    Input is (batch, 1, time, frequency), amplitudes at or above 0, both axes multiples of 8; output the same with a
    channel per output.
    """

    output_axes: ClassVar[dict[str, int]] = {"head.2.weight": 1, "head.2.bias": 0}

    def __init__(self, config: UNetConfig, outputs: int = 1):
        super().__init__()
        first, second, third = config.channels, 2 * config.channels, 3 * config.channels
        self.shifts = [round(config.harmonic_bins * math.log2(h)) for h in HARMONICS if config.harmonic_bins]
        kernel = config.first_kernel
        self.encoder_1 = nn.Sequential(
            nn.Conv2d(2 + len(self.shifts), first, kernel, stride=2, padding=kernel // 2), _Block(first, config)
        )
        self.encoder_2 = nn.Sequential(nn.Conv2d(first, second, 4, stride=2, padding=1), _Block(second, config))
        self.encoder_3 = nn.Sequential(
            nn.Conv2d(second, third, 4, stride=2, padding=1),
            *(_Block(third, config) for _ in range(config.bottom_blocks)),
        )
        self.gate = _FrameGate(third, config) if config.detector_width else None
        self.up_2, self.decoder_2 = nn.Conv2d(third, second, 1), _Block(second, config)
        self.up_1, self.decoder_1 = nn.Conv2d(second, first, 1), _Block(first, config)
        self.head = nn.Sequential(
            _norm(first), ACTIVATIONS[config.activation](), nn.ConvTranspose2d(first, outputs, 4, stride=2, padding=1)
        )
        bias = self.head[2].bias
        assert isinstance(bias, Tensor)
        nn.init.constant_(bias, FIRST_BIAS)

    def forward(self, mixture: Tensor) -> Tensor:
        """(batch, 1, time, frequency) → (batch, output, time, frequency): the instruments' parts of the mixture."""
        coordinate = torch.linspace(-1, 1, mixture.shape[-1], device=mixture.device, dtype=mixture.dtype)
        copies = [_shifted(mixture, shift) for shift in self.shifts]
        half = self.encoder_1(torch.cat([mixture, *copies, coordinate.expand_as(mixture)], 1))
        quarter = self.encoder_2(half)
        eighth = self.encoder_3(quarter)
        if self.gate is not None:
            eighth = eighth * self.gate(eighth)
        quarter = self.decoder_2(quarter + interpolate(self.up_2(eighth), scale_factor=2.0))
        half = self.decoder_1(half + interpolate(self.up_1(quarter), scale_factor=2.0))
        return torch.sigmoid(self.head(half)) * mixture


class _Block(nn.Module):
    """Residual block: (GroupNorm, activation, convolution) twice, added to its input."""

    def __init__(self, channels: int, config: UNetConfig):
        super().__init__()
        kernel = (config.kernel_time, config.kernel_frequency)
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [_norm(channels), ACTIVATIONS[config.activation]()]
            layers += [nn.Conv2d(channels, channels, kernel, padding=(kernel[0] // 2, kernel[1] // 2))]
        self.layers = nn.Sequential(*layers)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, channel, time, frequency) → the same shape."""
        return hidden + self.layers(hidden)


class _FrameGate(nn.Module):
    """Detector: a gate from 0 to 1 per frame and channel, from the frame's mean over frequency."""

    def __init__(self, channels: int, config: UNetConfig):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(channels, config.detector_width, 1),
            ACTIVATIONS[config.activation](),
            nn.Conv1d(config.detector_width, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, channel, time, frequency) → (batch, channel, time, 1)."""
        gates: Tensor = self.layers(hidden.mean(-1))
        return gates[..., None]


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(channels, GROUPS), channels)


def _shifted(rows: Tensor, bins: int) -> Tensor:
    """Band b of the result is band b + bins of the rows, 0 beyond their ends."""
    return pad(rows[..., bins:], (0, bins)) if bins >= 0 else pad(rows[..., :bins], (-bins, 0))
