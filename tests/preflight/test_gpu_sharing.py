"""How many trials share a GPU, with the measuring replaced by numbers."""

import argparse
import math

import pytest

from sepsearch.preflight.gpu_sharing import Beside, Packing, most_beside, pack
from sepsearch.runs.options import parse_arguments

GB = 10**9


def device(rates: dict[int, float], memory: int = GB):
    """A device whose throughput is as given; what was tried on it."""
    tried = []

    def measure(count: int) -> Beside | None:
        tried.append(count)
        return Beside(rates[count], memory) if count in rates else None

    return measure, tried


def test_trials_are_doubled_as_long_as_each_step_pays_a_tenth():
    measure, tried = device({1: 100, 2: 190, 4: 300, 8: 320, 16: 1000})
    found = pack(measure, GB, 80 * GB)
    assert (found.trials, found.gpus_per_trial) == (4, 0.25)
    assert tried == [1, 2, 4, 8]
    assert found.line == "4 trials on a GPU: 8 would not pay (examples/s: 1 → 100, 2 → 190, 4 → 300, 8 → 320)"


def test_a_gpu_that_one_trial_fills_is_not_shared():
    measure, _ = device({1: 100, 2: 105})
    assert pack(measure, GB, 80 * GB).trials == 1


def test_no_more_are_tried_than_fit_into_memory_at_the_worst_corner():
    measure, tried = device({1: 100, 2: 200, 4: 400, 6: 600, 8: 800})
    found = pack(measure, 12 * GB, 79 * GB)
    assert found.trials == 6
    assert tried == [1, 2, 4, 6]
    assert "79.0 GB hold 6 of 12.0 GB each" in found.line


def test_memory_that_the_reference_itself_takes_counts_where_it_is_more():
    measure, _ = device({1: 100, 2: 200, 4: 400}, memory=30 * GB)
    assert pack(measure, GB, 80 * GB).trials == 2


def test_a_trial_that_does_not_fit_even_once_leaves_one_for_preflight_to_refuse():
    measure, tried = device({1: 100})
    assert pack(measure, 90 * GB, 80 * GB).trials == 1
    assert tried == [1]


def test_no_more_are_tried_than_there_are_cpus_for():
    measure, _ = device({1: 100, 2: 200, 3: 300})
    found = pack(measure, GB, 80 * GB, most=3)
    assert found.trials == 3
    assert "there are no CPUs for more" in found.line


def test_trials_that_die_beside_one_another_end_the_trying():
    measure, _ = device({1: 100, 2: 200})
    found = pack(measure, GB, 80 * GB)
    assert found.trials == 2
    assert "4 did not come through" in found.line
    assert pack(device({})[0], GB, 80 * GB).trials == 1


@pytest.mark.parametrize("trials", range(1, 33))
def test_as_many_shares_as_there_are_trials_fit_on_a_gpu_as_ray_counts(trials):
    share = Packing(trials, "").gpus_per_trial
    assert round(share * 10_000) * trials <= 10_000
    assert math.floor(1 / share + 1e-9) == trials


def test_cpus_and_what_was_asked_for_limit_the_trials_on_a_gpu():
    nodes = [{"CPU": 16.0, "GPU": 1.0}, {"CPU": 24.0, "GPU": 4.0}]
    assert most_beside(nodes, 1.0, None) == 6
    assert most_beside(nodes, 2.0, None) == 3
    assert most_beside(nodes, 1.0, 8) == 2
    assert most_beside([{"CPU": 1.0, "GPU": 8.0}], 1.0, None) == 1


def test_gpus_per_trial_is_a_number_or_auto(capsys):
    assert parse_arguments(["--gpus-per-trial", "auto"]).gpus_per_trial == "auto"
    assert parse_arguments(["--gpus-per-trial", "0.25"]).gpus_per_trial == 0.25
    with pytest.raises((SystemExit, argparse.ArgumentError)):
        parse_arguments(["--gpus-per-trial", "car"])
    assert "'car', expected a number above 0, or auto" in capsys.readouterr().err
