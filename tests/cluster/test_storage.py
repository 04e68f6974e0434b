"""A run in an object store: killed on one machine, gone on with on another that has nothing, fetched by a third."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hosts import BIN, wait_until

from sepsearch.journal import read_journal
from sepsearch.mirror import Mirror
from sepsearch.places import Place, open_place

SPACE = """
parameters: {filters: [4, 8], learning_rate: {low: 1e-3, high: 5e-3, log: true}, head: [mask]}
front_end: {clip_seconds: 1.0}
search: {trials: 4, epochs: 4, examples_per_epoch: 32, validation_examples: 16, startup_trials: 2, reduction_factor: 4}
final: {configurations: 1, seeds: 1, epochs: 1}
"""
STORAGE = "s3://bucket/runs"


@dataclass
class Machine:
    """A machine with a folder, a cache and an MLflow of its own."""

    folder: Path
    environment: dict[str, str]
    refused: subprocess.CompletedProcess | None = None

    def start(self, module: str, *words: str) -> subprocess.Popen:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"sepsearch.{module}", *words],
                cwd=self.folder, env=self.environment, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def run(self, module: str, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", f"sepsearch.{module}", *words],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An S3 server with a bucket, and how to reach it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("w") as file:
        server = subprocess.Popen([str(BIN / "moto_server"), "-p", str(port)], stdout=file, stderr=file)
    own = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
    }  # fmt: skip
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "TUNE_", "MLFLOW_"))}
    try:
        wait_until(lambda: "Running on" in log.read_text(), 60, "the S3 server")
        code = "import boto3; boto3.client('s3').create_bucket(Bucket='bucket')"
        subprocess.run([sys.executable, "-c", code], env=clean | own, check=True, timeout=60)
        yield clean | own
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def machines(environment: dict[str, str], tree: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Machine]:
    """The first began a run and was killed, the second went on with it and finished, the third fetched it."""
    made = []
    for name in ("first", "second", "third"):
        folder = tmp_path_factory.mktemp(name)
        (folder / "space.yaml").write_text(SPACE)
        own = {"SEPSEARCH_CACHE": str(folder / "cache"), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        made.append(Machine(folder, environment | own))
    first, second, third = made
    words = [
        "--space",
        "space.yaml",
        "--data",
        str(tree),
        "--instruments",
        "vn,vc",
        "--name",
        "far",
        "--storage",
        STORAGE,
    ]
    driver = first.start("run", *words)
    journal = first.folder / "runs" / "far" / "journal.jsonl"
    wait_until(lambda: journal.exists() and journal.read_text().count('"event":"epoch"') >= 3, 200, "three epochs")
    first.refused = second.run("run", "--resume", "far", "--storage", STORAGE)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    done = second.run("run", "--resume", "far", "--storage", STORAGE)
    (second.folder / "log").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr[-2000:]
    done = third.run("fetch", "far", "--storage", STORAGE)
    assert done.returncode == 0, done.stderr[-2000:]
    return made


@pytest.fixture
def far(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Place:
    """The run's place, for this process."""
    for name, value in environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return open_place(STORAGE) / "far"


def test_a_run_at_work_cannot_be_taken_by_another_machine(machines):
    refused = machines[0].refused
    assert refused.returncode == 2
    assert "another process is at work on this run" in refused.stderr


def test_the_second_machine_ends_the_run_and_no_epoch_is_there_twice(machines):
    events = list(read_journal(machines[1].folder / "runs" / "far" / "journal.jsonl"))
    epochs = [(event["id"], event["epoch"]) for event in events if event["event"] == "epoch"]
    ended = [event["id"] for event in events if event["event"] == "trial_end" and event["reason"] != "interrupted"]
    assert events[-1]["state"] == "finished"
    assert len(epochs) == len(set(epochs)) >= 4
    assert sorted(ended) == ["t0000", "t0001", "t0002", "t0003"]


def test_what_the_first_machine_knew_is_the_beginning_of_what_the_second_has(machines):
    first, second = ((one.folder / "runs" / "far" / "journal.jsonl").read_bytes() for one in machines[:2])
    # Its last line may never have reached the storage: then nobody has heard of it.
    known = first[: first[:-1].rfind(b"\n") + 1]
    assert known
    assert second.startswith(known)


def test_the_storage_has_the_journal_and_all_that_counts(machines, far, tmp_path):
    Mirror(far / "journal").fetch(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (machines[1].folder / "runs" / "far" / "journal.jsonl").read_bytes()
    names = far.names()
    assert {"results.json", "report.html", "space.yaml", "models/vc/model.json"} <= set(names)
    assert not [name for name in names if name.startswith(("checkpoints/", "journal/writer"))]


def test_shards_are_fetched_where_another_machine_has_left_them(machines):
    assert "publishing shards" in machines[0].log()
    assert "fetching shards" in machines[1].log()
    assert "transforming" not in machines[1].log()


def test_a_fetched_run_has_its_models_and_its_page_can_be_made_anew(machines):
    run = machines[2].folder / "runs" / "far"
    assert (run / "models" / "vn" / "model.safetensors").stat().st_size > 1000
    assert len(list((run / "finalists").glob("*/vn.safetensors"))) == 2
    done = machines[2].run("report", "far")
    assert done.returncode == 0, done.stderr


def test_a_run_can_be_watched_without_a_folder_of_it(machines, tmp_path):
    watcher = Machine(tmp_path, machines[0].environment)
    done = watcher.run("watch", "far", "--storage", STORAGE)
    assert done.returncode == 0, done.stderr
    assert "far" in done.stdout
    assert "4 of 4" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_is_not_there_is_one_line_before_anything_is_made(machines, tmp_path, tree):
    (tmp_path / "space.yaml").write_text(SPACE)
    lost = Machine(tmp_path, machines[0].environment)
    done = lost.run(
        "run", "--space", "space.yaml", "--data", str(tree), "--name", "x", "--storage", "s3://nowhere/runs"
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: s3://nowhere/runs/x/")
    assert "does not exist" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_name_that_another_machine_has_used_is_refused(machines, tmp_path, tree):
    (tmp_path / "space.yaml").write_text(SPACE)
    other = Machine(tmp_path, machines[0].environment)
    done = other.run("run", "--space", "space.yaml", "--data", str(tree), "--name", "far", "--storage", STORAGE)
    assert done.returncode == 2
    assert "s3://bucket/runs/far: a run of this name exists" in done.stderr
