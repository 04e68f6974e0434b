"""Shards three times as large as the object store: real Ray spills them, and workers train on them all the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "support" / "small_store.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_"))}
    command = [sys.executable, str(SCRIPT), str(tmp_path_factory.mktemp("store"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_two_workers_get_the_numbers_that_rows_at_hand_give_bit_for_bit(found):
    assert found["kinds"] == ["WindowedRows", "WindowedRows"]
    assert found["data"] > 3 * found["store"]
    assert found["windowed"] == found["resident"]
    assert found["windowed"][0] != found["windowed"][1]


def test_the_store_holds_no_more_than_its_size_and_the_rest_is_on_the_disk(found):
    assert 0 < found["used"] <= found["store"]
    assert found["beside"] == 0
    assert found["spilled"] > found["data"] - found["store"]
    assert found["on_disk"] > found["data"] - found["store"]  # in the folder whose disk is asked for room before
    assert found["restored"] > 0


def test_the_driver_tells_how_shards_reach_the_workers_and_how_far_storing_them_is(found):
    (note,) = found["notes"]
    assert note.startswith("the shards (241 MB) are larger than what may stay of them in the object store of node ")
    assert note.endswith(" (48 MB): streamed in windows of 12 MB")
    assert found["told"] == [["storing the shards", 0, found["parts"]], ["storing the shards", *[found["parts"]] * 2]]
