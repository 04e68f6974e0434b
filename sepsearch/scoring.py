"""The one look at the test titles: losses, and SI-SDR gain of the separated audio, of models already chosen."""

import math
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
from torch import nn

from sepsearch.examples import Pairs, RowIndex, Rows
from sepsearch.metrics import si_sdr
from sepsearch.progress import in_threads
from sepsearch.recordings import Recordings, load_piece
from sepsearch.separate import separate_waveform
from sepsearch.shards import ShardSet
from sepsearch.training import evaluate


class TestTitles:
    """The test side of a data set, for finalists only.

    Args:
        recordings: where the waveforms are.
        shards: front end and constant.
        index: of the rows.
        rows: the spectrograms.
    """

    __test__ = False  # not a test, whatever pytest makes of the name

    def __init__(self, recordings: Recordings, shards: ShardSet, index: RowIndex, rows: Rows):
        self._recordings, self._shards, self._index, self._rows = recordings, shards, index, rows

    def ratio(self, network: nn.Module, pairs: Pairs, identity_loss: float) -> float:
        """Loss over identity loss on the instrument's test examples."""
        loss, _ = evaluate(network, self._rows, pairs)
        return loss / identity_loss if identity_loss > 0 else math.nan

    def si_sdr_gains(
        self, models: Mapping[str, Sequence[nn.Module]], pairs: Mapping[str, Pairs]
    ) -> dict[str, list[float]]:
        """SI-SDR of the separated voice less the mixture's, dB: median over titles of the median over clips.

        Mixtures are those of all players, in the clips of `pairs`. Clips in which the instrument plays alone or rests
        say nothing and are left out; NaN if none is left.

        Args:
            models: instrument → its networks.
            pairs: instrument → its test examples.

        Returns:
            instrument → a gain for every network.
        """
        pieces = sorted({int(piece) for code in models for piece in pairs[code].piece})
        titles: dict[str, list[dict[str, list[float]]]] = {code: [{} for _ in models[code]] for code in models}
        for gains in in_threads(lambda number: self._piece_gains(number, models, pairs), pieces):
            for code, model, title, gain in gains:
                titles[code][model].setdefault(title, []).append(gain)
        return {
            code: [_median([_median(values) for values in by_title.values()]) for by_title in by_model]
            for code, by_model in titles.items()
        }

    def _piece_gains(
        self, number: int, models: Mapping[str, Sequence[nn.Module]], pairs: Mapping[str, Pairs]
    ) -> list[tuple[str, int, str, float]]:
        """(instrument, model, title, gain in dB) for every clip of one piece."""
        piece, length = self._recordings.pieces[number], self._shards.front_end.clip_samples
        players = np.array([stem.instrument for stem in piece.stems])
        waveforms = load_piece(piece)
        mixture = waveforms.sum(axis=0)
        found = []
        for code, networks in models.items():
            own = players == code
            mine = pairs[code].mixture[pairs[code].piece == number]
            for clip in [] if own.all() else np.unique(self._index.clip[mine]):
                part = slice(clip * length, (clip + 1) * length)
                target = waveforms[own, part].sum(axis=0)
                before = si_sdr(mixture[part], target)
                for model, network in enumerate(networks if math.isfinite(before) else []):
                    estimate = separate_waveform(network, self._shards.front_end, self._shards.constant, mixture[part])
                    found.append((code, model, piece.title, si_sdr(estimate, target) - before))
        return found


def _median(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else math.nan
