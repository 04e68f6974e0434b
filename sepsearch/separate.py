"""Mixture to voice: a network's spectrogram becomes a soft mask on the full short-time Fourier transform."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sepsearch.spectrogram import FRAMES, FrontEnd, band_matrix, clip_spectra, subset_rows

WINDOW = 4096
HOP = 1024


@cache
def _bin_weights(front_end: FrontEnd) -> Tensor:
    """(frequency of the full transform, band): where a frequency takes its mask from; rows add up to 1.

    Frequencies above the highest band or below the lowest take the mask of the nearest one.
    """
    bands = band_matrix(front_end)
    scale = front_end.window / WINDOW
    rows = torch.arange(WINDOW // 2 + 1).double().mul(scale).round().long().clamp(max=len(bands) - 1)
    weights = bands[rows] / bands.amax(dim=0)
    empty = weights.sum(dim=1) == 0
    centres = (bands * torch.arange(len(bands))[:, None]).sum(dim=0)
    nearest = (rows[empty, None] - centres[None]).abs().argmin(dim=1)
    weights[empty] = nn.functional.one_hot(nearest, bands.shape[1]).float()
    return weights / weights.sum(dim=1, keepdim=True)


@torch.inference_mode()
def clip_mask(
    network: nn.Module, front_end: FrontEnd, constant: float, mixture: NDArray[np.float32], clip: int
) -> Tensor:
    """Mask of one clip, float32 (frame 128, band 128) in [0, 1]: predicted amplitude / the mixture's.

    Args:
        network: (batch, 1, frame, band) → the same shape, log1p(constant · amplitude).
        mixture: waveform (sample,), 48 kHz; the clip's context is taken from it.
    """
    row = subset_rows(front_end, clip_spectra(front_end, mixture[None], clip), (1,), constant).float()
    predicted = network(row[None])[0, 0]
    amplitude = torch.expm1(row[0])
    return torch.where(amplitude > 0, torch.expm1(predicted) / amplitude, 0.0).clamp(0, 1)


def apply_mask(front_end: FrontEnd, mask: Tensor, mixture: NDArray[np.float32]) -> NDArray[np.float32]:
    """The masked waveform (sample,) of `mixture` (sample,), with the mixture's phase.

    `mask` is (frame, band), frames centred in hops from the waveform's beginning; between frames and bands it is
    interpolated.
    """
    audio = torch.from_numpy(mixture)
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(audio, WINDOW, HOP, window=window, center=True, pad_mode="constant", return_complex=True)
    times = torch.arange(spectrum.shape[1]) * (HOP / front_end.hop) - 0.5
    before = times.floor().clamp(0, len(mask) - 1)
    share = (times - before).clamp(0, 1)[:, None]
    after = (before + 1).clamp(max=len(mask) - 1)
    frames = mask[before.long()] * (1 - share) + mask[after.long()] * share  # (full frame, band)
    full = _bin_weights(front_end) @ frames.T  # (full frequency, full frame)
    return torch.istft(spectrum * full, WINDOW, HOP, window=window, length=len(audio)).numpy()


def separate_waveform(
    network: nn.Module, front_end: FrontEnd, constant: float, mixture: NDArray[np.float32]
) -> NDArray[np.float32]:
    """One instrument's part of a mixture, both (sample,) at 48 kHz; clips follow one another without overlap."""
    clips = max(1, -(-len(mixture) // front_end.clip_samples))
    network.eval()
    masks = [clip_mask(network, front_end, constant, mixture, clip) for clip in range(clips)]
    assert masks[0].shape[0] == FRAMES
    return apply_mask(front_end, torch.cat(masks), mixture)
