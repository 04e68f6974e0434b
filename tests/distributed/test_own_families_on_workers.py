"""Families that were registered in the driver's process reach workers, which have nothing of their code."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from dataclasses import dataclass as plain
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import ray.cloudpickle
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as checked
from torch import nn

from sepsearch.distributed.trainable import Task
from sepsearch.models.families import Family, register_family, registered_families

@DECORATOR(frozen=True)
class Config:
    family: ClassVar[str] = "typed_in"
    fixed_size: ClassVar[bool] = True
    hidden: Annotated[int, Field(ge=1)] = 4
    kind: Literal["a", "b"] = "a"

class Network(nn.Module):
    def __init__(self, config, outputs):
        super().__init__()
        self.head = nn.Conv2d(1, outputs, config.hidden, padding="same")

    def forward(self, mixture):
        return torch.sigmoid(self.head(mixture)) * mixture

register_family(Family(Config, Network, {"head.weight": 0, "head.bias": 0}))
families = registered_families(["report", "typed_in"])
Path(sys.argv[1]).write_bytes(ray.cloudpickle.dumps(Task(None, ("vn",), 1, 8, 1, False, families=families)))
"""

WORKER = """
import sys
from pathlib import Path

import ray.cloudpickle

from sepsearch.models.families import make_config, make_network
from sepsearch.utils.errors import UserError

for _ in range(2):  # a worker gets the task once a job
    task = ray.cloudpickle.loads(Path(sys.argv[1]).read_bytes())
    task.register_families()
network = make_network(make_config({"family": "typed_in", "hidden": 5}), 2)
print(tuple(network.head.weight.shape))
try:
    make_config({"family": "typed_in", "hidden": 0})
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("decorator", ["plain", "checked"])
def test_a_family_typed_into_a_script_is_sent_to_a_worker_by_value(decorator, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.replace("DECORATOR", decorator))
    subprocess.run([sys.executable, "script.py", "task"], cwd=tmp_path, check=True)
    (tmp_path / "script.py").unlink()
    done = subprocess.run(
        [sys.executable, "-c", WORKER, "task"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    shape, error = done.stdout.splitlines()
    assert shape == "(2, 1, 5, 5)"
    assert error.startswith("configuration: hidden: ")
