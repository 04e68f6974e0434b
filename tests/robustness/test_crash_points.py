"""A search that is killed, cut off from power, refused by the disk or interrupted goes on to the same results.

A seeded few of all points: `scripts/benchmarks/crash_points.py` alone tries every one, which takes half an hour. It runs in a
process of its own, for it forks: no thread of other tests, or of what runs them, may be there.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
POINTS = 1  # of every mode and task
MODES = ("death", "kept", "full", "stop", "twice")  # of the nine; the others differ from one of them in a detail


@pytest.fixture(scope="module")
def crashed() -> "subprocess.CompletedProcess[str]":
    """The crash points of all tasks in one process: most of its time are imports."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "TUNE_", "MLFLOW_"))}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    script = str(ROOT / "scripts" / "benchmarks" / "crash_points.py")
    command = [sys.executable, script, "--points", str(POINTS), "--mode", *MODES]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1800, check=False)


@pytest.mark.parametrize("task", ["search", "prepare", "continue"])
def test_what_was_crashed_goes_on_to_the_same_results(task, crashed):
    assert [line for line in crashed.stdout.splitlines() if line.startswith(f"- {task}: ")] == []
    assert f"{task}: " in crashed.stderr
    assert crashed.returncode == 0, crashed.stderr
