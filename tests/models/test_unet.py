"""The U-Net: shapes, size, mask, harmonics."""

import pytest
import torch

from sepsearch.models.families import count_parameters, make_config, make_network
from sepsearch.models.unet import HARMONICS, UNet, UNetConfig


def test_the_default_unet_with_thirteen_outputs_has_169_thousand_parameters():
    assert count_parameters(UNet(UNetConfig(), 13)) == 169_309


@pytest.mark.parametrize("frames", [64, 128])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channels": 4, "bottom_blocks": 0, "activation": "relu"},
        {"channels": 6, "first_kernel": 3, "kernel_time": 1, "kernel_frequency": 7, "detector_width": 8},
        {"channels": 4, "harmonic_bins": 15},
    ],
)
def test_every_unet_gives_a_spectrogram_per_output_of_the_inputs_shape(frames, changes):
    assert UNet(UNetConfig(**changes), 3)(torch.rand(2, 1, frames, 128)).shape == (2, 3, frames, 128)


def test_no_output_exceeds_the_mixture_and_silence_stays_silent():
    mixture = torch.rand(2, 1, 128, 128)
    mixture[1] = 0
    output = UNet(UNetConfig(channels=4), 2)(mixture)
    assert bool(((output >= 0) & (output <= mixture)).all())
    assert output[1].abs().max() == 0


def test_harmonics_are_copies_of_the_input_shifted_by_their_distance_in_bands():
    network = UNet(UNetConfig(channels=4, harmonic_bins=15))
    seen = []
    network.encoder_1[0].register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    row = torch.zeros(1, 1, 128, 128)
    row[..., 45] = 1  # a partial
    network(row)
    places = {1.0: 45, **{h: 45 - round(15 * torch.log2(torch.tensor(float(h))).item()) for h in HARMONICS}}
    found = [int(channel[0].argmax()) for channel in seen[0][0, :-1]]
    assert found == list(places.values())
    assert seen[0].shape[1] == len(HARMONICS) + 2  # the row, its copies, and the frequency


def test_a_gate_of_the_detector_scales_all_frequencies_of_a_frame_alike():
    network = UNet(UNetConfig(channels=4, detector_width=8))
    seen = []
    network.gate.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    network(torch.rand(2, 1, 128, 128))
    assert seen[0].shape == (2, 12, 16, 1)
    assert bool(((seen[0] > 0) & (seen[0] < 1)).all())


def test_a_network_begins_with_masks_about_a_quarter_open():
    torch.manual_seed(0)
    mixture = torch.rand(4, 1, 128, 128) + 0.1
    masks = make_network(make_config({"family": "unet"}), 5)(mixture) / mixture
    assert 0.15 < float(masks.detach().mean()) < 0.4
