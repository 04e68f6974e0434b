"""A unit's checkpoint: one file that holds all it needs to go on after its last epoch, on any worker; and its weights.

The file is in safetensors' format, followed by four bytes of CRC-32 of all before them. Nothing in it is code.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sepsearch.models.families import Config, output_weights
from sepsearch.training.members import BankState, Member, NetworkState
from sepsearch.utils.errors import storage_fault
from sepsearch.utils.files import damage, new_folder
from sepsearch.utils.safe_paths import path_below
from sepsearch.utils.storage import StorageFolder

Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A bank after an epoch, and what the epoch's report to the search was.

    `best` is member → (validation loss, weights) of its best epoch so far; empty where weights are not kept.
    """

    state: BankState
    report: Mapping[str, Any]
    best: Mapping[Member, tuple[float, Weights]]


def save_checkpoint(storage: StorageFolder, name: str, unit: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Replace the checkpoint `name`; `unit` (plain values) says what was trained, and must be given to load it.

    Raises:
        StorageFault: it cannot be written; the old one is still there.
    """
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    networks, best = [], []
    for number, (network, state) in enumerate(checkpoint.state.networks.items()):
        tensors |= {f"{number}/state/{name}": tensor.detach().cpu() for name, tensor in state.tensors.items()}
        networks.append({"name": network, "values": state.values})
    for number, (member, (loss, weights)) in enumerate(checkpoint.best.items()):
        tensors |= {f"{number}/best/{name}": tensor.cpu() for name, tensor in weights.items()}
        best.append({"instrument": member.instrument, "seed": member.seed, "loss": loss})
    parts = {"networks": networks, "best": best}
    content = {"unit": unit, "epoch": checkpoint.state.epoch, "report": checkpoint.report, **parts}
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"content": json.dumps(content)})
    with storage_fault(len(data)):
        storage.write(name, data + zlib.crc32(data).to_bytes(4, "little"))


def load_checkpoint(storage: StorageFolder, name: str, unit: Mapping[str, Any]) -> Checkpoint | None:
    """The checkpoint `name` of a unit; None if there is none, if it is damaged, or if something else was trained there.

    Without one a unit begins anew: that costs time, and gives no wrong number.

    Raises:
        StorageFault: the storage does not answer.
    """
    from safetensors.torch import load

    with storage_fault():
        blob = storage.read(name) or b""
    data, checksum = blob[:-4], blob[-4:]
    if len(data) < 8 or zlib.crc32(data).to_bytes(4, "little") != checksum:
        return None
    length = int.from_bytes(data[:8], "little")
    content = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["content"])
    # Versions before networks could have several outputs kept members instead.
    if content["unit"] != json.loads(json.dumps(unit)) or "networks" not in content:
        return None
    tensors: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in load(data).items():
        number, part, name = key.split("/", 2)
        tensors.setdefault(f"{number}/{part}", {})[name] = tensor
    states = {
        entry["name"]: NetworkState(tensors[f"{number}/state"], entry["values"])
        for number, entry in enumerate(content["networks"])
    }
    best = {
        Member(entry["instrument"], entry["seed"]): (entry["loss"], tensors[f"{number}/best"])
        for number, entry in enumerate(content["best"])
    }
    return Checkpoint(BankState(content["epoch"], states), content["report"], best)


def checkpoint_weights(config: Config, checkpoint: Checkpoint) -> dict[str, dict[str, torch.Tensor]]:
    """Weights after the checkpoint's epoch, by instrument, each of a network with that output alone.

    They are the averaged ones where the configuration averages them. Of several seeds it is the last one's.
    """
    found = {}
    for state in checkpoint.state.networks.values():
        weights = state.part("average") or state.part("network")
        for output, code in enumerate(state.values["outputs"]):
            found[code] = output_weights(config, weights, output)
    return found


def save_weights(storage: StorageFolder, unit: str, weights: Mapping[str, Weights]) -> dict[str, str]:
    """Keep the weights of a unit's networks, by instrument; in a folder all of them appear at once, on the disk.

    Weights that are there already, of an earlier attempt, are replaced: they may be damaged.

    Returns:
        SHA-256 of every file, by its name.

    Raises:
        StorageFault: they cannot be written.
    """
    from safetensors.torch import save

    files = {f"{code}.safetensors": save(dict(tensors)) for code, tensors in weights.items()}
    with storage_fault(sum(map(len, files.values()))):
        if storage.local is None:
            for name, content in files.items():
                (storage / unit).write(name, content)
        else:
            with new_folder(storage.local / unit, replace=True) as folder:
                for name, content in files.items():
                    (folder / name).write_bytes(content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def bring_weights(storage: StorageFolder, unit: str, folder: Path, sha256: Mapping[str, str] | None = None) -> None:
    """Copy a unit's weights to `folder`/`unit` on this machine, where they are not there yet, or not as they should.

    Args:
        storage: of the weights of all units.
        unit: whose.
        folder: of this machine, for all units.
        sha256: checksums by file; None if they are not known.

    Raises:
        UserError: they cannot be brought, or the unit's id, or a name in the storage, leads out of the folder.
    """
    target = path_below(folder, unit, storage)
    if storage.local is not None or (target.is_dir() and not damage(target, sha256 or {})):
        return
    if (storage / unit).names():
        with new_folder(target, replace=True) as new:
            (storage / unit).fetch(new)
