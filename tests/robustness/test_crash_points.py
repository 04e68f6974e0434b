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
FEW = {"search": 1, "prepare": 1, "continue": 1}  # points of every mode


@pytest.mark.parametrize("task", FEW)
def test_what_was_crashed_goes_on_to_the_same_results(task):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "TUNE_", "MLFLOW_"))}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [
        sys.executable,
        str(ROOT / "scripts" / "benchmarks" / "crash_points.py"),
        "--task",
        task,
        "--points",
        str(FEW[task]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1800, check=False)
    assert [line for line in done.stdout.splitlines() if line.startswith(f"- {task}: ")] == []
    assert done.returncode == 0, done.stderr
