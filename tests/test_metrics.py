"""Discontinuities, SI-SDR, mean and spread."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

from sepsearch.metrics import is_discontinuity, mean_and_sd, si_sdr


def test_si_sdr_agrees_with_torchmetrics():
    rng = np.random.default_rng(0)
    reference, noise = rng.standard_normal((2, 4000))
    estimate = 0.3 * reference + 0.1 * noise + 0.05
    expected = scale_invariant_signal_distortion_ratio(
        torch.from_numpy(estimate), torch.from_numpy(reference), zero_mean=True
    )
    assert si_sdr(estimate, reference) == pytest.approx(float(expected), abs=1e-6)


def test_si_sdr_does_not_reward_silence():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal(1000)
    assert math.isnan(si_sdr(np.zeros(1000), reference))
    assert math.isnan(si_sdr(1e-4 * reference, reference))


def test_si_sdr_of_a_silent_reference_is_undefined():
    assert math.isnan(si_sdr(np.ones(10), np.zeros(10)))


def test_a_jump_in_a_smooth_curve_is_a_discontinuity():
    assert is_discontinuity([1.0, 0.8, 0.7, 0.65, 0.62, 1.4])


@pytest.mark.parametrize(
    "curve",
    [[1.0, 0.8, 0.7, 0.65, 0.62, 0.6], [0.5, 0.5, 0.5, 0.5, 0.51], [0.5, 0.9, 0.4, 0.8, 0.5, 0.95], [0.2, 0.9], []],
    ids=["falling", "flat", "noisy", "too short", "empty"],
)
def test_an_ordinary_curve_has_no_discontinuity(curve):
    assert not is_discontinuity(curve)


def test_mean_and_sd_leave_out_what_is_no_number():
    assert mean_and_sd([1.0, math.nan, 3.0]) == pytest.approx((2.0, math.sqrt(2)))
