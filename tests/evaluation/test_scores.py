"""Scores of separated audio: medians over titles, by ensemble size, and the clip that stands for all."""

import math

import numpy as np
import pytest
import torch
from recording_fixtures import write_urmp_piece
from torch import nn

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.data.dataset import Rows, instrument_pairs
from sepsearch.data.preparation import prepare
from sepsearch.data.shards import spectrograms
from sepsearch.evaluation.test_scores import Candidate, ClipScore, TestTitles, audio_table, typical_clip


def clip_score(gain: float, title: str = "a", players: int = 2, clip: int = 0, sounding: float = 1.0) -> ClipScore:
    db = {"mixture": 1.0, "estimate": 1.0 + gain, "oracle": 9.0}
    measures = {"si_sdr_db": db, "sdr_db": {**db, "estimate": 2.0 + gain}}
    return ClipScore(0, clip, title, players, measures, sounding=sounding)


def test_every_title_counts_alike_however_many_clips_it_has():
    table = audio_table([clip_score(1.0), clip_score(1.0), clip_score(1.0), clip_score(5.0, "b"), clip_score(6.0, "c")])
    assert table["gain"]["si_sdr_db"] == pytest.approx(5.0)
    assert (table["titles"], table["clips"]) == (3, 5)


def test_the_table_has_all_signals_in_both_measures_and_by_ensemble_size():
    table = audio_table([clip_score(2.0), clip_score(4.0, "b", players=5)])
    assert table["mixture"] == {"si_sdr_db": 1.0, "sdr_db": 1.0}
    assert table["estimate"] == {"si_sdr_db": 4.0, "sdr_db": 5.0}
    assert table["oracle_gain"] == {"si_sdr_db": 8.0, "sdr_db": 8.0}
    assert {players: part["gain"]["si_sdr_db"] for players, part in table["by_players"].items()} == {"2": 2.0, "5": 4.0}


def test_what_is_undefined_is_left_out_and_nothing_left_is_none():
    table = audio_table([clip_score(math.nan), clip_score(3.0, "b")])
    assert table["gain"]["si_sdr_db"] == 3.0
    assert audio_table([clip_score(math.nan)])["estimate"]["si_sdr_db"] is None
    assert audio_table([])["mixture"] == {"si_sdr_db": None, "sdr_db": None}


def test_the_typical_clip_is_neither_the_best_nor_the_worst():
    scores = [clip_score(gain, clip=n) for n, gain in enumerate([5.0, -1.0, 2.0, math.nan])]
    chosen = typical_clip(scores)
    assert chosen is not None
    assert chosen.clip == 2
    assert typical_clip([clip_score(math.nan)]) is None


def test_the_typical_clip_is_one_that_the_target_mostly_fills():
    shares = [(9.0, 0.2), (1.0, 0.8), (2.0, 0.75), (3.0, 1.0), (8.0, 0.7)]
    scores = [clip_score(gain, clip=n, sounding=share) for n, (gain, share) in enumerate(shares)]
    assert typical_clip(scores).clip == 2


def test_where_the_target_fills_no_clip_the_typical_one_is_that_in_which_it_sounds_longest():
    scores = [clip_score(gain, clip=n, sounding=share) for n, (gain, share) in enumerate([(1.0, 0.1), (9.0, 0.3)])]
    assert typical_clip(scores).clip == 1


@pytest.fixture
def titles(tmp_path):
    write_urmp_piece(tmp_path / "data", "01_Jupiter_vn_vc", 2.2)
    write_urmp_piece(tmp_path / "data", "02_Sonata_vn_vn", 2.2)
    recordings, shards = prepare(tmp_path / "data", FrontEnd(clip_seconds=1.0, window=2048), lambda *_: None)
    rows = Rows([spectrograms(table) for table in shards.tables()])
    return TestTitles(recordings, shards, shards.index(), rows), instrument_pairs(shards.index(), "vn")


def test_a_network_that_hands_the_mixture_through_gains_nothing_and_the_oracle_a_lot(titles):
    titles, pairs = titles
    (scores,) = titles.listen([Candidate("vn", nn.Identity(), pairs)])
    assert {score.title for score in scores} == {"Jupiter"}
    assert [score.clip for score in scores] == [0, 1]
    for score in scores:
        assert score.gain == pytest.approx(0, abs=0.01)
        assert score.db["si_sdr_db"]["oracle"] > score.db["si_sdr_db"]["mixture"] + 5


class Half(nn.Module):
    """Half of the mixture, in every bin or in low ones alone."""

    def __init__(self, bins: int | None = None):
        super().__init__()
        self._bins = bins

    def forward(self, rows):
        masks = torch.zeros_like(rows)
        masks[..., : self._bins] = 0.5
        return masks * rows


def test_an_estimate_is_like_the_mixture_only_where_the_mask_is_constant(titles):
    titles, pairs = titles
    constant, filtered = titles.listen([Candidate("vn", Half(), pairs), Candidate("vn", Half(24), pairs)])
    assert min(score.similarity for score in constant) > 40
    assert max(score.similarity for score in filtered) < 20


def test_a_score_knows_how_much_of_its_clip_the_target_fills(titles):
    titles, pairs = titles
    (scores,) = titles.listen([Candidate("vn", nn.Identity(), pairs)])
    seconds = titles._index.sound[pairs.target]
    found = [seconds[(pairs.piece == 0) & (titles._index.clip[pairs.target] == clip)].max() for clip in (0, 1)]
    assert [score.sounding for score in scores] == pytest.approx(found)
    assert min(found) > 0.5


def test_clips_in_which_nobody_else_plays_say_nothing(titles):
    titles, pairs = titles
    (scores,) = titles.listen([Candidate("vn", nn.Identity(), pairs.pick(np.flatnonzero(pairs.piece == 1)))])
    assert scores == []


def test_the_facts_of_a_clip_name_where_it_is_from_and_its_waveforms_are_those_measured(titles):
    titles, pairs = titles
    (scores,) = titles.listen([Candidate("vn", nn.Identity(), pairs)])
    facts = titles.facts("vn", scores[1])
    assert (facts["piece"], facts["title"], facts["begin_seconds"]) == ("01_Jupiter_vn_vc", "Jupiter", 1.0)
    assert facts["players"] == ["vn", "vc"]
    mixture, target = titles.waveforms("vn", scores[1])
    assert mixture.shape == target.shape == (48_000,)
    assert np.abs(mixture - target).max() > 0.01
