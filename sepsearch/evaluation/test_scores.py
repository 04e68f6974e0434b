"""Test scores of chosen models: losses, and SI-SDR and SDR of the separated audio."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sepsearch.audio.metrics import sdr, si_sdr
from sepsearch.audio.separation import oracle_waveform, separate_waveform
from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.data.dataset import Pairs, RowIndex, Rows
from sepsearch.data.recordings import Recordings, load_piece
from sepsearch.data.shards import ShardSet
from sepsearch.training.loop import evaluate
from sepsearch.utils.progress import Steps, in_threads, one_torch_thread

SIGNALS = ("mixture", "estimate", "oracle")
MEASURES: dict[str, Callable[[Any, Any], float]] = {"si_sdr_db": si_sdr, "sdr_db": sdr}


@dataclass(frozen=True)
class Candidate:
    """A network to be scored: it separates `instrument` from the mixtures of the test examples `pairs`.

    `front_end` and `constant` are those of its spectrograms; None for those of the data set.
    """

    instrument: str
    network: nn.Module
    pairs: Pairs
    front_end: FrontEnd | None = None
    constant: float | None = None


@dataclass(frozen=True)
class ClipScore:
    """One clip of a piece, all players together. `db` is measure → signal → dB; NaN where it is undefined."""

    piece: int
    clip: int
    title: str
    players: int
    db: Mapping[str, Mapping[str, float]]

    @property
    def gain(self) -> float:
        """SI-SDR of the estimate less the mixture's, dB."""
        return self.db["si_sdr_db"]["estimate"] - self.db["si_sdr_db"]["mixture"]


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
        references: dict[tuple[str, int], dict[str, dict[str, float]]] = {}  # independent of the network
        for number, candidate in enumerate(candidates):
            own = players == candidate.instrument
            mine = candidate.pairs.mixture[candidate.pairs.piece == piece]
            for clip in [] if own.all() else np.unique(self._index.clip[mine]):
                part = self._part(int(clip))
                mixture, target = waveforms[:, part].sum(axis=0), waveforms[own, part].sum(axis=0)
                key = candidate.instrument, int(clip)
                if key not in references:
                    oracle = oracle_waveform(front_end, constant, mixture, target)
                    references[key] = {
                        name: {"mixture": measure(mixture, target), "oracle": measure(oracle, target)}
                        for name, measure in MEASURES.items()
                    }
                if not math.isfinite(references[key]["si_sdr_db"]["mixture"]):
                    continue
                own_front_end, own_constant = candidate.front_end or front_end, candidate.constant or constant
                estimate = separate_waveform(candidate.network, own_front_end, own_constant, mixture)
                db = {
                    n: {**references[key][n], "estimate": measure(estimate, target)} for n, measure in MEASURES.items()
                }
                yield number, ClipScore(piece, int(clip), title, len(players), db)


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
    """The clip whose gain is the median (the upper one of two), neither the best nor the worst; None without clips."""
    clips = sorted((score for score in scores if math.isfinite(score.gain)), key=lambda score: score.gain)
    return clips[len(clips) // 2] if clips else None


def finite(value: float) -> float | None:
    """The value, or None for NaN and infinity, as JSON needs it."""
    return value if math.isfinite(value) else None
