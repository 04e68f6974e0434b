"""Packing with real processes beside one another, on CPUs in the place of a GPU."""

import dataclasses

import pytest
from stored_task import stored_task

from sepsearch.models.families import config_params, make_config
from sepsearch.preflight.gpu_sharing import pack, train_beside

PARAMS = {**config_params(make_config({})), "filters": 2, "batch_size": 4}


@pytest.fixture(scope="module")
def task(ray_workers):
    return stored_task("packing")


def test_trials_beside_one_another_tell_their_throughput_and_memory(task):
    found = train_beside(task, PARAMS, 2, 0.5, seconds=0.5)
    assert found is not None
    assert found.rate > 0
    assert found.memory > 50 * 10**6


def test_a_worker_that_dies_is_a_number_of_trials_that_does_not_fit(task):
    def die(*arguments, **options):
        import os

        os._exit(1)

    assert train_beside(dataclasses.replace(task, fit=die), PARAMS, 2, 0.5, seconds=0.1) is None


def test_no_room_on_the_cluster_is_a_number_of_trials_that_does_not_fit(task):
    assert train_beside(task, PARAMS, 8, 1.0, seconds=0.1, patience=2.0) is None


def test_a_made_up_device_of_two_trials_memory_gets_at_most_two(task):
    one = train_beside(task, PARAMS, 1, 0.5, seconds=0.2)
    assert one is not None
    found = pack(lambda count: train_beside(task, PARAMS, count, 0.5, seconds=0.5), 0, int(2.5 * one.memory))
    assert found.trials in (1, 2)
    assert "4 →" not in found.line
