"""The front end: waveforms of a piece's players to one spectrogram per subset of players, and masks back to audio.

A row is SCALE · log1p(c · a): a the amplitude (root of the mean power) in a band of the short-time Fourier
transform, c one number for all recordings. The transform is linear, so the power of any mixture follows from the
players' powers and cross terms, |Σ Xᵢ|² = Σ|Xᵢ|² + 2 Σ Re(Xᵢ Xⱼ*): a quintet's 31 mixtures cost 15 products instead
of 31 transforms.
"""

import math
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from sepsearch.audio.reading import RATE
from sepsearch.utils.validation import STRICT, from_mapping, validated

FRAMES = 128
BINS = 128
ROW_BYTES = FRAMES * BINS * 2  # float16
# c = LEVEL / RMS of the recordings: noise at the recordings' level becomes log1p(0.3) = 0.26, loud partials about 2.
# Measured against 1, 3 and 10 (docs/decisions.md): the more the quiet counts, the worse the separated audio.
LEVEL = 0.3
# Rows of about unit RMS. It changes no ratio, but at a quarter of it a third of the reference networks die at once.
SCALE = 4.0


@dataclass(frozen=True, config=STRICT)
class FrontEnd:
    """Settings of the spectrogram: `axis` of the bands from `low_hz` to `high_hz` (Hz), `clip_seconds` per row.

    A clip is 128 frames, so the hop is clip_seconds · 48,000 / 128 samples; `window` is the Hann window in samples.
    Raises pydantic's `ValidationError` for settings that give no transform.
    """

    axis: Literal["mel", "log", "linear"] = "mel"
    low_hz: Annotated[float, Field(ge=0)] = 0.0
    high_hz: Annotated[float, Field(gt=0)] = 12_000.0
    clip_seconds: Annotated[float, Field(ge=1, le=60)] = 10.0
    window: Annotated[int, Field(ge=256, le=65536, multiple_of=2)] = 4096

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high, nyquist = self.low_hz, self.high_hz, RATE / 2
        if not low < high <= nyquist:
            raise ValueError(f"low_hz {low:g} and high_hz {high:g}, expected 0 ≤ low < high ≤ {nyquist:g}")
        if self.axis == "log" and low == 0:
            raise ValueError("low_hz is 0, expected above 0 on a logarithmic axis (30, say)")
        if (self.clip_seconds * RATE) % FRAMES:
            raise ValueError(f"clip_seconds is {self.clip_seconds:g}, expected whole hops of clip_seconds / {FRAMES}")
        return self

    @property
    def hop(self) -> int:
        """Samples between frames."""
        return int(self.clip_seconds * RATE) // FRAMES

    @property
    def bands_per_octave(self) -> float | None:
        """Bands of an octave, rounded to a hundredth; None without a logarithmic axis."""
        return round((BINS + 1) / math.log2(self.high_hz / self.low_hz), 2) if self.axis == "log" else None

    @property
    def clip_samples(self) -> int:
        """Samples of a clip."""
        return self.hop * FRAMES


# A field of a pydantic class that may be given as the front end's settings.
FrontEndField = Annotated[FrontEnd, from_mapping(lambda settings: validated(FrontEnd, settings, ""))]
PRESETS: dict[str, FrontEnd] = {
    "mel": FrontEnd(),
    "log": FrontEnd(axis="log", low_hz=30.0),
    # 15 bands an octave from C1 on, and a window that resolves them from 170 Hz on: harmonics are whole bands apart.
    "log15": FrontEnd(axis="log", low_hz=32.7, high_hz=round(32.7 * 2 ** ((BINS + 1) / 15), 3), window=8192),
    # The reference network's plain linear bins, 0 to 24 kHz.
    "report": FrontEnd(axis="linear", high_hz=24_000.0),
}


def compression_constant(rms: float) -> float:
    """c of SCALE · log1p(c · a) for recordings whose stems have this root mean square (full scale = 1)."""
    return LEVEL / rms


def count_clips(front_end: FrontEnd, samples: int) -> int:
    """Clips of a take of `samples`; a last one that is less than half full is left out, unless it is the only one."""
    return max(1, int(samples / front_end.clip_samples + 0.5))


@cache
def band_matrix(front_end: FrontEnd) -> Tensor:
    """Weights (frequency, bin), float32, that average power over each band; frequencies end where the bands do.

    mel: triangles on the mel scale 2595·log10(1 + f/700) (O'Shaughnessy 1987); log: triangles on a logarithmic axis;
    linear: rectangles. Triangles are never narrower than the transform's own resolution.
    """
    spacing = RATE / front_end.window
    count = min(front_end.window // 2 + 1, math.ceil(front_end.high_hz / spacing) + 2)
    frequencies = np.arange(count) * spacing
    if front_end.axis == "linear":
        edges = np.linspace(front_end.low_hz, front_end.high_hz, BINS + 1)
        weights = ((frequencies[:, None] >= edges[:-1]) & (frequencies[:, None] < edges[1:])).astype(float)
        nearest = np.abs(frequencies[:, None] - (edges[:-1] + edges[1:]) / 2).argmin(axis=0)
        empty = weights.sum(axis=0) == 0
        weights[nearest[empty], np.flatnonzero(empty)] = 1.0
    else:
        centres = _axis_points(front_end, BINS + 2)
        left = np.maximum(np.diff(centres)[:-1], spacing)
        right = np.maximum(np.diff(centres)[1:], spacing)
        offset = frequencies[:, None] - centres[1:-1]
        weights = np.clip(np.where(offset < 0, 1 + offset / left, 1 - offset / right), 0, None)
    return torch.from_numpy((weights / weights.sum(axis=0)).astype(np.float32))


def _axis_points(front_end: FrontEnd, count: int) -> NDArray[np.float64]:
    """`count` frequencies in Hz, evenly spaced on the front end's mel or logarithmic axis."""
    low, high = front_end.low_hz, front_end.high_hz
    if front_end.axis == "log":
        return np.geomspace(low, high, count)
    mel = np.linspace(2595 * math.log10(1 + low / 700), 2595 * math.log10(1 + high / 700), count)
    return 700 * (np.power(10, mel / 2595) - 1)


@cache
def _window(front_end: FrontEnd) -> Tensor:
    """Hann window scaled to unit energy, so that white noise of RMS σ has the mean power σ² in every band."""
    window = torch.hann_window(front_end.window)
    return window / window.square().sum().sqrt()


def clip_spectra(front_end: FrontEnd, waveforms: NDArray[np.float32], begin: int) -> Tensor:
    """Short-time spectra of one clip.

    Args:
        waveforms: (player, sample), float32, 48 kHz.
        begin: the clip's first sample; past both ends of the recording there is silence.

    Returns:
        complex64 (player, frame 128, frequency), as many frequencies as `band_matrix` has rows.
    """
    context = max(0, front_end.window - front_end.hop)  # frames are centred in their hop: half of this on either side
    start = begin - context // 2
    length = (FRAMES - 1) * front_end.hop + front_end.window
    stop = start + length
    piece = waveforms[:, max(0, start) : max(0, min(stop, waveforms.shape[1]))]
    before = max(0, -start)
    padded = np.pad(piece, ((0, 0), (before, length - before - piece.shape[1])))
    samples, window = torch.from_numpy(padded), _window(front_end)
    spectra = torch.stft(samples, front_end.window, front_end.hop, window=window, center=False, return_complex=True)
    return spectra.transpose(1, 2)[..., : band_matrix(front_end).shape[0]]


@cache
def _mixing_matrix(players: int, subsets: tuple[int, ...]) -> Tensor:
    """(subset, pair): how often the product of players i ≤ j counts in the power of a subset (bit masks)."""
    pairs = _pairs(players)
    rows = [[(1 if i == j else 2) * (s >> i & 1) * (s >> j & 1) for i, j in pairs] for s in subsets]
    return torch.tensor(rows, dtype=torch.float32)


def _pairs(players: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(players) for j in range(i, players)]


def subset_rows(front_end: FrontEnd, spectra: Tensor, subsets: tuple[int, ...], constant: float) -> Tensor:
    """One row per subset of players, as if their waveforms had been summed before the transform.

    Args:
        spectra: complex64 (player, frame, frequency) of one clip, from `clip_spectra`.
        subsets: bit masks; bit i is player i.
        constant: c of SCALE · log1p(c · a).

    Returns:
        float16 (subset, frame, bin).
    """
    bands = band_matrix(front_end)
    players, frames, _ = spectra.shape
    real, imaginary = spectra.real.contiguous(), spectra.imag.contiguous()
    products = torch.stack(
        [(real[i] * real[j] + imaginary[i] * imaginary[j]) @ bands for i, j in _pairs(players)]
    )  # (pair, frame, bin)
    power = _mixing_matrix(players, subsets) @ products.flatten(1)
    amplitude = power.clamp_(min=0).sqrt_().view(len(subsets), frames, BINS)
    return compress(amplitude, constant).to(torch.float16)


def compress(amplitude: Tensor, constant: float) -> Tensor:
    """Amplitudes as they stand in rows, of any shape."""
    return SCALE * torch.log1p(constant * amplitude)


def expand(values: Tensor, constant: float) -> Tensor:
    """The amplitudes of values that `compress` made."""
    return torch.expm1(values / SCALE) / constant


def all_subsets(players: int) -> tuple[int, ...]:
    """Bit masks of the 2^players − 1 non-empty subsets, in counting order."""
    return tuple(range(1, 2**players))


def iterate_clips(
    front_end: FrontEnd, waveforms: NDArray[np.float32], subsets: tuple[int, ...], constant: float
) -> Iterator[tuple[int, Tensor]]:
    """(clip number, float16 (subset, frame, bin)) for every clip of a piece; `waveforms` are (player, sample)."""
    for clip in range(count_clips(front_end, waveforms.shape[1])):
        spectra = clip_spectra(front_end, waveforms, clip * front_end.clip_samples)
        yield clip, subset_rows(front_end, spectra, subsets, constant)
