"""Whether two waveforms are one recording: normalised cross-correlation at a low rate, at every lag that is likely.

Two files of one take reach 1 at the right lag, whatever their gain, polarity and lead-in; two performances of the
same notes do not, since no player repeats the phase of every note.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np

from sepsearch.audio.reading import RATE, frame_power
from sepsearch.utils.progress import in_threads

LONGEST_LAG = 30.0  # s: by how much the lead-ins of one take may differ
LEAST_OVERLAP = 0.7  # share of one waveform's energy that must lie where the two overlap
LOW_RATE = 3_000  # Hz: of the waveforms that are compared
BLOCK, MARGIN, FINE = 16, 24, 16  # lags looked at together, lags around them, steps from one lag to the next
CANDIDATE = 0.3  # a tone of 1.2 kHz whose lag lies between two samples still reaches cos(0.4 pi) = 0.31
LEAST_POWER = 1e-15  # -150 dB stands for nothing at all

Name = TypeVar("Name")


@dataclass(frozen=True)
class Wave:
    """A waveform at `LOW_RATE`, scaled to an energy of 1."""

    samples: np.ndarray  # float32, shape (time,): whole blocks of `BLOCK` samples
    scale: float  # what the waveform was divided by
    energy: np.ndarray  # float64, shape (blocks + 1,): energy before each block


@dataclass(frozen=True)
class Match:
    """How alike two waveforms are at the lag at which they are most alike."""

    correlation: float  # where they overlap, up to 1; below 0 if one has its polarity inverted
    gain: float  # second / first
    lag_seconds: float  # by how much the second is later


def low_wave(audio: np.ndarray) -> Wave:
    """What is compared of audio at `RATE`, float32, shape (samples,)."""
    import soxr

    low = soxr.resample(audio, RATE, LOW_RATE, quality="LQ")
    low = np.pad(low - low.mean(), (0, -len(low) % BLOCK))
    energy = np.concatenate(([0.0], np.cumsum(frame_power(low.reshape(-1, BLOCK)) * BLOCK)))
    scale = max(float(energy[-1]), LEAST_POWER) ** 0.5
    return Wave(low / np.float32(scale), scale, energy / scale**2)


def match_pairs(
    waves: Mapping[Name, Wave], pairs: Sequence[tuple[Name, Name]], advance: Callable[[], object] | None = None
) -> dict[tuple[Name, Name], Match]:
    """The best match of each pair of waves; pairs that are nowhere alike are left out.

    Pairs of about one length go together and share their spectra. `advance` is called as pairs are done.
    """
    sizes: dict[int, list[tuple[Name, Name]]] = defaultdict(list)
    for one, other in pairs:
        longest = max(len(waves[one].samples), len(waves[other].samples))
        sizes[_transform_size(longest + _most_lag(longest) + BLOCK + MARGIN)].append((one, other))
    found: dict[tuple[Name, Name], Match] = {}
    for size, alike in sizes.items():
        matches = _match_alike(waves, alike, size, advance)
        found |= {pair: match for pair, match in zip(alike, matches, strict=True) if match is not None}
    return found


def _match_alike(
    waves: Mapping[Name, Wave], pairs: Sequence[tuple[Name, Name]], size: int, advance: Callable[[], object] | None
) -> list[Match | None]:
    """The best match of each pair, all by transforms of one size; the spectra are kept no longer than needed."""
    import scipy.fft

    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    transforms = in_threads(lambda name: scipy.fft.rfft(waves[name].samples, size), names)
    spectra = dict(zip(names, transforms, strict=True))

    def match(pair: tuple[Name, Name]) -> Match | None:
        one, other = pair
        return _match(waves[one], waves[other], spectra[one], spectra[other], size)

    return in_threads(match, pairs, advance)


def _transform_size(least: int) -> int:
    """The next power of two, or three quarters of it: few sizes, all quick to transform."""
    power = 1 << (least - 1).bit_length()
    return power * 3 // 4 if power * 3 // 4 >= least else power


def _most_lag(longest: int) -> int:
    """The greatest lag to look at between waveforms of at most `longest` samples: whole blocks of lags."""
    return -(-min(round(LONGEST_LAG * LOW_RATE), longest) // BLOCK) * BLOCK


def _match(one: Wave, other: Wave, spectrum: np.ndarray, other_spectrum: np.ndarray, size: int) -> Match | None:
    """The lag at which two waveforms are most alike; None if they are nowhere alike.

    Correlation theorem: the inverse transform of conj(X) Y is the sum of x[t] y[t + lag] over t, for every lag.
    Divided by the root of the energies that x and y have where they overlap, it is the cosine of the angle
    between them. A `size` of the longest plus the greatest lag keeps the lags that wrap around out of the way.
    """
    import scipy.fft

    product = scipy.fft.irfft(np.conj(spectrum) * other_spectrum, size)
    most = _most_lag(max(len(one.samples), len(other.samples)))
    lags = np.concatenate((product[-most - MARGIN :], product[: most + MARGIN]))  # from -most - MARGIN on
    starts = np.arange(-most, most, BLOCK)  # the first lag of each block
    peaks = np.abs(lags[MARGIN:-MARGIN]).reshape(-1, BLOCK).max(axis=1)
    energy, other_energy = _overlap(one, other, starts // BLOCK)
    enough = (np.maximum(energy, other_energy) >= LEAST_OVERLAP) & (np.minimum(energy, other_energy) > 1e-4)
    norm = np.sqrt(np.where(enough, energy * other_energy, np.inf))
    likely = np.flatnonzero(peaks >= CANDIDATE * norm)
    if not len(likely):
        return None
    windows = lags[(starts[likely] + most)[:, None] + np.arange(BLOCK + 2 * MARGIN)]
    fine = windows @ _interpolation()  # (blocks, lags) -> (blocks, finer lags)
    block, step = np.unravel_index(np.argmax(np.abs(fine) / norm[likely, None]), fine.shape)
    lag = starts[likely[block]] + step / FINE
    here, there = (float(value[0]) for value in _overlap(one, other, np.array([round(lag / BLOCK)])))
    value = float(fine[block, step])
    return Match(
        correlation=max(-1.0, min(1.0, value / (here * there) ** 0.5)),
        gain=value / here * other.scale / one.scale,
        lag_seconds=float(lag / LOW_RATE),
    )


def _overlap(one: Wave, other: Wave, lags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The energies of two waveforms where they overlap when `other` comes `lags` blocks later, each (lags,)."""
    length, other_length = len(one.energy) - 1, len(other.energy) - 1
    first = np.clip(-lags, 0, length)
    last = np.clip(other_length - lags, first, length)
    begin, end = np.clip(first + lags, 0, other_length), np.clip(last + lags, 0, other_length)
    return one.energy[last] - one.energy[first], other.energy[end] - other.energy[begin]


@cache
def _interpolation() -> np.ndarray:
    """Values between the lags of a block, `FINE` to a lag: float32, (BLOCK + 2 MARGIN, BLOCK * FINE).

    A Kaiser-windowed sinc, exact for practical purposes below nine tenths of the band; without it a tone of
    1 kHz whose right lag falls between two samples would lose up to 1 - cos(pi / 3) = half of its correlation.
    """
    wanted = MARGIN + np.arange(BLOCK * FINE) / FINE
    distance = wanted[None, :] - np.arange(BLOCK + 2 * MARGIN)[:, None]
    inside = np.sqrt(np.clip(1 - (distance / MARGIN) ** 2, 0, None))
    window = np.where(np.abs(distance) < MARGIN, np.i0(6 * inside) / np.i0(6.0), 0)
    return (np.sinc(distance) * window).astype(np.float32)
