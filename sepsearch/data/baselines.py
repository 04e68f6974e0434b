"""Baselines that need no training: identity, zero, the best constant gain, and the oracle mask."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sepsearch.data.dataset import Pairs, Rows, iterate_batches

BASELINES = ("identity", "zero", "gain", "oracle")


@torch.inference_mode()
def baseline_losses(rows: Rows, pairs: Pairs, gain: float) -> dict[str, float]:
    """Mean squared error of every baseline over examples, every piece counting alike.

    identity: the mixture itself (the reference's benchmark); zero: silence; gain: the mixture times a constant;
    oracle: the best mask in [0, 1] of the mixture, clip(target / mixture), which knows the target.
    """
    weights = torch.from_numpy(pairs.weights()).to(rows.device)
    losses = dict.fromkeys(BASELINES, 0.0)
    for mixture_rows, target_rows, weight in iterate_batches(pairs, weights):
        mixture, target = rows.take(mixture_rows), rows.take(target_rows)
        mask = torch.where(mixture > 0, target / mixture, 0.0).clamp(0, 1)
        estimates = {"identity": mixture, "zero": 0 * mixture, "gain": gain * mixture, "oracle": mask * mixture}
        for name, estimate in estimates.items():
            losses[name] += _weighted_error(estimate, target, weight)
    return losses


def _weighted_error(estimate: Tensor, target: Tensor, weight: Tensor) -> float:
    return float(((estimate - target).square().mean(dim=(1, 2, 3)).double() * weight).sum())


@torch.inference_mode()
def best_gain(rows: Rows, pairs: Pairs) -> float:
    """The g that minimises the error of g · mixture over examples: Σ⟨mixture, target⟩ / Σ⟨mixture, mixture⟩."""
    weights = torch.from_numpy(pairs.weights()).to(rows.device)
    cross = power = 0.0
    for mixture_rows, target_rows, weight in iterate_batches(pairs, weights):
        mixture, target = rows.take(mixture_rows), rows.take(target_rows)
        cross += float(((mixture * target).mean(dim=(1, 2, 3)).double() * weight).sum())
        power += float((mixture.square().mean(dim=(1, 2, 3)).double() * weight).sum())
    return cross / power if power > 0 else 0.0


def all_baselines(rows: Rows, examples: Mapping[str, Mapping[str, Pairs]]) -> dict[str, dict[str, dict[str, float]]]:
    """split → baseline → instrument → loss. The gain is fitted on the training split and used in all three."""
    gains = {code: best_gain(rows, splits["train"]) for code, splits in examples.items()}
    table: dict[str, dict[str, dict[str, float]]] = {}
    for code, splits in examples.items():
        for split, pairs in splits.items():
            for name, loss in baseline_losses(rows, pairs, gains[code]).items():
                table.setdefault(split, {}).setdefault(name, {})[code] = loss
    return table
