"""Configurations of a search space: which it holds, how many, and how many trials are left of those asked for."""

from pathlib import Path

import pytest

from sepsearch.models.families import make_config
from sepsearch.spaces.configurations import (
    configuration_key,
    count_configurations,
    holds,
    iterate_configurations,
    limit_trials,
)
from sepsearch.spaces.space import Space, load_space, parse_space

SPACES = Path(__file__).parents[2] / "search_spaces"
WIDTH = {"choices": [32, 64, 256], "when": {"detector_layers": 2}}
COUNTED = [
    ({"filters": [8, 16], "head": ["relu", "mask"]}, 4),
    ({"preparer_kernel_1": {"low": 3, "high": 8, "step": 2}}, 3),
    ({"batch_size": {"low": 8, "high": 32, "log": True}, "head": "mask"}, 25),
    ({"detector_layers": [1, 2], "detector_width": WIDTH, "filters": [8, 16]}, 2 * (1 + 3)),
    ({}, 1),
]


def space(parameters: dict) -> Space:
    return parse_space({"parameters": parameters}, "space")


@pytest.mark.parametrize(("parameters", "count"), COUNTED, ids=str)
def test_a_space_without_real_ranges_is_counted_and_listed_each_configuration_once(parameters, count):
    searched = space(parameters)
    configurations = list(iterate_configurations(searched))
    assert count_configurations(searched) == count == len(configurations)
    assert len({configuration_key(params) for params in configurations}) == count
    assert all(holds(searched, params) and make_config(params) for params in configurations)


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_space_with_a_range_of_real_numbers_has_no_end(path):
    assert count_configurations(load_space(path)) is None
    assert limit_trials(load_space(path), 10**6) == (10**6, "")


def test_equal_configurations_have_equal_keys_however_their_numbers_are_written():
    assert configuration_key({"l2": 0, "filters": 8}) == configuration_key({"filters": 8, "l2": 0.0})
    assert configuration_key({"l2": 1}) != configuration_key({"l2": True})
    assert configuration_key({"l2": 10**400}) != configuration_key({"l2": 10**400 + 1})


def test_no_more_trials_than_configurations_and_the_reason_in_one_line():
    searched = space({"filters": [8, 16], "head": ["relu", "mask"]})
    assert limit_trials(searched, 8) == (4, "the space holds 4 configurations: 4 trials instead of 8")
    assert limit_trials(searched, 4) == (4, "")
    assert limit_trials(searched, 3) == (3, "")


def test_the_reference_is_one_more_trial_where_the_space_does_not_hold_it():
    searched = space({"filters": [4, 8]})
    assert limit_trials(searched, 8) == (
        3,
        "the space holds 2 configurations beside the reference: 3 trials instead of 8",
    )
    assert limit_trials(space({"filters": 4}), 2) == (2, "")
