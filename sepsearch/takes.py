"""What the recordings hold: one pass over the audio that finds levels, takes used twice, and odd mixtures.

URMP's arrangements of one title share recordings: byte for byte, within one least significant bit, or scaled.
Hashes miss the last two kinds, so stems of one instrument are compared by normalised cross-correlation of their
waveforms at a low rate: two files of one take reach 1 at the right lag, two performances of the same notes do
not, since no player repeats the phase of every note.
"""

import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import TypeVar

import numpy as np

from sepsearch.recordings import RATE, Piece, Recordings, Stem, load_mixture, load_stem

Progress = Callable[[int, int], None]  # (steps done, steps in all)
Result = TypeVar("Result")

THRESHOLD = 0.98  # correlation from which two stems are one take
LONGEST_LAG = 30.0  # s: by how much the lead-ins of one take may differ
LEAST_OVERLAP = 0.7  # share of one stem's energy that must lie where the two overlap
LOW_RATE = 3_000  # Hz: of the waveforms that are compared
BLOCK, MARGIN, FINE = 16, 24, 16  # lags looked at together, lags around them, steps from one lag to the next
CANDIDATE = 0.3  # a tone of 1.2 kHz whose lag lies between two samples still reaches cos(0.4 pi) = 0.31
FRAME = RATE // 20  # samples: 50 ms, for which a player sounds or rests
SOUNDING = 1e-4, 1e-6  # in power: not 40 dB below the stem's loudest frame, nor 60 dB below full scale
LEAST_POWER = 1e-15  # -150 dB stands for nothing at all


@dataclass(frozen=True)
class StemFacts:
    """What one stem holds."""

    piece: str  # the piece's name
    stem: str  # the stem's name, such as `1_vn`
    instrument: str
    sha256: str  # of the file's bytes
    seconds: float
    rms: float  # over the whole stem, full scale = 1
    peak: float  # full scale = 1
    sounding: float  # share of the 50 ms frames in which the player is heard


@dataclass(frozen=True)
class MixtureCheck:
    """How far the mixture that came with a piece is from the plain sum of its stems; None where none came."""

    piece: str
    deviation_db: float | None  # power of (mixture - sum) relative to the mixture
    gain_db: float | None  # the gain with which the sum fits the mixture best, in least squares
    fitted_db: float | None  # the deviation that is left with that gain


@dataclass(frozen=True)
class SharedTake:
    """Two stems that are one recording."""

    first: tuple[str, str]  # piece and stem
    second: tuple[str, str]
    correlation: float  # of the waveforms where they overlap, up to 1; below 0 if one has its polarity inverted
    gain: float  # second / first
    lag_seconds: float  # by how much the second is later


@dataclass(frozen=True)
class Survey:
    """All that one pass over the recordings tells."""

    stems: tuple[StemFacts, ...]  # in the order of the recordings
    mixtures: tuple[MixtureCheck, ...]  # one for each piece
    shared: tuple[SharedTake, ...]
    groups: tuple[tuple[str, ...], ...]  # see `title_groups`


@dataclass(frozen=True)
class _Wave:
    """A stem's waveform at `LOW_RATE`, scaled to an energy of 1."""

    facts: StemFacts
    samples: np.ndarray  # float32, shape (time,): whole blocks of `BLOCK` samples
    scale: float  # what the waveform was divided by
    energy: np.ndarray  # float64, shape (blocks + 1,): energy before each block


@dataclass(frozen=True)
class _Scan:
    """One piece, read."""

    waves: tuple[_Wave, ...]
    mixture: MixtureCheck


def survey(recordings: Recordings, threshold: float = THRESHOLD, progress: Progress | None = None) -> Survey:
    """Read every stem and mixture once, and compare stems of the same instrument across pieces.

    `progress` is told the steps done and the steps in all: one for each piece read and each pair compared.
    Raises `UserError` for audio that `load_stem` refuses.
    """
    pairs = _pairs(recordings)
    steps = _Steps(progress, len(recordings.pieces) + len(pairs))
    scans = _scan(recordings, steps)
    waves = {(wave.facts.piece, wave.facts.stem): wave for scan in scans for wave in scan.waves}
    shared = _compare(waves, pairs, threshold, steps)
    return Survey(
        stems=tuple(wave.facts for wave in waves.values()),
        mixtures=tuple(scan.mixture for scan in scans),
        shared=shared,
        groups=title_groups(recordings, shared),
    )


def check_mixtures(recordings: Recordings, progress: Progress | None = None) -> tuple[MixtureCheck, ...]:
    """Compare the mixture that came with each piece with the sum of its stems; part of `survey`."""
    return tuple(scan.mixture for scan in _scan(recordings, _Steps(progress, len(recordings.pieces))))


def find_shared_takes(
    recordings: Recordings, threshold: float = THRESHOLD, progress: Progress | None = None
) -> tuple[SharedTake, ...]:
    """Find stems of one instrument in different pieces that are one recording, sorted; part of `survey`.

    Gain, polarity, length and a lead-in up to `LONGEST_LAG` longer or shorter make no difference.
    """
    return survey(recordings, threshold, progress).shared


def title_groups(recordings: Recordings, shared: Iterable[SharedTake]) -> tuple[tuple[str, ...], ...]:
    """All titles, sorted and in groups that share takes: a split must keep each group on one side.

    A title that shares nothing with another is a group of its own.
    """
    titles = {piece.name: piece.title for piece in recordings.pieces}
    group = {title: {title} for title in titles.values()}
    for take in shared:
        one, other = group[titles[take.first[0]]], group[titles[take.second[0]]]
        if one is not other:
            one |= other
            group.update(dict.fromkeys(other, one))
    return tuple(sorted({tuple(sorted(members)) for members in group.values()}))


class _Steps:
    """Counts the steps of a long task for a progress callback, which is called from the caller's own thread."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, count: int = 1) -> None:
        self.done += count
        if self.progress is not None:
            self.progress(self.done, self.total)


def _in_threads(function: Callable[..., Result], calls: list[tuple], steps: _Steps) -> list[Result]:
    """Call a function with each tuple of arguments, on all cores; the first error stops the rest.

    Threads are enough: libsndfile, hashlib, soxr and pocketfft all let go of the interpreter while they work.
    """
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, 16))
    try:
        running = [pool.submit(function, *arguments) for arguments in calls]
        for future in as_completed(running):
            future.result()
            steps()
        return [future.result() for future in running]
    finally:
        pool.shutdown(cancel_futures=True)


def _scan(recordings: Recordings, steps: _Steps) -> list[_Scan]:
    """Read all pieces, the longest first so that no core is left with one at the end; in the recordings' order."""
    order = sorted(recordings.pieces, key=lambda piece: -piece.seconds * len(piece.stems))
    scans = _in_threads(_scan_piece, [(piece,) for piece in order], steps)
    named = {piece.name: scan for piece, scan in zip(order, scans, strict=True)}
    return [named[piece.name] for piece in recordings.pieces]


def _scan_piece(piece: Piece) -> _Scan:
    total = np.zeros(max(stem.samples for stem in piece.stems), np.float32)
    waves = []
    for stem in piece.stems:
        audio = load_stem(stem)
        total[: len(audio)] += audio
        waves.append(_wave(_facts(piece, stem, audio), audio))
    return _Scan(tuple(waves), _check_mixture(piece, total))


def _facts(piece: Piece, stem: Stem, audio: np.ndarray) -> StemFacts:
    with open(stem.path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    whole = len(audio) - len(audio) % FRAME
    power = _power(audio[:whole].reshape(-1, FRAME))
    rest = _power(audio[None, whole:])
    mean = float(power.sum() * FRAME + rest.sum() * (len(audio) - whole)) / len(audio)
    power = power if whole else rest
    heard = power > max(power.max() * SOUNDING[0], SOUNDING[1])
    return StemFacts(
        piece=piece.name,
        stem=stem.name,
        instrument=stem.instrument,
        sha256=digest,
        seconds=stem.seconds,
        rms=mean**0.5,
        peak=float(max(audio.max(), -audio.min())),
        sounding=float(np.mean(heard)),
    )


def _power(frames: np.ndarray) -> np.ndarray:
    """Mean square of each frame: (frames, samples) -> (frames,), float64."""
    return np.einsum("ij,ij->i", frames, frames).astype(np.float64) / max(frames.shape[1], 1)


def _check_mixture(piece: Piece, total: np.ndarray) -> MixtureCheck:
    """Compare a piece's mixture with the sum of its stems, `total`, shape (samples,)."""
    mixture = load_mixture(piece)
    if mixture is None:
        return MixtureCheck(piece.name, None, None, None)
    length = max(len(mixture), len(total))
    mixture, total = (np.pad(audio, (0, length - len(audio))) for audio in (mixture, total))
    power = float(mixture @ mixture)
    # The gain g that makes |mixture - g total|² least is <mixture, total> / <total, total>.
    gain = float(mixture @ total) / max(float(total @ total), LEAST_POWER)
    plain, fitted = mixture - total, mixture - np.float32(gain) * total
    return MixtureCheck(
        piece.name,
        deviation_db=_decibels(float(plain @ plain) / power),
        gain_db=_decibels(gain**2),
        fitted_db=_decibels(float(fitted @ fitted) / power),
    )


def _decibels(power: float) -> float:
    return 10 * math.log10(max(power, LEAST_POWER))


def _wave(facts: StemFacts, audio: np.ndarray) -> _Wave:
    import soxr

    low = soxr.resample(audio, RATE, LOW_RATE, quality="LQ")
    low = np.pad(low - low.mean(), (0, -len(low) % BLOCK))
    energy = np.concatenate(([0.0], np.cumsum(_power(low.reshape(-1, BLOCK)) * BLOCK)))
    scale = max(float(energy[-1]), LEAST_POWER) ** 0.5
    return _Wave(facts, low / np.float32(scale), scale, energy / scale**2)


Key = tuple[str, str]  # piece and stem


def _pairs(recordings: Recordings) -> list[tuple[Key, Key]]:
    """The pairs of stems that could be one take: of one instrument, in different pieces."""
    players: dict[str, list[Key]] = defaultdict(list)
    for piece in recordings.pieces:
        for stem in piece.stems:
            players[stem.instrument].append((piece.name, stem.name))
    return [pair for keys in players.values() for pair in combinations(keys, 2) if pair[0][0] != pair[1][0]]


def _compare(
    waves: dict[Key, _Wave], pairs: list[tuple[Key, Key]], threshold: float, steps: _Steps
) -> tuple[SharedTake, ...]:
    """The pairs that are one take, sorted. Pairs of about one length go together and share their spectra."""
    import scipy.fft

    sizes = defaultdict(list)
    for one, other in pairs:
        longest = max(len(waves[one].samples), len(waves[other].samples))
        sizes[_transform_size(longest + _most_lag(longest) + BLOCK + MARGIN)].append((one, other))
    shared = []
    for size, alike in sizes.items():
        keys = sorted({key for pair in alike for key in pair})
        transforms = _in_threads(scipy.fft.rfft, [(waves[key].samples, size) for key in keys], _Steps(None, 0))
        spectra = dict(zip(keys, transforms, strict=True))
        calls = [(waves[one], waves[other], spectra[one], spectra[other], size) for one, other in alike]
        matches = _in_threads(_match, calls, steps)
        shared += [take for take in matches if take is not None and abs(take.correlation) >= threshold]
    return tuple(sorted(shared, key=lambda take: (take.first, take.second)))


def _transform_size(least: int) -> int:
    """The next power of two, or three quarters of it: few sizes, all quick to transform."""
    power = 1 << (least - 1).bit_length()
    return power * 3 // 4 if power * 3 // 4 >= least else power


def _most_lag(longest: int) -> int:
    """The greatest lag to look at between waveforms of at most `longest` samples: whole blocks of lags."""
    return -(-min(round(LONGEST_LAG * LOW_RATE), longest) // BLOCK) * BLOCK


def _match(one: _Wave, other: _Wave, spectrum: np.ndarray, other_spectrum: np.ndarray, size: int) -> SharedTake | None:
    """The lag at which two waveforms are most alike; None if they are nowhere alike.

    Correlation theorem: the inverse transform of conj(X) Y is the sum of x[t] y[t + lag] over t, for every lag.
    Divided by the root of the energies that x and y have where they overlap, it is the cosine of the angle
    between them. A `size` of the longest plus the greatest lag keeps the lags that wrap around out of the way.
    """
    import scipy.fft

    names = (one.facts.piece, one.facts.stem), (other.facts.piece, other.facts.stem)
    if one.facts.sha256 == other.facts.sha256:
        return SharedTake(*names, correlation=1.0, gain=1.0, lag_seconds=0.0)
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
    return SharedTake(
        *names,
        correlation=max(-1.0, min(1.0, value / (here * there) ** 0.5)),
        gain=value / here * other.scale / one.scale,
        lag_seconds=float(lag / LOW_RATE),
    )


def _overlap(one: _Wave, other: _Wave, lags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
