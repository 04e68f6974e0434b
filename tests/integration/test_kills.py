"""Real kills: SIGKILL to the driver, to a worker and to Ray's head, in a search that goes on and ends."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from small_spaces import small_space

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.search.events import Event
from sepsearch.search.journal import read_run

SPACE = small_space(
    # Trials that do not pause after their first epoch are at work when their worker is killed.
    "trials: 4, epochs: 3, examples_per_epoch: 32, validation_examples: 16, startup_trials: 2, stopping: asha",
    "seeds: 2, epochs: 2",
)
PATIENCE = 300.0  # seconds
# Runs a script where nothing of this package, nor what it is built on, can be imported.
BLOCKED = """
import runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("sepsearch", "torch", "mlflow", "ray"):
            raise ImportError(name + " is not there")

sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass
class Life:
    """A process that searches until it is killed or has finished."""

    process: subprocess.Popen
    journal: Path

    def events(self) -> list[Event]:
        return list(read_run(self.journal)) if self.journal.exists() else []

    def wait_for(self, kind: str, count: int) -> None:
        """Wait until the journal has so many events of a kind, or the process has ended."""
        deadline = time.monotonic() + PATIENCE
        while sum(e["event"] == kind for e in self.events()) < count and self.process.poll() is None:
            assert time.monotonic() < deadline, f"no {count} events {kind} after {PATIENCE:g} s"
            time.sleep(0.1)

    def children(self, name: str) -> list[psutil.Process]:
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if name in " ".join(child.cmdline()):
                    found.append(child)
            except psutil.Error:
                continue
        return found

    def end(self) -> int:
        return self.process.wait(timeout=2 * PATIENCE)


def live(folder: Path, tree: Path, resume: bool) -> Life:
    (folder / "space.yaml").write_text(SPACE)
    new = ["--space", "space.yaml", "--data", str(tree), "--instruments", "vn,vc", "--name", "x", "--seed", "2"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_", "MLFLOW_"))}
    # A head that is gone is noticed after 60 s otherwise.
    environment["RAY_gcs_rpc_server_reconnect_timeout_s"] = "3"
    with (folder / "output.txt").open("a") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sepsearch.run", *(["--resume", "x"] if resume else new)],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Life(process, folder / "runs" / "x" / "journal.jsonl")


@pytest.fixture(scope="module")
def survived(tree, empty_store, tmp_path_factory) -> Path:
    """A search through the death of a worker, of Ray's head, and of the driver, the last at a seeded random moment."""
    folder, moments = tmp_path_factory.mktemp("kills"), random.Random(5)
    shutil.copy(empty_store, folder)
    life = live(folder, tree, resume=False)
    life.wait_for("epoch", 1)
    for worker in life.children("ray::t0")[:1]:
        worker.kill()
    life.wait_for("retry", 1)
    for head in life.children("gcs_server"):
        head.kill()
    assert life.end() != 0
    life = live(folder, tree, resume=True)
    life.wait_for("final_epoch", 1)
    time.sleep(moments.random())
    life.process.kill()
    life.end()
    assert live(folder, tree, resume=True).end() == 0, (folder / "output.txt").read_text()
    return folder


def test_killed_again_and_again_a_search_ends_with_all_its_trials_and_models(survived):
    results = json.loads((survived / "runs" / "x" / "results.json").read_text())
    assert [trial["id"] for trial in results["trials"]] == [f"t{number:04d}" for number in range(4)]
    assert {trial["state"] for trial in results["trials"]} <= {"completed", "stopped", "failed"}
    assert set(results["final"]) == {"vn", "vc"}
    assert all(row["seeds"] == [3, 4] for row in results["final"].values())


def test_no_epoch_is_in_the_journal_twice_and_every_unit_has_one_end(survived):
    events = list(read_run(survived / "runs" / "x" / "journal.jsonl"))
    assert sum(event["event"] == "resume" for event in events) == 2
    epochs = Counter((e["id"], e["epoch"]) for e in events if e["event"] in ("epoch", "final_epoch"))
    ends = Counter(e["id"] for e in events if e["event"] in ("trial_end", "final_end") and e["reason"] != "interrupted")
    assert set(epochs.values()) == set(ends.values()) == {1}
    assert set(ends) == {e["id"] for e in events if e["event"] in ("trial", "final")}


def test_a_trial_whose_worker_was_killed_goes_on_under_its_id(survived):
    events = list(read_run(survived / "runs" / "x" / "journal.jsonl"))
    (retry, *_) = (event for event in events if event["event"] == "retry")
    assert "worker died" in retry["reason"]
    (end,) = (
        e for e in events if e["event"] == "trial_end" and e["id"] == retry["id"] and e["reason"] != "interrupted"
    )
    assert end["epochs"] >= retry["epochs"]
    assert end["state"] != "failed" or "worker died" not in end["reason"]


def test_the_study_says_what_the_journal_says(survived):
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.study import load_study

    path = survived / "runs" / "x" / "study.log"
    study = load_study(study_name="x", storage=JournalStorage(JournalFileBackend(str(path))))
    results = json.loads((survived / "runs" / "x" / "results.json").read_text())
    told = {trial.user_attrs["trial"]: trial for trial in study.trials}
    for trial in results["trials"]:
        if trial["id"] in told:  # all but a reference outside the space
            states = {"completed": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL"}
            assert told[trial["id"]].state.name == states[trial["state"]]
            assert told[trial["id"]].intermediate_values.get(trial["epochs"]) == trial["ratio"]
    assert len(told) == len(study.trials) >= 3
    ratios = {trial["id"]: trial["ratio"] for trial in results["trials"] if trial["state"] == "completed"}
    assert study.best_trial.user_attrs["trial"] == min(ratios.keys() & told.keys(), key=ratios.__getitem__)


def test_mlflow_has_one_run_a_unit_and_one_point_an_epoch(survived):
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{survived / 'mlflow.db'}")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    names = Counter(run.info.run_name for run in runs)
    assert set(names.values()) == {1}
    events = list(read_run(survived / "runs" / "x" / "journal.jsonl"))
    (scores,) = (event for event in events if event["event"] == "scores")
    units = {e["id"] for e in events if e["event"] in ("trial", "final")}
    models = {f"{INSTRUMENTS[code]} · {job}" for code, rows in scores["candidates"].items() for job in rows}
    assert set(names) == {"x"} | units | models
    assert "RUNNING" not in {run.info.status for run in runs}
    for run in (run for run in runs if run.info.run_name in units):
        mine = [e for e in events if e["event"] in ("epoch", "final_epoch") and e["id"] == run.info.run_name]
        points = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "ratio")]
        assert sorted(points) == [(e["epoch"], e["ratio"]) for e in mine]


def test_nothing_of_use_only_while_it_runs_is_left(survived):
    left = {path.name for path in (survived / "runs" / "x").glob("[!.]*")}
    assert left == {
        "space.yaml",
        "journal.jsonl",
        "results.json",
        "study.log",
        "finalists",
        "models",
        "samples",
        "report.html",
    }


def test_no_traceback_was_shown(survived):
    assert "Traceback" not in (survived / "output.txt").read_text()


def test_a_model_of_it_that_a_person_picked_separates_alike_as_a_package_and_exported_without_it(
    survived, tree, monkeypatch, capsys
):
    from sepsearch import export, promote, separate

    monkeypatch.chdir(survived)
    row = json.loads((survived / "runs" / "x" / "results.json").read_text())["final"]["vn"]
    seed = next(seed for seed in row["seeds"] if seed != row["seed"])
    promote.main([f"x/{row['configuration']}-s{seed}", "--instrument", "vn"])
    assert f"seed {seed}" in capsys.readouterr().out
    export.main(["vn", "exported"])
    mixture = tree / "12_Spring_vn_vn_vc" / "AuMix_12_Spring_vn_vn_vc.wav"
    separate.main([str(mixture), "--instrument", "vn", "-o", "package.wav"])
    Path("blocked.py").write_text(BLOCKED)
    alone = [sys.executable, "blocked.py", "exported/separate.py", str(mixture), "alone.wav"]
    subprocess.run(alone, capture_output=True, check=True)
    package, alone = (soundfile.read(name)[0] for name in ("package.wav", "alone.wav"))
    assert len(package) == len(alone) == soundfile.info(mixture).frames
    assert np.abs(package).max() > 1e-3
    assert np.abs(package - alone).max() < 0.01 * np.abs(package).max()
