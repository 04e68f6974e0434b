"""Finalists of an extended search: their ids, and which events of their runs still count."""

from pathlib import Path

from sepsearch.search.extension import present_events, remove_weights, with_former_ids
from sepsearch.search.selection import Finalist, SeedRun
from sepsearch.utils.storage import StorageFolder

REFERENCE = {"id": "c1", "trial": "t0001", "params": {"filters": 16}, "reference": True}
FORMER = [{"id": "c0", "trial": "t0000", "params": {"filters": 8}, "reference": False}, REFERENCE]


def test_former_finalists_keep_their_ids_and_new_ones_get_free_ones_in_the_new_order():
    chosen = [
        Finalist("c0", "t0005", {"filters": 4}, False),
        Finalist("c1", "t0007", {"filters": 8}, False),
        Finalist("c2", "t0001", {"filters": 16}, True),
    ]
    found = with_former_ids(chosen, FORMER)
    assert [(one.id, one.trial) for one in found] == [("c2", "t0005"), ("c0", "t0000"), ("c1", "t0001")]
    assert found[1] == Finalist(**FORMER[0])


def test_without_former_finalists_ids_are_as_they_were_chosen():
    chosen = [Finalist("c0", "t0005", {"filters": 4}, False), Finalist("c1", "t0001", {"filters": 16}, True)]
    assert with_former_ids(chosen, []) == chosen


def fold(configuration: str, seed: int = 1) -> dict:
    return {"event": "fold", "id": "vc-1", "configuration": configuration, "seed": seed}


def plan(configuration: str) -> dict[str, SeedRun]:
    finalist = Finalist(configuration, "t0000", {"filters": 8}, False)
    return {"vc-1": SeedRun("vc-1", finalist, 1, instrument="vc", title="a")}


END = {"event": "fold_end", "id": "vc-1"}


def test_a_fold_of_another_configuration_is_trained_anew():
    events, stale = present_events([fold("c0"), END, {"event": "continue"}], plan("c2"))
    assert events == [{"event": "continue"}]
    assert stale == {"vc-1"}


def test_a_fold_of_the_same_configuration_and_seed_counts():
    events, stale = present_events([fold("c0"), END, {"event": "continue"}], plan("c0"))
    assert events == [fold("c0"), END, {"event": "continue"}]
    assert stale == set()


def test_a_fold_that_began_again_counts_from_there():
    again = [fold("c0"), END, {"event": "continue"}, fold("c2")]
    events, stale = present_events(again, plan("c2"))
    assert events == again[2:]
    assert stale == set()


def test_a_fold_of_another_seed_is_trained_anew():
    assert present_events([fold("c0", 2), END], plan("c0")) == ([], {"vc-1"})


def test_eliminations_before_the_last_extension_are_taken_back():
    early, late = ({"event": "eliminated", "id": id} for id in ("c0", "c2"))
    events, _ = present_events([early, {"event": "continue"}, late], {})
    assert events == [{"event": "continue"}, late]


def test_weights_of_another_configuration_are_removed_here_and_in_the_storage(tmp_path: Path):
    for place in ("here", "there"):
        (tmp_path / place / "vc-1").mkdir(parents=True)
        (tmp_path / place / "vc-1" / "vc-1.safetensors").write_bytes(b"x")
    remove_weights("vc-1", tmp_path / "here", StorageFolder(str(tmp_path / "there")))
    assert not (tmp_path / "here" / "vc-1").exists()
    assert not (tmp_path / "there" / "vc-1").exists()
