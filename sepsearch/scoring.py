"""The one look at the test titles: losses, and SI-SDR gain of the separated audio, of models already chosen."""

import math
from collections.abc import Sequence
from statistics import median

import numpy as np
from torch import nn

from sepsearch.examples import Pairs, RowIndex, Rows
from sepsearch.metrics import si_sdr
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

    def si_sdr_gains(self, instrument: str, models: Sequence[nn.Module], pairs: Pairs) -> list[float]:
        """SI-SDR of the separated voice less the mixture's, dB, per model: median over titles of the median over clips.

        Mixtures are those of all players, in the clips of `pairs`. Clips in which the instrument plays alone or rests
        say nothing and are left out; NaN if none is left.
        """
        front_end, constant = self._shards.front_end, self._shards.constant
        gains: list[dict[str, list[float]]] = [{} for _ in models]
        for number in np.unique(pairs.piece):
            piece = self._recordings.pieces[number]
            own = [stem.instrument == instrument for stem in piece.stems]
            if all(own):
                continue
            waveforms = load_piece(piece)
            mixture, target = waveforms.sum(axis=0), waveforms[own].sum(axis=0)
            length = front_end.clip_samples
            for clip in np.unique(self._index.clip[pairs.mixture[pairs.piece == number]]):
                part = slice(clip * length, (clip + 1) * length)
                before = si_sdr(mixture[part], target[part])
                if math.isnan(before):
                    continue
                for gain, network in zip(gains, models, strict=True):
                    estimate = separate_waveform(network, front_end, constant, mixture[part])
                    after = si_sdr(estimate, target[part])
                    gain.setdefault(piece.title, []).append(after - before)
        return [_median([_median(values) for values in gain.values()]) for gain in gains]


def _median(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else math.nan
