"""Scores with the players named: each mask divided by the sum of those of all instruments that play in the mixture.

That is `separate --players`, which needs somebody who knows who plays: its scores stand beside the plain ones, never
among them, and nothing is chosen by them.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sepsearch.audio.separation import row_mask
from sepsearch.audio.stft import NAMED, divide_masks
from sepsearch.data.dataset import Pairs, RowIndex, Rows, own_players
from sepsearch.data.joint_examples import evaluation_joint_batches, join_pairs
from sepsearch.data.prepared import PreparedData

Networks = Mapping[str, nn.Module]  # by instrument, (batch, 1, frame, band) → the same shape


def nameable(prepared: PreparedData, networks: Networks, codes: Iterable[str]) -> list[str]:
    """The instruments whose test examples can be scored with their players named.

    Every instrument that plays in the pieces has a network, and none but the instrument's own was trained or validated
    on one of the clips (which happens with those of too few titles): test clips are unseen by all.
    """
    index, examples = prepared.index, prepared.examples
    clip = index.clip_numbers()

    def fits(code: str) -> bool:
        pairs = examples[code]["test"]
        others = {player for piece in np.unique(pairs.piece) for player in index.players[piece]} - {code}
        seen = [examples[other][split] for other in others & networks.keys() for split in ("train", "validation")]
        return others <= networks.keys() and not any(
            np.isin(clip[pairs.mixture], clip[part.mixture]).any() for part in seen
        )

    return [code for code in codes if code in networks and fits(code)]


def named_ratios(prepared: PreparedData, networks: Networks, codes: Iterable[str]) -> dict[str, float]:
    """Loss over identity loss on the test examples of `nameable` instruments; those without a ratio are left out."""
    pairs = {code: prepared.examples[code]["test"] for code in codes}
    identity = prepared.baselines["test"]["identity"]
    losses = named_losses(networks, prepared.rows, prepared.index, pairs)
    ratios = {code: loss / identity[code] if identity[code] > 0 else math.nan for code, loss in losses.items()}
    return {code: ratio for code, ratio in ratios.items() if math.isfinite(ratio)}


@torch.inference_mode()
def named_losses(networks: Networks, rows: Rows, index: RowIndex, examples: Mapping[str, Pairs]) -> dict[str, float]:
    """Mean squared error of every instrument's examples with their players named, every piece counting alike.

    An estimate is the instrument's mask, divided by the sum of those of all that play in the mixture, times the
    mixture. Each network runs once on every mixture that its instrument plays in, however many instruments are scored.

    Args:
        networks: of all instruments that play in the examples.
        rows: that the examples are of.
        index: of the rows.
        examples: of the instruments that are scored.
    """
    if not examples:
        return {}
    codes = [*examples, *(code for code in networks if code not in examples)]
    joint = join_pairs(list(examples.values()))
    plays = torch.from_numpy(_playing(index, joint.mixture, codes))
    weights = torch.from_numpy(joint.weights)
    loss = torch.zeros(len(examples), dtype=torch.float64, device=rows.device)
    begin = 0
    batches = list(evaluation_joint_batches(joint))
    stream = rows.stream((batch.mixture, batch.target) for batch in batches)
    for batch, (mixture, target) in zip(batches, stream, strict=True):
        part = slice(begin, begin + len(mixture))
        masks = _named_masks([networks[code] for code in codes], mixture, plays[part].to(rows.device))
        example, output = batch.example.to(rows.device), batch.output.to(rows.device)
        estimate = masks[example, output] * mixture[example, 0]
        errors = (estimate - target[:, 0]).square().mean(dim=(1, 2)).double()
        loss.index_add_(0, output, errors * weights[part][batch.example, batch.output].to(rows.device))
        begin = part.stop
    return dict(zip(examples, loss.tolist(), strict=True))


def _named_masks(networks: Iterable[nn.Module], mixture: Tensor, plays: Tensor) -> Tensor:
    """Masks (example, network, frame, band) of mixtures (example, 1, frame, band); `plays` is (example, network)."""
    masks = mixture.new_zeros((*plays.shape, *mixture.shape[2:]))
    for number, network in enumerate(networks):
        if len(there := plays[:, number].nonzero()[:, 0]):
            masks[there, number] = row_mask(network.eval()(mixture[there]), mixture[there])[:, 0]
    return torch.stack(divide_masks(masks.unbind(1), NAMED), dim=1)


def _playing(index: RowIndex, rows: NDArray[np.int64], codes: Iterable[str]) -> NDArray[np.bool_]:
    """Whether an instrument is among the players of a row, (row, instrument)."""
    own = np.array([[own_players(players, code) for code in codes] for players in index.players])
    playing: NDArray[np.bool_] = own[index.piece[rows]] & index.subset[rows, None] != 0
    return playing
