"""Distributions with plug-ins for tests: a folder for `sys.path` as pip leaves it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from sepsearch.models.families import Family

FAMILY_SOURCE = """
from typing import ClassVar
from dataclasses import dataclass
import torch
from torch import nn
from sepsearch.models.families import Family

@dataclass(frozen=True)
class Config:
    family: ClassVar[str] = "NAME"
    fixed_size: ClassVar[bool] = False
    hidden: int = 4

class Network(nn.Module):
    def __init__(self, config, outputs):
        super().__init__()
        self.body, self.head = nn.Conv2d(1, config.hidden, 3, padding=1), nn.Conv2d(config.hidden, outputs, 1)

    def forward(self, mixture):
        return torch.sigmoid(self.head(self.body(mixture))) * mixture

FAMILY = Family(Config, Network, {"head.weight": 0, "head.bias": 0})
"""


def install(folder: Path, distribution: str, modules: Mapping[str, str], points: Mapping[str, str]) -> Path:
    """Put a distribution, version 1.0, into a folder, as `pip install --target` does; returns the folder.

    Args:
        folder: for `sys.path`.
        distribution: its name.
        modules: source by name.
        points: of entry points, "sepsearch.families: mine" → "module:OBJECT".
    """
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    information = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = []
    for point, value in points.items():
        group, name = point.split(": ")
        lines += [f"[{group}]", f"{name} = {value}"]
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def install_family(folder: Path, name: str, distribution: str = "some-networks") -> Path:
    """Put a distribution with a family of that name into a folder, in a module of that name with an _ before it."""
    source = FAMILY_SOURCE.replace("NAME", name)
    return install(folder, distribution, {f"_{name}": source}, {f"sepsearch.families: {name}": f"_{name}:FAMILY"})


@dataclass(frozen=True)
class SmallConfig:
    """Of `SmallNetwork`."""

    family: ClassVar[str] = "small"
    fixed_size: ClassVar[bool] = False

    hidden: Annotated[int, Field(ge=1, le=64)] = 2
    dropout: float = 0.0


class SmallNetwork(nn.Module):
    """A mask of two convolutions."""

    def __init__(self, config: SmallConfig, outputs: int = 1):
        super().__init__()
        self.body = nn.Conv2d(1, config.hidden, 3, padding=1)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Conv2d(config.hidden, outputs, 1)

    def forward(self, mixture: Tensor) -> Tensor:
        """(batch, 1, time, frequency) → (batch, output, time, frequency)."""
        return torch.sigmoid(self.head(self.dropout(self.body(mixture)))) * mixture


AXES = {"head.weight": 0, "head.bias": 0}
SMALL = Family(SmallConfig, SmallNetwork, AXES)
