"""Mixture to voice, block by block: seams, levels, silence, rates, sharing, memory."""

import dataclasses

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from sepsearch.audio.metrics import si_sdr
from sepsearch.audio.separation import Separator, oracle_waveform, row_mask, separate_stream, separate_waveform
from sepsearch.audio.spectrogram import PRESETS, FrontEnd, clip_spectra, subset_rows
from sepsearch.audio.stft import NAMED, SHARED, bin_weights, divide_masks, transform_size
from sepsearch.models.families import make_config, make_network
from sepsearch.utils.errors import UserError

FRONT_END = FrontEnd(clip_seconds=1.0)
CONSTANT = 10.0
HALF = FRONT_END.clip_samples // 2


def noise(samples: int, channels: int | None = None) -> np.ndarray:
    shape = samples if channels is None else (channels, samples)
    return (0.1 * np.random.default_rng(3).standard_normal(shape)).astype(np.float32)


def sweep(samples: int, rate: int) -> np.ndarray:
    """A sine from 20 Hz to half the rate, each octave as long as the others."""
    time = np.arange(samples) / samples
    octaves = np.log(rate / 2 / 20)
    return (0.5 * np.sin(2 * np.pi * 20 * samples / rate / octaves * np.expm1(octaves * time))).astype(np.float32)


def stream(
    separators: list[Separator], rate: int, mixture: np.ndarray, size: int, least: float | None = None
) -> np.ndarray:
    """The voices (voice, channel, sample) of a mixture (channel, sample) that comes in blocks of `size` samples."""
    blocks = (mixture[:, begin : begin + size] for begin in range(0, mixture.shape[1], size))
    parts = list(separate_stream(separators, rate, blocks, least))
    assert np.array_equal(np.concatenate([part for part, _ in parts], axis=1), mixture)
    return np.concatenate([voices for _, voices in parts], axis=2)


def below(error: np.ndarray, reference: np.ndarray) -> float:
    """Highest error in dB of the reference's peak."""
    return 20 * np.log10(max(float(np.abs(error).max()), 1e-30) / float(np.abs(reference).max()))


def scaled(gain: float) -> Separator:
    """Gives everything times `gain`."""
    return Separator(lambda rows: gain * rows, FRONT_END, CONSTANT)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return make_network(make_config({"filters": 4, "head": "mask"})).eval()


class Low(nn.Module):
    """Keeps the lower half of the bands and silences the rest."""

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        return torch.cat([mixture[..., :64], 0 * mixture[..., 64:]], dim=-1)


def with_silence(audio: np.ndarray, rate: int) -> np.ndarray:
    audio = audio.copy()
    audio[: rate // 3] = audio[rate : 2 * rate] = audio[-rate // 4 :] = 0
    return audio


SIGNALS = {
    "sweep": sweep,
    "noise": lambda samples, rate: noise(samples),
    "a sweep between silences": lambda samples, rate: with_silence(sweep(samples, rate), rate),
    "noise between silences": lambda samples, rate: with_silence(noise(samples), rate),
}


@pytest.mark.parametrize("rate", [48_000, 44_100, 22_050, 96_000])
@pytest.mark.parametrize("signal", list(SIGNALS))
def test_a_network_that_passes_everything_gives_the_mixture_back(signal, rate):
    mixture = SIGNALS[signal](int(3.3 * rate), rate)[None]
    voice = stream([Separator(nn.Identity(), FRONT_END, CONSTANT)], rate, mixture, rate * 7 // 10)[0]
    assert below(voice - mixture, mixture) < -90


@pytest.mark.parametrize("rate", [48_000, 44_100])
def test_silence_stays_silence(network, rate):
    voice = stream([Separator(network, FRONT_END, CONSTANT)], rate, np.zeros((2, 3 * rate), np.float32), 10_000)[0]
    assert voice.shape == (2, 3 * rate)
    assert np.abs(voice).max() == 0


@pytest.mark.parametrize("samples", [1, 100, 1024, 4095, 4097, HALF - 1, HALF, HALF + 1, 2 * HALF + 1, 113_777])
def test_every_length_comes_back_at_that_length(samples):
    mixture = noise(samples)
    voice = separate_waveform(nn.Identity(), FRONT_END, CONSTANT, mixture)
    assert voice.shape == mixture.shape
    assert below(voice - mixture, mixture) < -90


def whole_at_once(network: nn.Module, front_end: FrontEnd, mixture: np.ndarray) -> np.ndarray:
    """What `separate_stream` should give, written down plainly, of a (sample,) at 48 kHz."""
    hop, half = front_end.hop, 64
    halves = max(2, int(np.ceil(len(mixture) / (half * hop))))
    total, weight, heard = np.zeros((halves * half, 128)), np.zeros((halves * half, 1)), np.zeros((halves * half, 128))
    for clip in range(halves - 1):
        row = subset_rows(front_end, clip_spectra(front_end, mixture[None], clip * half * hop), (1,), CONSTANT).float()
        with torch.inference_mode():
            mask = row_mask(network(row[None])[0], row)[0].numpy()
        fade = np.minimum(np.arange(128) + 0.5, 127.5 - np.arange(128))[:, None]
        frames = slice(clip * half, clip * half + 128)
        total[frames] += fade * mask
        weight[frames] += fade
        heard[frames] = row[0].numpy()
    masks = total / weight
    for frame, band in np.argwhere(heard == 0):
        later = frame + 1 < len(heard) and heard[frame + 1, band] > 0
        masks[frame, band] = masks[frame + 1, band] if later else masks[frame - 1, band] if frame else 0
    padded = np.pad(mixture.astype(np.float64), 4096)
    result = np.zeros(len(padded))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(4096) / 4096)
    for begin in range(1024, len(mixture) + 4096, 1024):
        time = np.clip((begin + 2048 - 4096) / hop - 0.5, 0, len(masks) - 1)
        after = min(int(time) + 1, len(masks) - 1)
        mask = masks[int(time)] + (time - int(time)) * (masks[after] - masks[int(time)])
        full = bin_weights(front_end, 48_000).numpy() @ mask
        part = padded[begin : begin + 4096]
        result[begin : begin + len(part)] += (
            np.fft.irfft(np.fft.rfft(np.pad(part * window[: len(part)], (0, 4096 - len(part)))) * full) * window / 1.5
        )[: len(part)]
    return result[4096 : 4096 + len(mixture)]


@pytest.mark.parametrize(
    "samples", [5_000, HALF, HALF + 1, 2 * HALF - 1, 2 * HALF, 3 * HALF + 1, 4 * HALF + 2048, 150_001]
)
def test_blocks_of_any_size_give_what_the_whole_gives_at_once(network, samples):
    mixture = noise(samples)
    mixture[samples // 2 : samples // 2 + 9_000] = 0
    expected = whole_at_once(network, FRONT_END, mixture)
    assert below(expected, mixture) > -12
    for size in (samples, 777, HALF, 2 * HALF + 1):
        voice = stream([Separator(network, FRONT_END, CONSTANT)], 48_000, mixture[None], size)[0, 0]
        assert below(voice - expected, mixture) < -90


@pytest.mark.parametrize("rate", [44_100, 96_000])
def test_the_size_of_blocks_does_not_matter_at_other_rates(network, rate):
    mixture = noise(2 * rate + 33, channels=2)
    separators = [Separator(network, FRONT_END, CONSTANT)]
    assert below(stream(separators, rate, mixture, 999) - stream(separators, rate, mixture, 3 * rate), mixture) < -90


@pytest.mark.parametrize("clip_seconds", [1.0, 5.0, 60.0])
def test_a_network_that_turns_everything_down_gives_the_mixture_turned_down(clip_seconds):
    separator = Separator(scaled(0.3).network, FrontEnd(clip_seconds=clip_seconds), CONSTANT)
    mixture = sweep(4 * 48_000, 48_000)[None] + noise(4 * 48_000)
    voice = stream([separator], 48_000, mixture, 12_345)[0]
    assert below(voice - 0.3 * mixture, mixture) < -70  # rows are half precision


def test_clips_follow_one_another_without_a_jump_of_the_level():
    seen = 0

    def alternating(rows: torch.Tensor) -> torch.Tensor:
        """Another loudness in every clip, the worst that can happen at a seam."""
        nonlocal seen
        gains = torch.tensor([0.2 if (seen + clip) % 2 else 0.9 for clip in range(len(rows))])
        seen += len(rows)
        return gains[:, None, None, None] * rows

    mixture = 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(5 * 48_000) / 48_000).astype(np.float32)
    voice = stream([Separator(alternating, FRONT_END, CONSTANT)], 48_000, mixture[None], 30_000)[0, 0]
    level = np.abs(voice.reshape(-1, 480)).max(axis=1)[5:-5] / 0.5  # every 10 ms
    assert level.min() < 0.3
    assert level.max() > 0.8
    assert np.abs(np.diff(level)).max() < 0.03


def test_the_level_of_a_steady_mixture_is_steady_where_blocks_meet():
    mixture = 0.5 * np.sin(2 * np.pi * 997 * np.arange(4 * 44_100) / 44_100).astype(np.float32)
    voice = stream([scaled(0.5)], 44_100, mixture[None], 10_007)[0, 0]
    level = np.abs(voice.reshape(-1, 441)).max(axis=1)
    assert 20 * np.log10(level.max() / level.min()) < 0.1


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("rate", [48_000, 96_000])
def test_a_mask_keeps_the_bands_it_lets_through(preset, rate):
    time = np.arange(rate * 3) / rate
    high = 30_000 if rate == 96_000 else 20_000 if preset == "report" else 9_000
    low = 0.1 * np.sin(2 * np.pi * 400 * time).astype(np.float32)
    mixture = low + 0.1 * np.sin(2 * np.pi * high * time).astype(np.float32)
    if rate == 96_000:  # beyond what rows know, the highest band decides: it needs sound to have a mask
        top = PRESETS[preset].high_hz - 100
        mixture += 0.01 * np.sin(2 * np.pi * top * time).astype(np.float32)
    voice = stream([Separator(Low(), PRESETS[preset], 100.0)], rate, mixture[None], 2 * rate)[0, 0]
    assert si_sdr(voice, low) > 25


def test_stereo_keeps_its_place():
    left = noise(60_000)
    mixture = np.stack([left, 0.25 * left, 0 * left])
    voice = separate_waveform(scaled(0.5).network, FRONT_END, CONSTANT, mixture)
    assert voice.shape == mixture.shape
    np.testing.assert_allclose(voice[1], 0.25 * voice[0], atol=1e-6)
    assert np.abs(voice[2]).max() == 0


def test_voices_that_are_shared_out_never_add_up_to_more_than_the_mixture():
    separators = [
        Separator(nn.Identity(), FRONT_END, CONSTANT),
        Separator(nn.Identity(), FrontEnd(axis="linear", high_hz=24_000.0, clip_seconds=2.0), CONSTANT),
    ]
    mixture = noise(100_000, channels=2)
    apart = stream(separators, 44_100, mixture, 30_000)
    shared = stream(separators, 44_100, mixture, 30_000, SHARED)
    assert below(apart.sum(axis=0) - 2 * mixture, mixture) < -90
    assert below(shared.sum(axis=0) - mixture, mixture) < -90
    assert below(shared[0] - shared[1], mixture) < -90


def test_sharing_leaves_voices_alone_that_are_less_than_the_mixture():
    separators, mixture = [scaled(0.3), scaled(0.6)], noise(100_000, channels=1)
    apart, shared = (stream(separators, 48_000, mixture, 40_000, least) for least in (None, SHARED))
    assert np.array_equal(apart, shared)


def test_masks_of_named_players_add_up_to_one_where_anything_is_said_and_fade_out_below():
    masks = [torch.tensor([0.2, 0.9, 0.0, 0.0, 2e-4]), torch.tensor([0.2, 0.6, 0.5, 0.0, 3e-4])]
    named = divide_masks(masks, NAMED)
    assert sum(named).tolist() == pytest.approx([1, 1, 1, 0, 0.5])
    assert named[1].tolist() == pytest.approx([0.5, 0.4, 1, 0, 0.3])


def test_named_voices_add_up_to_the_mixture_whatever_their_networks_and_front_ends(network):
    other = Separator(scaled(0.1).network, FrontEnd(axis="linear", high_hz=24_000.0, clip_seconds=2.0), CONSTANT)
    mixture = noise(100_000, channels=2)
    voices = stream([Separator(network, FRONT_END, CONSTANT), other], 44_100, mixture, 30_000, NAMED)
    assert below(voices.sum(axis=0) - mixture, mixture) < -90
    assert min(np.abs(voice).max() for voice in voices) > 0.01


def test_a_named_player_alone_is_the_mixture(network):
    mixture = noise(100_000, channels=2)
    voice = stream([Separator(network, FRONT_END, CONSTANT)], 48_000, mixture, 40_000, NAMED)[0]
    assert below(voice - mixture, mixture) < -90


def test_a_voice_that_is_not_written_takes_its_part_all_the_same(network):
    separators, mixture = [Separator(network, FRONT_END, CONSTANT), scaled(0.5)], noise(100_000, channels=1)
    both = stream(separators, 48_000, mixture, 40_000, NAMED)
    separators[0] = dataclasses.replace(separators[0], written=False)
    assert np.array_equal(stream(separators, 48_000, mixture, 40_000, NAMED), both[1:])


def test_the_oracle_gives_the_target_of_a_mixture_in_other_bands():
    time = np.arange(48_000 * 2 + 77) / 48_000
    target = 0.1 * np.sin(2 * np.pi * 440 * time).astype(np.float32)
    mixture = target + 0.1 * np.sin(2 * np.pi * 5_000 * time).astype(np.float32)
    oracle = oracle_waveform(FRONT_END, 100.0, mixture, target)
    assert oracle.shape == target.shape
    assert si_sdr(oracle, target) > 40


def test_the_oracle_of_the_mixture_is_the_mixture():
    mixture = noise(3 * 48_000 + 5)
    assert below(oracle_waveform(FRONT_END, CONSTANT, mixture, mixture) - mixture, mixture) < -90


def test_a_mask_is_what_is_predicted_over_what_there_is_between_nothing_and_all():
    predicted, row = torch.tensor([0.5, 3.0, -1.0, 1.0, 0.0]), torch.tensor([2.0, 2.0, 2.0, 0.0, 0.0])
    assert row_mask(predicted, row).tolist() == [0.25, 1.0, 0.0, 0.0, 0.0]


def test_a_network_that_gives_no_numbers_is_refused():
    separator = Separator(lambda rows: rows * float("nan"), FRONT_END, CONSTANT, "vn")
    with pytest.raises(UserError, match="vn: gives numbers that are not finite"):
        stream([separator], 48_000, noise(60_000, channels=1), 60_000)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000, 192_000, 384_000])
def test_a_window_is_as_long_at_every_rate(rate):
    size = transform_size(rate)
    assert size % 4 == 0
    assert size / rate == pytest.approx(4096 / 48_000, rel=0.08)


def test_memory_does_not_grow_with_the_length():
    block = noise(48_000, channels=2)
    separators = [Separator(nn.Identity(), FrontEnd(clip_seconds=2.0), CONSTANT)]
    used = []
    for _ in separate_stream(separators, 44_100, (block for _ in range(300))):
        used.append(psutil.Process().memory_info().rss)
    kept = 300 * block.nbytes  # 115 MB, if it were kept
    assert max(used) - used[len(used) // 4] < kept / 10
