"""Weights of a finalist and seed, read from the run's folder and checked."""

import hashlib

import safetensors
import safetensors.torch
import torch

from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import check_weights
from sepsearch.search.selection import SeedRun
from sepsearch.utils.errors import UserError, one_line


def read_weights(run: SeedRun, member: str, advice: str) -> dict[str, torch.Tensor]:
    """The weights of one network of a finished run, checked against the journal's checksum and the configuration.

    Args:
        run: with its weights' folder.
        member: an instrument's code, or the id of a run that leaves a title out.
        advice: what to do where they cannot be used.

    Raises:
        UserError: they are missing or damaged.
    """
    assert run.weights is not None
    path = run.weights / f"{member}.safetensors"
    try:
        data = path.read_bytes()
        expected = (run.sha256 or {}).get(path.name)
        if expected and (found := hashlib.sha256(data).hexdigest()) != expected:
            raise ValueError(f"checksum {found[:12]}…, expected {expected[:12]}…")
        weights = safetensors.torch.load(data)
    except FileNotFoundError as error:
        raise UserError(f"{path}: the weights are missing: {advice}") from error
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{path}: the weights are damaged ({one_line(error)}): {advice}") from error
    with torch.device("meta"):
        blank = make_network(make_config(run.finalist.params)).state_dict()
    check_weights(path, weights, blank, f"the configuration of {run.finalist.id}")
    return weights
