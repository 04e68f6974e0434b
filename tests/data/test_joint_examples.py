"""Examples with a target per instrument, and what a network that instruments share may be trained on."""

import numpy as np
import torch
from synthetic import synthetic_index

from sepsearch.data.dataset import SEARCH, instrument_pairs
from sepsearch.data.joint_examples import (
    ABSENT,
    JointBatches,
    evaluation_joint_batches,
    excerpt,
    join_pairs,
    shared_training,
)
from sepsearch.data.split_examples import leave_one_title_out, split_pairs
from sepsearch.data.splits import Split

INDEX = synthetic_index(
    {"a": ("vn", "vc"), "b": ("vn", "va", "vc"), "c": ("va", "fl"), "d": ("vn", "fl", "vc")}, clips=3
)


def joint(*codes, index=INDEX):
    return join_pairs([instrument_pairs(index, code) for code in codes])


def test_a_mixture_has_a_target_for_every_instrument_that_plays_in_it_and_none_for_others():
    examples = joint("vn", "va", "vc")
    for mixture, targets in zip(examples.mixture, examples.target, strict=True):
        players = INDEX.players[INDEX.piece[mixture]]
        for code, target in zip(("vn", "va", "vc"), targets, strict=True):
            plays = any(p == code and INDEX.subset[mixture] >> number & 1 for number, p in enumerate(players))
            assert (target != ABSENT) == plays
            if plays:
                assert [p for n, p in enumerate(players) if INDEX.subset[target] >> n & 1] == [code]
                assert INDEX.clip[target] == INDEX.clip[mixture]


def test_every_mixture_comes_once_however_many_instruments_play():
    examples = joint("vn", "va", "vc")
    assert len(np.unique(examples.mixture)) == len(examples)
    assert len(examples) < sum(len(instrument_pairs(INDEX, code)) for code in ("vn", "va", "vc"))


def test_the_mean_number_of_targets_is_that_of_the_batches():
    examples = joint("vn", "va", "vc")
    drawn = JointBatches(examples, 64, seed=0).draw(100)
    mean = sum(len(batch.target) for batch in drawn) / sum(len(batch.mixture) for batch in drawn)
    assert abs(mean - examples.targets_per_example) < 0.03


def test_all_examples_are_evaluated_once_and_in_order():
    examples = joint("vn", "va")
    batches = list(evaluation_joint_batches(examples))
    assert torch.cat([batch.mixture for batch in batches]).tolist() == examples.mixture.tolist()
    assert sum(len(batch.target) for batch in batches) == int((examples.target != ABSENT).sum())


def test_batches_go_on_where_their_state_was_taken():
    batches = JointBatches(joint("vn", "vc"), 8, seed=3, frames=64, following=INDEX.following())
    batches.draw(3)
    state = batches.state
    expected = batches.draw(2)
    again = JointBatches(joint("vn", "vc"), 8, seed=99, frames=64, following=INDEX.following())
    again.state = state
    for one, other in zip(expected, again.draw(2), strict=True):
        assert one.mixture.tolist() == other.mixture.tolist()
        assert one.offset.tolist() == other.offset.tolist()


def test_the_row_that_follows_has_the_same_players_of_the_next_clip():
    for row, following in enumerate(INDEX.following()):
        if INDEX.clip[row] == 2:
            assert following == -1
        else:
            same = (INDEX.piece[row], INDEX.clip[row] + 1, INDEX.subset[row])
            assert (INDEX.piece[following], INDEX.clip[following], INDEX.subset[following]) == same


def test_an_excerpt_reaches_the_next_clip_only_where_that_is_an_example_too():
    pairs = instrument_pairs(INDEX, "vn")
    first_two = join_pairs([pairs.pick(np.flatnonzero(INDEX.clip[pairs.mixture] < 2))])
    batches = JointBatches(first_two, 32, seed=0, frames=64, following=INDEX.following())
    for batch in batches.draw(20):
        mixture, after = (part.numpy() for part in batch.mixture.chunk(2))
        assert INDEX.clip[after].max() == 1
        last = INDEX.clip[mixture] == 1
        assert (mixture[last] == after[last]).all()
        assert batch.offset.numpy()[last].max() <= 64
        assert (INDEX.clip[after[~last]] == 1).all()
        target, target_after = (part.numpy() for part in batch.target.chunk(2))
        assert (INDEX.subset[target] == INDEX.subset[target_after]).all()


def test_an_excerpt_is_the_frames_from_its_offset_on_across_two_rows():
    rows = torch.arange(4 * 128 * 2, dtype=torch.float32).reshape(4, 1, 128, 2)
    found = excerpt(rows, torch.tensor([100, 0]), 64)
    both = torch.cat([rows[:2], rows[2:]], dim=2)
    assert found.shape == (2, 1, 64, 2)
    assert torch.equal(found[0], both[0, :, 100:164])
    assert torch.equal(found[1], both[1, :, :64])


def clips_of(pairs, index=INDEX):
    return set(zip(index.piece[pairs.mixture].tolist(), index.clip[pairs.mixture].tolist(), strict=True))


def test_shared_training_has_no_clip_that_validates_or_tests_any_instrument():
    split = Split(("a",), ("b",), ("c", "d"), {"fl": "few titles", "va": "few titles"})
    examples, _ = split_pairs(INDEX, split, ["vn", "va", "vc", "fl"])
    shared = shared_training(INDEX, examples, [])[SEARCH]
    trained = set().union(*(clips_of(pairs) for pairs in shared.values()))
    judged = set().union(*(clips_of(s[name]) for s in examples.values() for name in ("validation", "test")))
    assert trained
    assert not trained & judged


def test_an_instrument_whose_training_clips_others_are_judged_on_gets_a_network_of_its_own():
    split = Split(("a",), ("b",), ("c", "d"), {"fl": "few titles"})
    examples, _ = split_pairs(INDEX, split, ["vn", "vc", "fl"])
    assert len(examples["fl"]["train"])
    assert set(shared_training(INDEX, examples, [])[SEARCH]) == {"vn", "vc"}


def test_without_conflicts_all_training_examples_are_shared():
    examples, rules = split_pairs(INDEX, Split(("a",), ("b",), ("c", "d"), {}), ["vn", "vc"])
    assert not rules
    for code, pairs in shared_training(INDEX, examples, [])[SEARCH].items():
        assert pairs.mixture.tolist() == examples[code]["train"].mixture.tolist()


def test_companions_of_a_fold_are_trained_on_nothing_of_its_title_nor_of_its_validation_clips():
    folds = leave_one_title_out(INDEX, "vn")
    everything = {code: {"train": instrument_pairs(INDEX, code)} for code in ("vn", "va", "vc", "fl")}
    empty = instrument_pairs(INDEX, "vn").pick(np.zeros(0, dtype=np.int64))
    examples = {code: {**splits, "validation": empty, "test": empty} for code, splits in everything.items()}
    shared = shared_training(INDEX, examples, folds)
    assert folds
    for fold in folds:
        trained = shared[fold.id]
        assert fold.id in trained
        assert "vn" not in trained
        held = clips_of(fold.splits["validation"]) | clips_of(fold.splits["test"])
        assert not held & set().union(*(clips_of(pairs) for pairs in trained.values()))
        assert fold.title not in {INDEX.titles[piece] for pairs in trained.values() for piece in pairs.piece}
