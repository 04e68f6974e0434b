"""Test scores of chosen models: losses, and SI-SDR and SDR of the separated audio."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sepsearch.audio.metrics import sdr, si_sdr
from sepsearch.audio.separation import Audio, Separator, oracle_waveform, separate_stream, separate_waveform
from sepsearch.audio.spectrogram import RATE, FrontEnd
from sepsearch.audio.stft import NAMED
from sepsearch.data.dataset import Pairs, RowIndex, Rows
from sepsearch.data.recordings import Recordings, load_piece
from sepsearch.data.shards import ShardSet
from sepsearch.training.learner import evaluate
from sepsearch.utils.progress import Steps, in_threads, one_torch_thread

SIGNALS = ("mixture", "estimate", "oracle")
MEASURES: dict[str, Callable[[Any, Any], float]] = {"si_sdr_db": si_sdr, "sdr_db": sdr}

MOSTLY = 0.75  # of a clip: so long a target has to sound in one that is to be listened to


@dataclass(frozen=True)
class Candidate:
    """A network to be scored: it separates `instrument` from the mixtures of the test examples `pairs`.

    `front_end` and `constant` are those of its spectrograms; None for those of the data set. `ensembles` are networks
    by name and instrument, of all that play in the test pieces: with each it is separated once more, with the players
    named.
    """

    instrument: str
    network: nn.Module
    pairs: Pairs
    front_end: FrontEnd | None = None
    constant: float | None = None
    ensembles: Mapping[str, Mapping[str, nn.Module]] = field(default_factory=dict)


@dataclass(frozen=True)
class ClipScore:
    """One clip of a piece, all players together. `db` is measure → signal → dB; NaN where it is undefined.

    `similarity` is the SI-SDR of the estimate against the mixture, dB, which has no limit for a constant gain. `named`
    is ensemble → SI-SDR of the estimate with the players named, dB. `sounding` is the share of the clip in which the
    target sounds.
    """

    piece: int
    clip: int
    title: str
    players: int
    db: Mapping[str, Mapping[str, float]]
    similarity: float = math.nan
    named: Mapping[str, float] = field(default_factory=dict)
    sounding: float = 1.0

    @property
    def gain(self) -> float:
        """SI-SDR of the estimate less the mixture's, dB."""
        return self.db["si_sdr_db"]["estimate"] - self.db["si_sdr_db"]["mixture"]

    def named_gain(self, ensemble: str) -> float:
        """The same with the players named; NaN without."""
        return self.named.get(ensemble, math.nan) - self.db["si_sdr_db"]["mixture"]


class _Remembered:
    """A network that gives its last result once more for equal rows, so that two estimates of a clip cost one pass."""

    def __init__(self, network: nn.Module):
        self._network = network.eval()
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        if self._last is None or not torch.equal(self._last[0], rows):
            self._last = rows, self._network(rows)
        return self._last[1]


class _Clip:
    """One clip of all players, and what several candidates need of it, which is computed once.

    Args:
        players: codes (player,).
        waveforms: of the players, (player, sample), 48 kHz.
        front_end: of the data set; likewise `constant`.
    """

    def __init__(self, players: NDArray[np.str_], waveforms: Audio, front_end: FrontEnd, constant: float):
        self._players, self._waveforms = players, waveforms
        self._front_end, self._constant = front_end, constant
        self.mixture = waveforms.sum(axis=0)
        self._networks: dict[int, _Remembered] = {}
        self._references: dict[str, dict[str, dict[str, float]]] = {}
        self._named: dict[tuple[int, ...], dict[str, Audio]] = {}

    def target(self, instrument: str) -> Audio:
        """The instrument's part (sample,)."""
        part: Audio = self._waveforms[self._players == instrument].sum(axis=0)
        return part

    def references(self, instrument: str) -> dict[str, dict[str, float]]:
        """Measure → "mixture" and "oracle" → dB: what is independent of the network."""
        if instrument not in self._references:
            target = self.target(instrument)
            oracle = oracle_waveform(self._front_end, self._constant, self.mixture, target)
            self._references[instrument] = {
                name: {"mixture": measure(self.mixture, target), "oracle": measure(oracle, target)}
                for name, measure in MEASURES.items()
            }
        return self._references[instrument]

    def estimate(self, candidate: Candidate) -> Audio:
        """What a candidate makes of the mixture (sample,)."""
        front_end, constant = candidate.front_end or self._front_end, candidate.constant or self._constant
        return separate_waveform(self._network(candidate.network), front_end, constant, self.mixture)

    def named_estimate(self, instrument: str, networks: Mapping[str, nn.Module]) -> Audio:
        """The same with the players named: `networks` has one for each of them."""
        playing = {code: network for code, network in networks.items() if code in self._players}
        key = tuple(id(network) for network in playing.values())
        if key not in self._named:
            separators = [
                Separator(self._network(network), self._front_end, self._constant, code)
                for code, network in playing.items()
            ]
            blocks = separate_stream(separators, RATE, [self.mixture[None]], NAMED)
            voices = np.concatenate([voices[:, 0] for _, voices in blocks], axis=1)
            self._named[key] = dict(zip(playing, voices, strict=True))
        return self._named[key][instrument]

    def _network(self, network: nn.Module) -> _Remembered:
        return self._networks.setdefault(id(network), _Remembered(network))


class TestTitles:
    """The test split of a data set, for finalists only.

    Args:
        recordings: where the waveforms are.
        shards: front end and constant.
        index: of the rows.
        rows: the spectrograms.
    """

    __test__ = False  # not a test case of pytest

    def __init__(self, recordings: Recordings, shards: ShardSet, index: RowIndex, rows: Rows):
        self._recordings, self._shards, self._index, self._rows = recordings, shards, index, rows

    def ratio(self, network: nn.Module, pairs: Pairs, identity_loss: float) -> float:
        """Loss over identity loss on the instrument's test examples."""
        loss, _ = evaluate(network, self._rows, pairs)
        return loss / identity_loss if identity_loss > 0 else math.nan

    def listen(
        self, candidates: Sequence[Candidate], advance: Callable[[int, int], None] = lambda done, total: None
    ) -> list[list[ClipScore]]:
        """Separate and measure the clips of every candidate's test examples; a list for every candidate.

        Mixtures are those of all players. Clips in which the instrument plays alone or rests are left
        out. `advance` is called with the number of pieces done.
        """
        pieces = sorted({int(piece) for candidate in candidates for piece in candidate.pairs.piece})
        found: list[list[ClipScore]] = [[] for _ in candidates]
        steps = Steps(advance, len(pieces))
        with one_torch_thread():
            found_by_piece = in_threads(lambda number: list(self._piece(number, candidates)), pieces, steps)
        for scores in found_by_piece:
            for number, score in scores:
                found[number].append(score)
        return found

    def waveforms(self, instrument: str, score: ClipScore) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mixture and target (sample,) of a clip."""
        players, waveforms = self._load(score.piece)
        part = self._part(score.clip)
        return waveforms[:, part].sum(axis=0), waveforms[players == instrument, part].sum(axis=0)

    def facts(self, instrument: str, score: ClipScore) -> dict[str, Any]:
        """Description of a clip, as `Sample.facts` has it."""
        piece = self._recordings.pieces[score.piece]
        db = {signal: finite(value) for signal, value in score.db["si_sdr_db"].items()}
        return {
            "instrument": instrument,
            "piece": piece.name,
            "title": piece.title,
            "clip": score.clip,
            "players": [stem.instrument for stem in piece.stems],
            "sounding_share": finite(score.sounding),
            "begin_seconds": score.clip * self._shards.front_end.clip_seconds,
            "mixture_si_sdr_db": db["mixture"],
            "si_sdr_db": db["estimate"],
            "oracle_si_sdr_db": db["oracle"],
        }

    def _load(self, piece: int) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
        loaded = self._recordings.pieces[piece]
        return np.array([stem.instrument for stem in loaded.stems]), load_piece(loaded)

    def _part(self, clip: int) -> slice:
        length = self._shards.front_end.clip_samples
        return slice(clip * length, (clip + 1) * length)

    def _piece(self, piece: int, candidates: Sequence[Candidate]) -> Iterable[tuple[int, ClipScore]]:
        """(number of the candidate, score) for every clip of one piece."""
        title, front_end, constant = self._recordings.pieces[piece].title, self._shards.front_end, self._shards.constant
        players, waveforms = self._load(piece)
        wanted = [self._clips(piece, players, candidate) for candidate in candidates]
        for number in sorted(set().union(*wanted)):
            clip = _Clip(players, waveforms[:, self._part(number)], front_end, constant)
            for place, candidate in enumerate(candidates):
                if number in wanted[place] and (score := _score(clip, candidate)):
                    yield place, ClipScore(piece, number, title, len(players), *score, wanted[place][number])

    def _clips(self, piece: int, players: NDArray[np.str_], candidate: Candidate) -> dict[int, float]:
        """The clips of a piece that a candidate is scored on, by number: the share in which the target sounds.

        None where nobody else plays.
        """
        if (players == candidate.instrument).all():
            return {}
        targets = candidate.pairs.target[candidate.pairs.piece == piece]
        clips, seconds = self._index.clip[targets], self._index.sound[targets]
        # Several rows where several players play it: that of all of them sounds longest.
        length = self._shards.front_end.clip_seconds
        return {int(clip): float(seconds[clips == clip].max()) / length for clip in np.unique(clips)}


def _score(clip: _Clip, candidate: Candidate) -> tuple[dict[str, dict[str, float]], float, dict[str, float]] | None:
    """`db`, `similarity` and `named` of a clip; None where the SI-SDR of the mixture is undefined."""
    references, target = clip.references(candidate.instrument), clip.target(candidate.instrument)
    if not math.isfinite(references["si_sdr_db"]["mixture"]):
        return None
    estimate = clip.estimate(candidate)
    db = {name: {**references[name], "estimate": measure(estimate, target)} for name, measure in MEASURES.items()}
    named = {
        name: si_sdr(clip.named_estimate(candidate.instrument, networks), target)
        for name, networks in candidate.ensembles.items()
    }
    return db, si_sdr(estimate, clip.mixture), named


def audio_table(scores: Sequence[ClipScore]) -> dict[str, Any]:
    """Medians over titles of medians over clips, dB, of all ensembles and by number of players; None where undefined.

    Returns:
        "titles", "clips", "mixture", "estimate", "oracle", "gain" (estimate − mixture), "oracle_gain", each of the
        latter {"si_sdr_db", "sdr_db"}; and "by_players": number of players → the same keys.
    """
    sizes = sorted({score.players for score in scores})
    by_players = {str(size): _medians([score for score in scores if score.players == size]) for size in sizes}
    return {**_medians(scores), "by_players": by_players}


def _medians(scores: Sequence[ClipScore]) -> dict[str, Any]:
    def over(value: Callable[[Mapping[str, float]], float]) -> dict[str, float | None]:
        return {name: over_titles(scores, lambda score: value(score.db[name])) for name in MEASURES}  # noqa: B023

    return {
        "titles": len({score.title for score in scores}),
        "clips": len(scores),
        **{signal: over(lambda db, signal=signal: db[signal]) for signal in SIGNALS},  # type: ignore[misc]
        "gain": over(lambda db: db["estimate"] - db["mixture"]),
        "oracle_gain": over(lambda db: db["oracle"] - db["mixture"]),
    }


def over_titles(scores: Sequence[ClipScore], value: Callable[[ClipScore], float]) -> float | None:
    """Median over titles of the median over clips of the finite values; None if there is none."""
    titles: dict[str, list[float]] = {}
    for score in scores:
        if math.isfinite(found := value(score)):
            titles.setdefault(score.title, []).append(found)
    return median(median(values) for values in titles.values()) if titles else None


def typical_clip(scores: Sequence[ClipScore]) -> ClipScore | None:
    """The clip to listen to: with the median gain (the upper one of two) among those that the target mostly fills.

    Mostly: for `MOSTLY` of the time, or where it does so in none, for as long as in any. None without clips.
    """
    clips = sorted((score for score in scores if math.isfinite(score.gain)), key=lambda score: score.gain)
    longest = max((score.sounding for score in clips), default=0.0)
    full = [score for score in clips if score.sounding >= min(MOSTLY, longest)]
    return full[len(full) // 2] if full else None


def finite(value: float) -> float | None:
    """The value, or None for NaN and infinity, as JSON needs it."""
    return value if math.isfinite(value) else None
