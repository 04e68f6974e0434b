"""The front end against a plain computation of the same thing."""

import numpy as np
import pytest
import torch

from sepsearch.audio.spectrogram import PRESETS, SCALE, FrontEnd, all_subsets, band_matrix, count_clips, iterate_clips
from sepsearch.utils.errors import UserError
from sepsearch.utils.validation import validated

SHORT = FrontEnd(clip_seconds=1.0)


def waveforms(players: int, seconds: float) -> np.ndarray:
    rng = np.random.default_rng(7)
    return (rng.standard_normal((players, int(seconds * 48_000))) * 0.05).astype(np.float32)


def plain_row(front_end: FrontEnd, waveform: np.ndarray, clip: int, constant: float) -> np.ndarray:
    """Frame by frame in double precision, from the mixed waveform."""
    context = max(0, front_end.window - front_end.hop)
    padded = np.pad(waveform, (context // 2, front_end.window + front_end.clip_samples))
    window = np.hanning(front_end.window + 1)[:-1]
    bands = band_matrix(front_end).double().numpy()
    frames = []
    for frame in range(128):
        start = clip * front_end.clip_samples + frame * front_end.hop
        spectrum = np.fft.rfft(padded[start : start + front_end.window] * window)[: len(bands)]
        frames.append(np.square(np.abs(spectrum)) / np.square(window).sum() @ bands)
    return SCALE * np.log1p(constant * np.sqrt(frames))


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_subset_is_the_spectrogram_of_the_summed_waveforms(preset):
    import dataclasses

    front_end = dataclasses.replace(PRESETS[preset], clip_seconds=1.0)
    audio = waveforms(3, 2.2)
    rows = dict(iterate_clips(front_end, audio, all_subsets(3), constant=20.0))
    for clip in rows:
        for number, subset in enumerate(all_subsets(3)):
            mixture = sum(audio[player] for player in range(3) if subset >> player & 1)
            expected = plain_row(front_end, mixture, clip, 20.0)
            np.testing.assert_allclose(rows[clip][number].float().numpy(), expected, atol=4e-3)


def test_players_that_cancel_give_silence_and_no_nan():
    audio = waveforms(1, 1.0)
    rows = dict(iterate_clips(SHORT, np.concatenate([audio, -audio]), all_subsets(2), constant=20.0))[0]
    assert torch.isfinite(rows).all()
    assert float(rows[2].max()) < 0.02 * float(rows[0].max())


def test_rows_are_128_frames_of_128_bins_in_half_precision():
    rows = dict(iterate_clips(SHORT, waveforms(2, 1.0), all_subsets(2), constant=1.0))[0]
    assert rows.shape == (3, 128, 128)
    assert rows.dtype == torch.float16


@pytest.mark.parametrize(("seconds", "clips"), [(0.2, 1), (1.0, 1), (1.4, 1), (1.5, 2), (3.7, 4)])
def test_a_last_clip_less_than_half_full_is_left_out_unless_it_is_the_only_one(seconds, clips):
    assert count_clips(SHORT, int(seconds * 48_000)) == clips


def test_a_tone_lands_in_the_band_around_its_frequency():
    for preset, band in (("report", int(3000 / 187.5)), ("mel", None)):
        front_end = PRESETS[preset]
        tone = np.sin(2 * np.pi * 3000 * np.arange(480_000) / 48_000).astype(np.float32)[None]
        row = dict(iterate_clips(front_end, tone, (1,), 1.0))[0][0].float()
        loudest = int(row[64].argmax())
        weights = band_matrix(front_end)[:, loudest]
        assert float(weights[256]) > 0  # bin 256 of the transform is 3,000 Hz
        assert band is None or loudest == band


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_band_averages(preset):
    torch.testing.assert_close(band_matrix(PRESETS[preset]).sum(dim=0), torch.ones(128))


def test_ten_seconds_are_a_hop_of_3750_samples():
    assert PRESETS["mel"].hop == 3750


@pytest.mark.parametrize(
    "wrong",
    [{"axis": "bark"}, {"low_hz": 5000.0, "high_hz": 400.0}, {"axis": "log"}, {"window": 3}, {"clip_seconds": 0.5}],
)
def test_settings_that_give_no_transform_are_refused_by_name(wrong):
    with pytest.raises(UserError, match=list(wrong)[-1] if "axis" not in wrong else "axis|low_hz"):
        validated(FrontEnd, wrong, "front end")
