"""The reference network, pinned shape by shape, and the space around it."""

import itertools

import pytest
import torch

from sepsearch.models.families import (
    FAMILIES,
    config_params,
    count_parameters,
    make_config,
    make_network,
    output_weights,
    parameter_names,
)
from sepsearch.models.reference import REFERENCE_FINAL, REPORT_INITIAL, ReferenceConfig, ReferenceNetwork
from sepsearch.utils.errors import UserError


@pytest.mark.parametrize(
    ("config", "filters", "parameters"), [(REPORT_INITIAL, 8, 52_386), (REFERENCE_FINAL, 16, 54_658)]
)
def test_the_reports_networks_have_its_shapes_and_parameter_counts(config, filters, parameters):
    network = ReferenceNetwork(config)
    shapes = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear | torch.nn.ConvTranspose2d):
            module.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape[1:])))
    output = network(torch.rand(2, 1, 128, 128))
    assert shapes == [(filters, 64, 64), (filters, 64, 64), (1, 32, 25), (64,), (1, 129, 129)]
    assert output.shape == (2, 1, 128, 128)
    assert count_parameters(network) == parameters


def test_the_final_architecture_uses_elu_and_the_initial_relu():
    kinds = [
        {type(m) for m in ReferenceNetwork(c).preparer if not isinstance(m, torch.nn.Conv2d)}
        for c in (REFERENCE_FINAL, REPORT_INITIAL)
    ]
    assert kinds == [{torch.nn.ELU}, {torch.nn.ReLU}]


def test_the_timeline_scales_every_frequency_and_channel_of_a_frame_alike():
    network = ReferenceNetwork(REFERENCE_FINAL)
    seen = {}
    network.regenerator.register_forward_hook(lambda _m, inputs, _o: seen.update(product=inputs[0]))
    network.preparer.register_forward_hook(lambda _m, _i, output: seen.update(prepared=output))
    network(torch.rand(1, 1, 128, 128))
    timeline = seen["product"] / seen["prepared"]
    torch.testing.assert_close(timeline, timeline[:, :1, :, :1].expand_as(timeline), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "corner", itertools.product((8, 24), (3, 7), ("gelu", "silu"), (1, 4), (0, 32), (2, 5), ("relu", "mask"))
)
def test_every_corner_of_the_space_gives_a_spectrogram_of_the_inputs_shape(corner):
    filters, kernel, activation, time, width, regenerator, head = corner
    config = ReferenceConfig(
        filters=filters,
        preparer_kernel_1=kernel,
        activation=activation,
        detector_kernel_time=time,
        detector_kernel_frequency=8 * time,
        detector_width=width,
        regenerator_kernel=regenerator,
        head=head,
    )
    assert ReferenceNetwork(config)(torch.rand(1, 1, 128, 128)).shape == (1, 1, 128, 128)


def test_a_mask_never_exceeds_the_mixture():
    mixture = torch.rand(2, 1, 128, 128)
    output = ReferenceNetwork(ReferenceConfig(head="mask"))(mixture)
    assert bool(((output >= 0) & (output <= mixture)).all())


def test_a_configuration_survives_a_round_trip_through_plain_values():
    config = make_config({"filters": 24, "head": "mask", "l2": 1e-5})
    assert make_config(config_params(config)) == config


def test_a_misspelt_key_is_refused_with_the_valid_ones():
    with pytest.raises(UserError, match=r"filter: unknown key .did you mean filters.*preparer_kernel_1"):
        make_config({"filter": 8})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("filters", 0),
        ("filters", 2.5),
        ("filters", True),
        ("activation", "tanh"),
        ("preparer_kernel_1", 4),
        ("head", "softmax"),
        ("learning_rate", float("nan")),
        ("detector_kernel_frequency", 65),
    ],
)
def test_a_value_no_network_can_be_built_from_is_refused_by_name(key, value):
    with pytest.raises(UserError, match=key):
        make_config({key: value})


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_network_of_one_output_gives_what_the_shared_network_gives_there(family):
    config = make_config({"family": family, "heads": "all"})
    shared = make_network(config, 3).eval()
    mixture = torch.rand(2, 1, 128, 128)
    for output in range(3):
        alone = make_network(config).eval()
        alone.load_state_dict(output_weights(config, shared.state_dict(), output))
        assert torch.equal(alone(mixture)[:, 0], shared(mixture)[:, output])


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_weights_of_one_output_are_copies(family):
    config = make_config({"family": family})
    network = make_network(config)
    weights = output_weights(config, network.state_dict(), 0)
    before = {name: tensor.clone() for name, tensor in weights.items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert all(torch.equal(weights[name], before[name]) for name in before)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_architecture_and_training_have_no_parameter_of_the_same_name(family):
    names = parameter_names(family)
    assert len(set(names)) == len(names)
    assert set(config_params(make_config({"family": family}))) == {"family", *names}


@pytest.mark.parametrize(("layers", "width", "expected"), [(1, 128, 0), (2, 64, 64), (2, None, 128)])
def test_the_former_spelling_of_the_detectors_width_is_read(layers, width, expected):
    params = {"detector_layers": layers} | ({"detector_width": width} if width else {})
    assert make_config(params) == make_config({"detector_width": expected})


def test_half_clips_are_refused_for_a_family_that_takes_whole_ones():
    with pytest.raises(UserError, match="frames is 64, expected 128 for family report"):
        make_config({"frames": 64, "offsets": "random"})


def test_half_clips_need_random_offsets():
    with pytest.raises(UserError, match=r"frames is 64, expected 128 with offsets: clip"):
        make_config({"family": "unet", "frames": 64})


def test_an_unknown_family_is_refused_with_the_valid_ones():
    with pytest.raises(UserError, match="family is 'resnet', expected one of report, unet"):
        make_config({"family": "resnet"})
