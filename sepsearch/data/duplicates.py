"""What the recordings hold: one pass over the audio that finds levels, takes used twice, and odd mixtures.

URMP's arrangements of one title share recordings: byte for byte, within one least significant bit, or scaled.
Hashes miss the last two kinds, so stems of one instrument are compared by the correlation of their waveforms.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from sepsearch.audio.reading import RATE, frame_power
from sepsearch.data.correlation import LEAST_POWER, Match, Wave, low_wave, match_pairs
from sepsearch.data.recordings import Piece, Recordings, Stem, load_mixture, load_stem
from sepsearch.utils.errors import UserError, one_line, raise_all
from sepsearch.utils.files import file_sha256
from sepsearch.utils.progress import Steps, in_threads

Progress = Callable[[int, int], None]  # (steps done, steps in all)
Key = tuple[str, str]  # piece and stem

THRESHOLD = 0.98  # correlation from which two stems are one take
FRAME = RATE // 20  # samples: 50 ms, for which a player sounds or rests
SOUNDING = 1e-4, 1e-6  # in power: not 40 dB below the stem's loudest frame, nor 60 dB below full scale


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
    sounding: float  # share of the 50 ms frames in which the player is audible


@dataclass(frozen=True)
class MixtureCheck:
    """How far the mixture that came with a piece is from the plain sum of its stems; None where none is compared."""

    piece: str
    deviation_db: float | None  # power of (mixture - sum) relative to the mixture
    gain_db: float | None  # the gain with which the sum fits the mixture best, in least squares
    fitted_db: float | None  # the deviation that is left with that gain
    problem: str | None = None  # why the mixture that came was not compared


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
    """Measurements of one pass over the recordings."""

    stems: tuple[StemFacts, ...]  # in the order of the recordings
    mixtures: tuple[MixtureCheck, ...]  # one for each piece
    shared: tuple[SharedTake, ...]
    groups: tuple[tuple[str, ...], ...]  # see `title_groups`


@dataclass(frozen=True)
class _Scan:
    """One piece, read."""

    facts: tuple[StemFacts, ...]
    waves: tuple[Wave, ...]  # of the same stems
    mixture: MixtureCheck | None
    problems: tuple[UserError, ...]  # of the other stems; then there is no mixture check


def survey(
    recordings: Recordings,
    threshold: float = THRESHOLD,
    progress: Progress | None = None,
    hashes: Mapping[Path, str] | None = None,
) -> Survey:
    """Read every stem and mixture once, and compare stems of the same instrument across pieces.

    `progress` gets the steps done and the steps in all: one for each piece read and each pair compared.
    `hashes` are the SHA-256 of the stems' files where they are known already.
    Raises `UserError` for audio that `load_stem` refuses, `UserErrors` for all such stems if there are several.
    """
    pairs = _pairs(recordings)
    steps = Steps(progress, len(recordings.pieces) + len(pairs))
    scans = _scan(recordings, steps, hashes or {})
    stems = tuple(facts for scan in scans for facts in scan.facts)
    waves = {(f.piece, f.stem): wave for scan in scans for f, wave in zip(scan.facts, scan.waves, strict=True)}
    shared = _compare({(f.piece, f.stem): f.sha256 for f in stems}, waves, pairs, threshold, steps)
    mixtures = tuple(scan.mixture for scan in scans if scan.mixture)
    return Survey(stems, mixtures, shared, title_groups(recordings, shared))


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


def _scan(recordings: Recordings, steps: Steps, hashes: Mapping[Path, str]) -> list[_Scan]:
    """Read all pieces, the longest first so that no core is left with one at the end; in the recordings' order."""
    order = sorted(recordings.pieces, key=lambda piece: -piece.seconds * len(piece.stems))
    scans = in_threads(lambda piece: _scan_piece(piece, hashes), order, steps)
    named = {piece.name: scan for piece, scan in zip(order, scans, strict=True)}
    in_order = [named[piece.name] for piece in recordings.pieces]
    raise_all([problem for scan in in_order for problem in scan.problems])
    return in_order


def _scan_piece(piece: Piece, hashes: Mapping[Path, str]) -> _Scan:
    total = np.zeros(max(stem.samples for stem in piece.stems), np.float32)
    facts, waves, problems = [], [], []
    for stem in piece.stems:
        try:
            audio = load_stem(stem)
        except UserError as error:  # the other stems are read, so that all problems are found at once
            problems.append(error)
            continue
        total[: len(audio)] += audio
        facts.append(_facts(piece, stem, audio, hashes.get(stem.path) or file_sha256(stem.path)))
        waves.append(low_wave(audio))
    mixture = None if problems else _check_mixture(piece, total)
    return _Scan(tuple(facts), tuple(waves), mixture, tuple(problems))


def _facts(piece: Piece, stem: Stem, audio: np.ndarray, digest: str) -> StemFacts:
    whole = len(audio) - len(audio) % FRAME
    power = frame_power(audio[:whole].reshape(-1, FRAME))
    rest = frame_power(audio[None, whole:])
    mean = float(power.sum() * FRAME + rest.sum() * (len(audio) - whole)) / len(audio)
    power = power if whole else rest
    audible = power > max(power.max() * SOUNDING[0], SOUNDING[1])
    return StemFacts(
        piece=piece.name,
        stem=stem.name,
        instrument=stem.instrument,
        sha256=digest,
        seconds=stem.seconds,
        rms=mean**0.5,
        peak=float(max(audio.max(), -audio.min())),
        sounding=float(np.mean(audible)),
    )


def _check_mixture(piece: Piece, total: np.ndarray) -> MixtureCheck:
    """Compare a piece's mixture with the sum of its stems, `total`, shape (samples,)."""
    try:
        mixture = load_mixture(piece)
    except UserError as error:  # nothing needs the mixture
        problem = str(error).removeprefix(f"{piece.mixture}: ").rpartition(": ")[0]
        return MixtureCheck(piece.name, None, None, None, one_line(problem))
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


def _pairs(recordings: Recordings) -> list[tuple[Key, Key]]:
    """The pairs of stems that could be one take: of one instrument, in different pieces."""
    players: dict[str, list[Key]] = defaultdict(list)
    for piece in recordings.pieces:
        for stem in piece.stems:
            players[stem.instrument].append((piece.name, stem.name))
    return [pair for keys in players.values() for pair in combinations(keys, 2) if pair[0][0] != pair[1][0]]


def _compare(
    digests: Mapping[Key, str], waves: Mapping[Key, Wave], pairs: list[tuple[Key, Key]], threshold: float, steps: Steps
) -> tuple[SharedTake, ...]:
    """The pairs that are one take, sorted; files that are the same need no correlation."""
    matches: dict[tuple[Key, Key], Match] = {}
    unlike = []
    for one, other in pairs:
        if digests[one] == digests[other]:
            matches[one, other] = Match(correlation=1.0, gain=1.0, lag_seconds=0.0)
            steps()
        else:
            unlike.append((one, other))
    matches |= match_pairs(waves, unlike, steps)
    return tuple(
        SharedTake(*pair, match.correlation, match.gain, match.lag_seconds)
        for pair, match in sorted(matches.items(), key=lambda item: item[0])
        if abs(match.correlation) >= threshold
    )
