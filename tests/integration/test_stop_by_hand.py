"""A real search that another process stops: its finalists are trained, and receivers are told."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from small_spaces import small_space

from sepsearch.search.journal import read_journal

SPACE = small_space(
    "trials: 60, epochs: 2, examples_per_epoch: 32, validation_examples: 16, startup_trials: 2", "seeds: 2, epochs: 2"
)
LONGEST = 600.0  # seconds that a process may take


def begin(folder: Path, tree: Path) -> "subprocess.Popen[str]":
    (folder / "space.yaml").write_text(SPACE)
    (folder / "tell.py").write_text("import sys; open('told', 'a').write(sys.stdin.read() + '\\n')")
    receiver = f"search_stopped,end:{sys.executable} tell.py"
    options = ["--space", "space.yaml", "--data", str(tree), "--instruments", "vn", "--name", "x", "--workers", "1"]
    return subprocess.Popen(
        [sys.executable, "-m", "sepsearch.run", *options, "--on-event", receiver],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "TUNE_", "MLFLOW_"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def stop(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "sepsearch.stop", "x", *words, "--wait", str(LONGEST)]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=2 * LONGEST, check=False)


def test_a_search_stopped_by_another_process_trains_its_finalists_and_tells_receivers(tree, empty_store, tmp_path):
    shutil.copy(empty_store, tmp_path)
    process = begin(tmp_path, tree)
    journal = tmp_path / "runs" / "x" / "journal.jsonl"
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline and not (journal.exists() and '"trial_end"' in journal.read_text()):
        time.sleep(0.2)
    asked = stop(tmp_path)
    output, _ = process.communicate(timeout=LONGEST)
    assert (asked.returncode, process.returncode) == (0, 0), asked.stderr + output
    assert asked.stdout == "search over: running trials end, and the finalists are trained now\n"
    results = json.loads((tmp_path / "runs" / "x" / "results.json").read_text())
    assert results["stopped"] == {"rule": "by hand", "reason": "search stopped by hand"}
    assert results["reference"] in {trial["id"] for trial in results["trials"]}
    assert len(results["trials"]) < 60
    assert results["final"]["vn"]["seeds"] == [1, 2]
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert [message["event"] for message in told] == ["search_stopped", "end"]
    assert "warning: --on-event" not in output
    assert not (tmp_path / "runs" / "x" / "requests").exists()
    (stopped,) = [event for event in read_journal(journal) if event["event"] == "search_stopped"]
    assert stopped["by"]
