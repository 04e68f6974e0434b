"""A search that is killed, cut off from power, refused by the disk or interrupted goes on to the same results.

A seeded few of all points: `scripts/crash_points.py` tries every one, which takes half an hour.
"""

from pathlib import Path

import pytest
from crash_explorer import Explorer
from crash_modes import MODES
from crash_tasks import PREPARE, TASKS

FEW = 3  # points of a task in every mode
SEED = 0


@pytest.fixture(scope="module")
def explorers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Explorer]:
    """An explorer of every task; the files of each are its own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SEPSEARCH_CACHE", "")  # the explorers set it
    explorers = {name: Explorer(tmp_path_factory.mktemp(name), task, jobs=2) for name, task in TASKS.items()}
    yield explorers
    patch.undo()


def test_the_operations_of_a_search_are_all_watched_and_the_same_every_time(explorers):
    explorer = explorers["search"]
    assert {o.kind for o in explorer.operations} >= {"create", "write", "fsync", "rename", "mkdir", "unlink", "rmdir"}
    assert {Path(o.path).name for o in explorer.operations} >= {"journal.jsonl", "study.log"}


@pytest.mark.parametrize("mode", MODES)
def test_a_search_goes_on_to_the_same_results(mode, explorers):
    explorer = explorers["search"]
    outcomes = explorer.explore(explorer.sample(mode, FEW, SEED))
    assert [str(outcome) for outcome in outcomes if outcome.problem] == []


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "twice"])
def test_shards_are_whole_or_built_again(mode, explorers):
    explorer = explorers[PREPARE.name]
    outcomes = explorer.explore(explorer.sample(mode, FEW, SEED))
    assert [str(outcome) for outcome in outcomes if outcome.problem] == []
