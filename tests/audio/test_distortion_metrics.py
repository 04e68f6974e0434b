"""SI-SDR and SDR where they mean something, and nothing where they mislead."""

import math

import numpy as np
import pytest

from sepsearch.audio.metrics import sdr, si_sdr

MEASURES = pytest.mark.parametrize("measure", [si_sdr, sdr])


def noise(seed: int, samples: int = 8000) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


def test_si_sdr_is_the_energy_of_the_projection_over_that_of_the_rest():
    reference, other = noise(0).astype(np.float64), noise(1).astype(np.float64)
    reference -= reference.mean()
    other -= other.mean()
    other -= (other @ reference) / (reference @ reference) * reference
    estimate = 0.3 * reference + 0.1 * other + 0.05
    expected = 10 * math.log10(0.09 * (reference @ reference) / (0.01 * (other @ other)))
    assert si_sdr(estimate, reference) == pytest.approx(expected, abs=1e-6)


def test_sdr_forgives_a_short_filter_and_si_sdr_does_not():
    reference = noise(0)
    echoed = reference + 0.8 * np.roll(reference, 40)
    assert sdr(echoed, reference) > si_sdr(echoed, reference) + 10


@MEASURES
def test_louder_noise_scores_lower(measure):
    reference = noise(0)
    assert measure(reference + 0.1 * noise(1), reference) > measure(reference + noise(1), reference) + 10


@MEASURES
@pytest.mark.parametrize("gain", [0.0, 1e-4])
def test_a_silent_or_nearly_silent_estimate_has_no_score(measure, gain):
    assert math.isnan(measure(gain * noise(0), noise(0)))


@MEASURES
@pytest.mark.parametrize("reference", [np.zeros(8000), np.full(8000, 0.3)], ids=["zero", "constant"])
def test_a_silent_reference_has_no_score(measure, reference):
    assert math.isnan(measure(noise(0), reference))


def test_a_reference_that_no_filter_can_be_found_for_has_no_sdr():
    tone = np.sin(np.arange(8000) * 0.3)
    found = sdr(tone + 0.1 * noise(1), tone)
    assert math.isnan(found) or found > 10
