"""Identity, zero, best constant gain, oracle mask."""

import numpy as np
import pytest
from synthetic import synthetic_data

from sepsearch.data.baselines import all_baselines, baseline_losses, best_gain
from sepsearch.data.dataset import Pairs, Rows


def two_rows(mixture: float, target: float) -> tuple[Rows, Pairs]:
    array = np.stack([np.full((128, 128), mixture), np.full((128, 128), target)]).astype(np.float16)
    return Rows([array]), Pairs(np.array([0]), np.array([1]), np.array([0]))


def test_the_baselines_of_a_constant_pair_are_known_by_hand():
    rows, pairs = two_rows(2.0, 0.5)
    assert best_gain(rows, pairs) == pytest.approx(0.25)
    losses = baseline_losses(rows, pairs, gain=0.5)
    assert losses == pytest.approx({"identity": 2.25, "zero": 0.25, "gain": 0.25, "oracle": 0.0})


def test_the_oracle_mask_cannot_exceed_the_mixture():
    rows, pairs = two_rows(1.0, 3.0)
    assert baseline_losses(rows, pairs, gain=1.0)["oracle"] == pytest.approx(4.0)


def test_no_baseline_beats_the_oracle_and_the_fitted_gain_beats_identity_and_zero_where_it_was_fitted():
    data = synthetic_data()
    table = all_baselines(data.rows, data.examples)["train"]
    for code in ("vn", "vc"):
        assert table["oracle"][code] <= table["gain"][code] <= min(table["identity"][code], table["zero"][code])
