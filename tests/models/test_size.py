"""Size of networks: counted without weights, as the final models have them."""

import pytest
import torch

from sepsearch.models.families import config_params, count_parameters, make_config, make_network
from sepsearch.models.size import canonical_params, known_parameters, network_parameters

CONFIGS = [
    {},
    {"filters": 3, "detector_width": 16},
    {"family": "unet", "channels": 3},
    {"family": "unet", "heads": "all"},
]


@pytest.mark.parametrize("params", CONFIGS)
def test_a_network_is_counted_as_it_is_built_with_one_output(params):
    config = make_config(params)
    assert network_parameters(config) == count_parameters(make_network(config, 1)) == known_parameters(params)


def test_counting_leaves_torchs_random_state_as_it_was():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    network_parameters(make_config({"filters": 7, "preparer_kernel_1": 9}))
    assert torch.equal(before, torch.random.get_rng_state())


def test_how_a_network_is_trained_does_not_change_its_size():
    assert known_parameters({"learning_rate": 0.01, "batch_size": 8}) == known_parameters({})


def test_what_makes_no_network_has_no_size():
    assert known_parameters({"family": "not installed"}) is None
    assert known_parameters({"filters": 0}) is None


def test_equal_trainings_have_one_canonical_spelling():
    assert canonical_params({"detector_layers": 1, "detector_width": 64}) == canonical_params({})
    assert canonical_params({"detector_layers": 2}) == canonical_params({"detector_width": 128})
    assert canonical_params({}) == config_params(make_config({}))
    assert canonical_params({"unknown": 1}) == {"unknown": 1}
