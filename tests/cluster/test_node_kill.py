"""A search over two nodes of which one is killed: every trial is accounted for, and goes on on the other node."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from sepsearch.search.events import Event

PATIENCE = 1200.0  # seconds


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("nodes")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_", "MLFLOW_"))}
    # A node that is gone is noticed after half a minute otherwise.
    environment |= {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "3"}
    done = subprocess.run(
        [sys.executable, Path(__file__).parents[1] / "support" / "two_nodes.py", folder],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_with_one_of_two_nodes_killed_every_trial_is_accounted_for(two_nodes):
    assert two_nodes["killed"]
    assert set(two_nodes["states"].values()) == {"completed"}
    assert two_nodes["study"].count("RUNNING") == 0
    trained = Counter((unit, epoch) for unit, epoch, _ in two_nodes["trained"])
    assert set(trained) == {(unit, str(epoch)) for unit in two_nodes["states"] for epoch in range(1, 9)}


def retry_of(events: list[Event], reason: str) -> Event:
    (retry,) = (
        event for event in events if event["event"] == "retry" and (event["id"] == "t0002") == (reason == "worker")
    )
    return retry


def test_a_trial_whose_worker_died_goes_on_from_its_checkpoint_on_the_other_node(two_nodes):
    assert retry_of(two_nodes["events"], "worker")["epochs"] == 2
    nodes = [node for unit, _, node in two_nodes["trained"] if unit == "t0002"]
    assert len(set(nodes[:2])) == len(set(nodes[2:])) == 1
    assert nodes[0] != nodes[2]


def test_the_trial_of_the_killed_node_goes_on_from_its_checkpoint_on_the_other(two_nodes):
    retry = retry_of(two_nodes["events"], "node")
    nodes = {node for unit, _, node in two_nodes["trained"] if unit == retry["id"]}
    assert len(nodes) == 2
    twice = Counter(epoch for unit, epoch, _ in two_nodes["trained"] if unit == retry["id"])
    assert max(twice.values()) == 1
