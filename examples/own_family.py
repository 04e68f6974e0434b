"""A network of one's own for a search: `family: band_mask` in a space file.

Searched as it is here, on the demo ensemble: python examples/own_family.py. As an installed plug-in: examples/plugin.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from sepsearch.models.families import Family, register_family


@dataclass(frozen=True)
class BandMaskConfig:
    """What a space file can set; every field has a default."""

    family: ClassVar[str] = "band_mask"
    fixed_size: ClassVar[bool] = False  # True for networks that take rows of 128 frames alone

    hidden: Annotated[int, Field(ge=1, le=512)] = 32
    context: Annotated[int, Field(ge=0, le=8)] = 2  # frames before and after
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class BandMask(nn.Module):
    """A sigmoid mask of every frame from the frames around it."""

    output_axes: ClassVar[dict[str, int]] = {"head.weight": 0, "head.bias": 0}

    def __init__(self, config: BandMaskConfig, outputs: int = 1):
        super().__init__()
        width = 2 * config.context + 1
        self.body = nn.Conv2d(1, config.hidden, (width, 9), padding=(config.context, 4))
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Conv2d(config.hidden, outputs, 1)

    def forward(self, mixture: Tensor) -> Tensor:
        """(batch, 1, time, frequency), at or above 0 → (batch, output, time, frequency)."""
        hidden = self.dropout(torch.relu(self.body(mixture)))
        return torch.sigmoid(self.head(hidden)) * mixture


FAMILY = Family(BandMaskConfig, BandMask, BandMask.output_axes)

if __name__ == "__main__":
    import sys
    from pathlib import Path

    from sepsearch.run import main
    from sepsearch.utils.errors import exit_on_user_error

    register_family(FAMILY)  # this process and its workers know it; other processes do not
    exit_on_user_error(lambda: main(sys.argv[1:] or ["--space", str(Path(__file__).with_suffix(".yaml"))]))
