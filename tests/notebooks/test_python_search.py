"""A search from Python on a miniature folder: interrupted, ended by a callback, in a thread, on a Ray of the caller's."""

import json
import os
import subprocess
import sys
from pathlib import Path

from sepsearch.search.journal import read_journal

SCRIPT = """
import json, os, signal, sys, threading
import sepsearch as ss

SPACE = {
    "parameters": {"filters": (4, 16), "heads": ["one", "all"]},
    "front_end": {"clip_seconds": 1.0},
    "search": {"trials": 2, "epochs": 2, "examples_per_epoch": 32, "validation_examples": 16, "startup_trials": 2},
    "final": {"configurations": 1, "seeds": 1, "epochs": 1},
}
said, events = {}, []


def interrupt(event):
    if event["event"] == "epoch":
        os.kill(os.getpid(), signal.SIGINT)


def fragile(event):
    if event["event"] == "finalists":
        raise ValueError("too bad")


def in_thread():
    try:
        ss.resume("x", quiet=True, callbacks=[fragile])
    except ss.UserError as error:
        said["fragile"] = str(error)


before = signal.getsignal(signal.SIGINT)
try:
    ss.search(SPACE, data=sys.argv[1], instruments=["violin", "vc"], name="x", callbacks=[interrupt])
except KeyboardInterrupt:
    said["interrupted"] = ss.open_run("x").state
said["handler"] = signal.getsignal(signal.SIGINT) is before
thread = threading.Thread(target=in_thread)
thread.start()
thread.join()
said["failed"] = ss.open_run("x").state

import ray

said["stopped"] = not ray.is_initialized()
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
run = ss.resume("x", quiet=True, callbacks=[events.append])
said["ray"] = ray.is_initialized() and ray.get(ray.remote(lambda: 7).remote())
said |= {"state": run.state, "results": sorted(run.results), "events": [event["event"] for event in events]}
said |= {"trials": run.trials.state.tolist(), "curves": sorted(set(run.curves.instrument))}
said |= {"model": run.best("cello").instrument, "folder": str(run.folder), "report": run.report().name}
print(json.dumps(said))
"""


def test_a_search_from_python_is_interrupted_and_resumed_and_leaves_its_process_as_it_was(tree, tmp_path):
    # Without what other tests in this process have set up for themselves.
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "TUNE_", "MLFLOW_"))}
    environment = kept | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tree)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    said = json.loads(last)
    assert any("interrupted; to go on: sepsearch.resume('x')" in line for line in lines)
    assert (said["interrupted"], said["handler"], said["stopped"]) == ("interrupted", True, True)
    assert said["fragile"] == (
        "callback fragile raised ValueError: too bad at event 'finalists': correct it, then resume the run"
    )
    assert (said["failed"], said["state"], said["ray"]) == ("failed", "finished", 7)
    assert {"trials", "final", "verdicts", "champions"} <= set(said["results"])
    assert said["trials"] == ["completed", "completed"]
    assert said["curves"] == ["vc", "vn"]
    assert (said["model"], said["folder"], said["report"]) == ("vc", "runs/x", "report.html")
    journal = [event["event"] for event in read_journal(tmp_path / "runs" / "x" / "journal.jsonl")]
    assert said["events"] == journal[-len(said["events"]) :]
    assert (said["events"][0], said["events"][-1]) == ("resume", "end")
