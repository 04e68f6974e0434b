"""A unit's checkpoint: one file that holds all it needs to go on after its last epoch, on any worker.

The file is in safetensors' format, followed by four bytes of CRC-32 of all before them. Nothing in it is code.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sepsearch.files import write_atomically
from sepsearch.training import BankState, Member, MemberState

Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A bank after an epoch, and what the epoch's report to the search was.

    `best` is member → (validation loss, weights) of its best epoch so far; empty where nobody wants the weights.
    """

    state: BankState
    report: Mapping[str, Any]
    best: Mapping[Member, tuple[float, Weights]]


def save_checkpoint(path: Path, unit: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Replace a unit's checkpoint; `unit` (plain values) says what was trained, and must be given to load it.

    Raises:
        UserError: it cannot be written; the old one is still there.
    """
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    members = []
    for number, (member, state) in enumerate(checkpoint.state.members.items()):
        tensors |= {f"{number}/state/{name}": tensor.detach().cpu() for name, tensor in state.tensors.items()}
        entry = {"instrument": member.instrument, "seed": member.seed, "values": state.values}
        if member in checkpoint.best:
            entry["best"], weights = checkpoint.best[member]
            tensors |= {f"{number}/best/{name}": tensor.cpu() for name, tensor in weights.items()}
        members.append(entry)
    content = {"unit": unit, "epoch": checkpoint.state.epoch, "report": checkpoint.report, "members": members}
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"content": json.dumps(content)})
    write_atomically(path, data + zlib.crc32(data).to_bytes(4, "little"))


def load_checkpoint(path: Path, unit: Mapping[str, Any]) -> Checkpoint | None:
    """A unit's checkpoint; None if there is none, if it is damaged, or if something else was trained there.

    Whoever gets None begins anew: that costs time, and gives no wrong number.
    """
    from safetensors.torch import load

    try:
        blob = path.read_bytes()
    except OSError:
        return None
    data, checksum = blob[:-4], blob[-4:]
    if len(data) < 8 or zlib.crc32(data).to_bytes(4, "little") != checksum:
        return None
    length = int.from_bytes(data[:8], "little")
    content = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["content"])
    if content["unit"] != json.loads(json.dumps(unit)):
        return None
    tensors: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in load(data).items():
        number, part, name = key.split("/", 2)
        tensors.setdefault(f"{number}/{part}", {})[name] = tensor
    states, best = {}, {}
    for place, entry in enumerate(content["members"]):
        member = Member(entry["instrument"], entry["seed"])
        states[member] = MemberState(tensors[f"{place}/state"], entry["values"])
        if "best" in entry:
            best[member] = entry["best"], tensors[f"{place}/best"]
    return Checkpoint(BankState(content["epoch"], states), content["report"], best)
