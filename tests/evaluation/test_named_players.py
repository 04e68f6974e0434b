"""Scores with the players named: who can be scored so, and that the numbers are those of a plain loop."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recording_fixtures import write_urmp_piece
from synthetic import synthetic_index, synthetic_rows
from torch import nn

from sepsearch.audio.metrics import si_sdr
from sepsearch.audio.separation import Separator, row_mask, separate_stream
from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.audio.stft import NAMED
from sepsearch.data.dataset import Rows, instrument_pairs
from sepsearch.data.preparation import prepare
from sepsearch.data.shards import spectrograms
from sepsearch.evaluation.named_players import nameable, named_losses
from sepsearch.evaluation.test_scores import Candidate, TestTitles
from sepsearch.models.families import make_config, make_network

PIECES = {"a": ("vn", "vc"), "b": ("vn", "vn", "vc"), "c": ("vc", "cl", "vn"), "d": ("cl",)}


class Counting(nn.Module):
    """An untrained network that counts the clips it has seen."""

    def __init__(self, seed: int, head: str = "mask"):
        super().__init__()
        torch.manual_seed(seed)
        self.network, self.seen = make_network(make_config({"filters": 2, "head": head})).eval(), 0

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.seen += len(rows)
        return self.network(rows)


def plain_loss(networks: dict[str, nn.Module], rows: np.ndarray, index, code: str) -> float:
    """The loss written down plainly: example by example, piece by piece."""
    pairs, by_piece = instrument_pairs(index, code), {}
    for row, target, piece in zip(pairs.mixture, pairs.target, pairs.piece, strict=True):
        players = [c for n, c in enumerate(index.players[piece]) if index.subset[row] >> n & 1]
        mixture = torch.from_numpy(rows[row]).float()[None, None]
        with torch.inference_mode():
            masks = {player: row_mask(networks[player](mixture), mixture)[0, 0] for player in set(players)}
        total = sum(masks.values())
        named = torch.where(total > NAMED, masks[code] / total, masks[code] / NAMED)
        error = (named * mixture[0, 0] - torch.from_numpy(rows[target]).float()).square().mean()
        by_piece.setdefault(piece, []).append(float(error))
    return float(np.mean([np.mean(errors) for errors in by_piece.values()]))


@pytest.mark.parametrize("head", ["mask", "relu"])
def test_the_loss_with_the_players_named_is_that_of_a_plain_loop(head):
    index = synthetic_index(PIECES)
    rows = synthetic_rows(index)
    networks = {code: Counting(seed, head) for seed, code in enumerate(("cl", "vc", "vn"))}
    examples = {code: instrument_pairs(index, code) for code in ("vn", "cl")}
    losses = named_losses(networks, Rows([rows]), index, examples)
    assert list(losses) == ["vn", "cl"]
    for code, loss in losses.items():
        assert loss == pytest.approx(plain_loss(networks, rows, index, code), rel=1e-5)


def test_every_network_runs_once_on_every_mixture_it_plays_in():
    index = synthetic_index(PIECES)
    networks = {code: Counting(seed) for seed, code in enumerate(("cl", "vc", "vn"))}
    examples = {code: instrument_pairs(index, code) for code in networks}
    named_losses(networks, Rows([synthetic_rows(index)]), index, examples)
    assert {code: network.seen for code, network in networks.items()} == {c: len(p) for c, p in examples.items()}


def test_a_player_alone_is_the_mixture_and_leaves_no_error():
    index = synthetic_index({"d": ("cl",)})
    networks = {"cl": Counting(0)}
    losses = named_losses(networks, Rows([synthetic_rows(index)]), index, {"cl": instrument_pairs(index, "cl")})
    assert losses["cl"] == pytest.approx(0, abs=1e-12)


def who_can(networks, **changes) -> list[str]:
    """The instruments that can be scored: tests are on piece c but for the changes, training on a, validation on b."""
    index = synthetic_index(PIECES)
    examples = {}
    for code in index.instruments:
        pairs = instrument_pairs(index, code)
        pieces = {"train": [0], "validation": [1], "test": [2], **changes.get(code, {})}
        examples[code] = {name: pairs.pick(np.flatnonzero(np.isin(pairs.piece, p))) for name, p in pieces.items()}
    return nameable(SimpleNamespace(index=index, examples=examples), networks, ["vn", "vc", "cl"])


def test_an_instrument_is_scored_where_all_that_play_in_its_test_pieces_have_a_model():
    networks = dict.fromkeys(("vn", "vc", "cl"))
    assert who_can(networks) == ["vn", "vc", "cl"]
    assert who_can(dict.fromkeys(("vn", "vc")), vn={"test": [1]}, vc={"train": [0], "validation": [0]}) == ["vn"]


def test_an_instrument_is_not_scored_beside_a_model_that_has_seen_its_test_clips():
    networks = dict.fromkeys(("vn", "vc", "cl"))
    assert who_can(networks, cl={"validation": [2], "test": [2]}) == ["cl"]
    assert who_can(networks, vc={"train": [0, 2]}) == ["vc"]


@pytest.fixture
def titles(tmp_path):
    """Test titles, the violin's examples, shards, and the waveforms of the players."""
    write_urmp_piece(tmp_path / "data", "01_Jupiter_vn_vc", 2.2)
    recordings, shards = prepare(tmp_path / "data", FrontEnd(clip_seconds=1.0, window=2048), lambda *_: None)
    rows = Rows([spectrograms(table) for table in shards.tables()])
    return TestTitles(recordings, shards, shards.index(), rows), shards


def test_the_gain_with_the_players_named_is_that_of_the_command_and_costs_no_further_pass(titles):
    titles, shards = titles
    networks = {"vn": Counting(1), "vc": Counting(2)}
    plain = [Candidate(code, networks[code], instrument_pairs(shards.index(), code)) for code in networks]
    before = titles.listen(plain)
    passes = {code: network.seen for code, network in networks.items()}
    found = titles.listen([dataclasses.replace(one, ensembles={"final": networks}) for one in plain])
    assert {code: network.seen for code, network in networks.items()} == {c: 2 * n for c, n in passes.items()}
    assert [[score.db for score in scores] for scores in found] == [[score.db for score in scores] for scores in before]
    separators = [Separator(network, shards.front_end, shards.constant) for network in networks.values()]
    for place, code in enumerate(networks):
        for score in found[place]:
            mixture, target = titles.waveforms(code, score)
            blocks = separate_stream(separators, 48_000, [mixture[None]], NAMED)
            voice = np.concatenate([voices[place, 0] for _, voices in blocks])
            gain = si_sdr(voice, target) - si_sdr(mixture, target)
            assert score.named_gain("final") == pytest.approx(gain, abs=1e-4)


def test_without_an_ensemble_there_is_no_gain_with_the_players_named(titles):
    titles, shards = titles
    ((score, *_),) = titles.listen([Candidate("vn", nn.Identity(), instrument_pairs(shards.index(), "vn"))])
    assert np.isnan(score.named_gain("final"))
