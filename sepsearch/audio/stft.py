"""Masks laid on the full short-time Fourier transform of a recording, block by block, at the recording's own rate."""

import math
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sepsearch.audio.spectrogram import BINS, RATE, FrontEnd, band_matrix

WINDOW = 4096  # samples at 48 kHz; at other rates about as many seconds
OVERLAP = 4  # windows over every sample
STEP = 64  # windows that are transformed at once
# The least that masks are divided by, see `divide_masks`.
SHARED = 1.0  # no part of the sound is in two voices at full level; voices may add up to less than the mixture
NAMED = 1e-3  # the voices are all that plays: they add up to the mixture. Masks 60 dB below it are noise, and fade out


def divide_masks(masks: Sequence[Tensor], least: float) -> list[Tensor]:
    """Soft masks of several voices, of any equal shape, divided by their sum, but by no less than `least`.

    They add up to at most 1, and to 1 wherever their sum was `least` or more.
    """
    total = sum(masks[1:], masks[0]).clamp(min=least)
    return [mask / total for mask in masks]


class MaskTrack:
    """The masks of one voice that are known and still needed, `first` the number of the first one's frame.

    `written`: whether the voice is given, or does no more than take its part where masks are divided.
    """

    def __init__(self, front_end: FrontEnd, rate: int, written: bool = True):
        self.written = written
        context = max(0, front_end.window - front_end.hop) // 2
        self._centre = (front_end.window / 2 - context) / front_end.hop  # of a frame, in hops
        self._pace = RATE / rate / front_end.hop  # frames a sample of the recording
        self._weights = bin_weights(front_end, rate).T.contiguous()
        self._masks, self._first = torch.zeros((0, BINS)), 0
        self.complete = False

    def feed(self, masks: Tensor) -> None:
        self._masks = torch.cat([self._masks, masks])

    def reach(self) -> float:
        """The last sample of the recording that a mask can be interpolated for."""
        return math.inf if self.complete else (self._first + len(self._masks) - 2 + self._centre) / self._pace

    def full_masks(self, samples: Tensor) -> Tensor:
        """(window, frequency of the full transform) for windows centred at these samples, in order."""
        times = samples * self._pace - self._centre
        before = times.floor().clamp(self._first, self._first + len(self._masks) - 1)
        share = (times - before).clamp(0, 1).float()[:, None]
        at = before.long() - self._first
        masks = torch.lerp(self._masks[at], self._masks[(at + 1).clamp(max=len(self._masks) - 1)], share)
        self._masks, self._first = self._masks[int(at[-1]) :], self._first + int(at[-1])
        return masks @ self._weights


class MaskedTransform:
    """Channels in blocks, and masks → voices: `torch.stft`, times masks, `torch.istft`, `STEP` windows at a time.

    Hann windows overlap by three quarters. Window n is centred n - 1 hops from the first sample: with silence before
    and behind, every sample lies in OVERLAP windows, and a mask of 1 gives the mixture back. Each inverse transform
    begins with the OVERLAP - 1 windows before, so that its result does not depend on where blocks end. Masks are
    divided by their sum where `least` is given (`divide_masks`).
    """

    def __init__(self, rate: int, tracks: Sequence[MaskTrack], least: float | None):
        self._tracks, self._least = tracks, least
        self._size = transform_size(rate)
        self._hop = self._size // OVERLAP
        self._window = torch.hann_window(self._size)
        self._audio: Tensor | None = None  # (channel, sample) from the beginning of the next window on
        self._before: list[Tensor] = []  # by voice: (channel, frequency, window), the last OVERLAP - 1
        self._next = 0
        self._length = 0  # samples of the recording
        self._complete = False

    def feed(self, block: NDArray[np.float32]) -> None:
        self._length += block.shape[1]
        audio = torch.from_numpy(np.ascontiguousarray(block, dtype=np.float32))
        if self._audio is None:
            self._audio = torch.zeros((len(audio), self._size - self._hop))
            silence = torch.zeros((len(audio), self._size // 2 + 1, OVERLAP - 1), dtype=torch.complex64)
            self._before = [silence] * len(self._tracks)
        self._audio = torch.cat([self._audio, audio], dim=1)

    def finish(self) -> None:
        assert self._audio is not None
        self._complete = True
        self._audio = nn.functional.pad(self._audio, (0, self._size))

    def voices(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Mixture (channel, sample) and written voices (voice, channel, sample), as far as masks are known."""
        while (count := min(STEP, self._ready())) > 0:
            mixture, voices = self._transform(count)
            begin = (self._next - OVERLAP + 1) * self._hop  # in the recording
            self._next += count
            part = slice(max(0, -begin), max(0, min(count * self._hop, self._length - begin)))
            if part.start < part.stop:
                yield mixture[:, part].numpy(), voices[..., part].numpy()

    def _ready(self) -> int:
        """Windows that can be transformed now."""
        if self._audio is None:
            return 0
        if self._complete:
            return -(-self._length // self._hop) + OVERLAP - 1 - self._next
        reach = min(track.reach() for track in self._tracks)
        known = reach // self._hop + 2 - self._next if reach >= 0 else 0
        return int(min((self._audio.shape[1] - self._size) // self._hop + 1, known))

    def _transform(self, count: int) -> tuple[Tensor, Tensor]:
        """The samples that `count` more windows complete: mixture and voices."""
        assert self._audio is not None
        done = count * self._hop
        samples = self._audio[:, : done - self._hop + self._size]
        spectrum = torch.stft(
            samples, self._size, self._hop, window=self._window, center=False, return_complex=True
        )  # (channel, frequency, window)
        centres = torch.arange(self._next - 1, self._next - 1 + count).double() * self._hop
        masks = [track.full_masks(centres).T for track in self._tracks]
        if self._least is not None:
            masks = divide_masks(masks, self._least)
        voices = []
        for voice, (track, mask) in enumerate(zip(self._tracks, masks, strict=True)):
            if not track.written:
                continue
            masked = torch.cat([self._before[voice], spectrum * mask], dim=2)
            self._before[voice] = masked[..., 1 - OVERLAP :].clone()
            # From the centre of the first window on; the next hop is the first that OVERLAP windows cover.
            inverse = torch.istft(masked, self._size, self._hop, window=self._window)
            voices.append(inverse[:, self._hop : self._hop + done])
        self._audio = self._audio[:, done:]
        return samples[:, :done], torch.stack(voices)


def transform_size(rate: int) -> int:
    """Samples of a window of the full transform: `WINDOW` at 48 kHz, elsewhere about as long."""
    from scipy.fft import next_fast_len  # sizes without large prime factors

    return OVERLAP * int(next_fast_len(round(WINDOW / OVERLAP * rate / RATE), real=True))


@cache
def bin_weights(front_end: FrontEnd, rate: int) -> Tensor:
    """(frequency of the full transform, band): where a frequency takes its mask from; rows add up to 1.

    Frequencies above the highest band or below the lowest take the mask of the nearest one.
    """
    bands = band_matrix(front_end)
    size = transform_size(rate)
    scale = front_end.window / RATE * rate / size
    rows = torch.arange(size // 2 + 1).double().mul(scale).round().long().clamp(max=len(bands) - 1)
    weights = bands[rows] / bands.amax(dim=0)
    empty = weights.sum(dim=1) == 0
    centres = (bands * torch.arange(len(bands))[:, None]).sum(dim=0)
    nearest = (rows[empty, None] - centres[None]).abs().argmin(dim=1)
    weights[empty] = nn.functional.one_hot(nearest, bands.shape[1]).float()
    return weights / weights.sum(dim=1, keepdim=True)
