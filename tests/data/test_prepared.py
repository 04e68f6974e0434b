"""What there is to learn from: instruments, split, examples and baselines of a folder of recordings."""

import math

import pytest
from recording_fixtures import write_plain_tree

from sepsearch.data.preparation import prepare
from sepsearch.data.prepared import PreparedData, gather_data
from sepsearch.models.families import make_config
from sepsearch.spaces.space import parse_space
from sepsearch.training.loop import fit
from sepsearch.training.members import Member
from sepsearch.utils.errors import UserError

SPACE = parse_space(
    {"parameters": {"filters": [2, 3]}, "front_end": {"clip_seconds": 1.0}, "search": {"validation_examples": 6}},
    "space",
)
# Violins have three titles to separate them in and five others, clarinets no title that is not theirs alone.
PIECES = {
    "a": ["vn", "vc"],
    "b": ["vn", "vc"],
    "c": ["vn", "vc"],
    "d": ["vn"],
    "e": ["vn"],
    "f": ["vn_1", "vn_2"],
    "g": ["vn"],
    "h": ["vc"],
    "i": ["vn"],
    "j": ["cl"],
    "k": ["cl_1", "cl_2"],
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Recordings and shards."""
    folder = write_plain_tree(tmp_path_factory.mktemp("solos"), PIECES, 1.0)
    return prepare(folder, SPACE.front_end.resolve(), lambda *_: None)


def gather(prepared, instruments=None, seed=0) -> PreparedData:
    return gather_data(*prepared, instruments, seed, SPACE.split.fractions, SPACE.search.validation_examples)


@pytest.mark.parametrize("seed", range(4))
def test_with_more_solos_than_duets_every_ratio_is_finite_and_above_zero(prepared, seed):
    found = gather(prepared, seed=seed)
    data = found.training_data()
    members = [Member(code, 0) for code in found.examples]
    (epoch,) = fit(make_config({"filters": 2, "head": "mask"}), data, members, epochs=1, batches_per_epoch=1)
    assert {member.member.instrument for member in epoch.members} == {"vn", "vc"}
    assert all(0 < member.ratio < math.inf for member in epoch.members)
    assert 0 < epoch.ratio < math.inf
    assert all(loss > 0 for loss in found.baselines["test"]["identity"].values())


def test_an_instrument_that_only_plays_alone_is_left_out_with_one_note_unless_it_is_named(prepared):
    (note,) = gather(prepared).notes
    assert note.startswith("left out: nothing to separate cl from")
    assert gather(prepared, ("vn",)).notes == ()
    with pytest.raises(UserError, match=r"nothing to separate cl from, .*\(cl in j, k\): add recordings"):
        gather(prepared, ("vn", "cl"))


def test_a_side_whose_identity_loss_is_zero_to_the_last_bit_is_noted_and_all_of_them_end_the_run(prepared, monkeypatch):
    from sepsearch.data import prepared as module

    before = module.all_baselines

    def zero(side, *codes):
        def baselines(rows, examples):
            table = before(rows, examples)
            table[side]["identity"] |= dict.fromkeys(codes, 0.0)
            return table

        monkeypatch.setattr(module, "all_baselines", baselines)

    zero("test", "vn")
    assert "vn: mixture and target are the same in all test clips: no ratio, no part in means" in gather(prepared).notes
    zero("validation", "vn", "vc")
    with pytest.raises(UserError, match="vn, vc: mixture and target are the same in all validation clips, so there is"):
        gather(prepared, ("vn", "vc"))
