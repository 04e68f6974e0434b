"""Pairs of rows, and the batches drawn from them."""

import numpy as np
import pytest
import torch
from synthetic import synthetic_index, synthetic_rows

from sepsearch.data.dataset import Batches, Rows, instrument_pairs, sample_pairs
from sepsearch.data.joint_examples import JointBatches, join_pairs
from sepsearch.data.split_examples import choose_instruments, leave_one_title_out, split_pairs
from sepsearch.data.splits import split_titles
from sepsearch.utils.errors import UserError


def test_two_violins_are_one_target_their_sum():
    index = synthetic_index({"a": ("vn", "vc", "vn")}, clips=1)
    pairs = instrument_pairs(index, "vn")
    targets = {int(index.subset[m]): int(index.subset[t]) for m, t in zip(pairs.mixture, pairs.target, strict=True)}
    assert targets == {0b001: 0b001, 0b100: 0b100, 0b011: 0b001, 0b110: 0b100, 0b101: 0b101, 0b111: 0b101}


def test_the_examples_of_an_instrument_are_the_subsets_that_hold_it():
    index = synthetic_index({"a": ("vn", "va", "tpt"), "b": ("va", "tpt")}, clips=2)
    pairs = instrument_pairs(index, "vn")
    assert len(pairs) == 2 * 4
    assert set(pairs.piece.tolist()) == {0}


def test_a_row_in_which_nothing_sounds_is_no_example():
    index = synthetic_index({"a": ("vn", "va")}, clips=1)
    index.sound[index.subset == 0b01] = 0
    assert len(instrument_pairs(index, "vn")) == 1


def test_batches_draw_pieces_evenly_so_that_quintets_do_not_drown_duets():
    index = synthetic_index({"a": ("vn", "vc"), "b": ("vn", "va", "vc", "fl", "cl")})
    pairs = instrument_pairs(index, "vn")
    batches = Batches(pairs.piece, 50, seed=1)
    drawn = np.concatenate([batches.draw() for _ in range(40)])
    assert np.mean(pairs.piece[drawn] == 0) == pytest.approx(0.5, abs=0.05)
    assert np.mean(index.piece[pairs.mixture] == 0) < 0.15


def test_batches_hold_only_pairs_of_the_instrument():
    index = synthetic_index({"a": ("vn", "vc"), "b": ("vc", "va", "vn")})
    pairs = instrument_pairs(index, "vn")
    known = set(zip(pairs.mixture.tolist(), pairs.target.tolist(), strict=True))
    for batch in JointBatches(join_pairs([pairs]), 16, seed=0).draw(5):
        assert set(zip(batch.mixture.tolist(), batch.target.tolist(), strict=True)) <= known


def test_weights_count_every_piece_alike_and_add_up_to_one():
    index = synthetic_index({"a": ("vn", "vc"), "b": ("vn", "va", "vc")})
    pairs = instrument_pairs(index, "vn")
    weights = pairs.weights()
    assert weights.sum() == pytest.approx(1)
    assert weights[pairs.piece == 0].sum() == pytest.approx(0.5)


def test_a_sample_keeps_every_piece_and_is_the_same_for_the_same_seed():
    index = synthetic_index({"a": ("vn", "vc"), "b": ("vn", "va", "vc", "fl"), "c": ("vn", "fl")})
    pairs = instrument_pairs(index, "vn")
    sample = sample_pairs(pairs, 6, seed=4)
    assert np.bincount(sample.piece).tolist() == [2, 2, 2]
    np.testing.assert_array_equal(sample.mixture, sample_pairs(pairs, 6, seed=4).mixture)


def test_rows_come_from_the_shard_that_holds_them():
    index = synthetic_index({"a": ("vn", "vc"), "b": ("vn",)})
    array = synthetic_rows(index)
    rows = Rows([array[:3], array[3:4], array[4:]])
    wanted = [7, 3, 0, 4, 3]
    taken = rows.take(torch.tensor(wanted))
    assert taken.shape == (5, 1, 128, 128)
    np.testing.assert_array_equal(taken[:, 0].numpy(), array[wanted].astype(np.float32))


def test_an_instrument_that_does_not_play_is_refused_with_those_that_do():
    index = synthetic_index({"a": ("vn", "vc")})
    with pytest.raises(UserError, match="'tba' does not play in these recordings, expected some of vc, vn"):
        split_pairs(index, split_titles(index.title_facts()), ["tba"])


def test_every_title_is_left_out_once_and_nothing_of_it_is_trained_or_validated_on():
    index = synthetic_index({"a": ("vn", "vc"), "b": ("vn", "va"), "c": ("va", "vc")}, clips=10)
    folds = leave_one_title_out(index, "vn")
    assert [(fold.id, fold.title) for fold in folds] == [("vn-1", index.titles[0]), ("vn-2", index.titles[1])]
    for number, fold in enumerate(folds):
        assert set(fold.splits["test"].piece.tolist()) == {number}
        assert set(fold.splits["train"].piece.tolist()) == set(fold.splits["validation"].piece.tolist()) == {1 - number}
        clips = {side: set(index.clip[pairs.mixture].tolist()) for side, pairs in fold.splits.items()}
        assert clips["train"] == set(range(8))
        assert clips["validation"] == {8, 9}


def test_titles_that_share_a_take_are_left_out_together():
    index = synthetic_index({"a": ("vn", "vc"), "b": ("vn", "va"), "c": ("vn", "vc")}, clips=10)
    folds = leave_one_title_out(index, "vn", [index.titles[:2]])
    assert [set(fold.splits["train"].piece.tolist()) for fold in folds] == [{2}, {2}, {0, 1}]


def test_an_instrument_whose_other_titles_are_too_short_to_hold_clips_back_has_no_folds():
    index = synthetic_index({"a": ("vn", "vc"), "b": ("vn", "va")}, clips=1)
    assert leave_one_title_out(index, "vn") == []


def test_examples_in_which_nothing_else_sounds_have_nothing_to_separate():
    index = synthetic_index({"a": ("vn", "vc", "vn")}, clips=2)
    index.sound[(index.subset == 0b010) & (index.clip == 1)] = 0  # the cello rests
    pairs = instrument_pairs(index, "vn")
    some = {(int(index.clip[row]), int(index.subset[row])) for row in pairs.mixture[pairs.separable]}
    assert some == {(0, 0b011), (0, 0b110), (0, 0b111)}


@pytest.mark.parametrize("seed", range(10))
def test_a_sample_of_however_few_examples_has_something_to_separate_where_there_is_any(seed):
    index = synthetic_index({"a": ("vn",), "b": ("vn",), "c": ("vn", "vc"), "d": ("vn", "vn")}, clips=3)
    for limit in (1, 2, 5):
        sample = sample_pairs(instrument_pairs(index, "vn"), limit, seed)
        assert len(sample) <= limit
        assert (sample.mixture != sample.target).any()


def test_no_fold_leaves_out_a_title_in_which_the_instrument_plays_alone():
    index = synthetic_index({"a": ("vn", "vc"), "b": ("vn",), "c": ("vn", "vn"), "d": ("vn", "va")}, clips=10)
    folds = leave_one_title_out(index, "vn")
    assert [(fold.id, fold.title) for fold in folds] == [("vn-1", "a"), ("vn-2", "d")]
    assert set(folds[0].splits["train"].piece.tolist()) == {1, 2, 3}  # what it plays alone is trained on all the same


DUETS = {"a": ("vn", "vn"), "b": ("fl", "cl"), "c": ("vn",), "d": ("fl", "cl")}


def test_an_instrument_that_never_plays_with_others_is_left_out_and_a_note_says_what_to_add():
    codes, notes = choose_instruments(synthetic_index(DUETS), None)
    assert codes == ["cl", "fl"]
    assert notes == (
        "left out: nothing to separate vn from, since no other instrument sounds in any clip (vn in a, c):"
        " add recordings in which others play, too",
    )


def test_an_instrument_that_never_plays_with_others_is_refused_where_it_is_asked_for():
    with pytest.raises(
        UserError, match=r"^instruments: nothing to separate vn from, .*: add recordings in which others"
    ):
        choose_instruments(synthetic_index(DUETS), ["fl", "vn"])
    assert choose_instruments(synthetic_index(DUETS), ["fl"]) == (["fl"], ())


def test_recordings_of_solos_alone_are_refused_with_what_to_add():
    index = synthetic_index({"a": ("vn",), "b": ("vc", "vc"), "c": ("vn", "vn")})
    with pytest.raises(UserError, match=r"nothing to separate vc, vn from, .* \(vc in b; vn in a, c\): add recordings"):
        choose_instruments(index, None)
