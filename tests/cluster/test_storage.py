"""A run in an object store: killed on one machine, gone on with on another that has nothing, fetched by a third."""

import json
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

from sepsearch.search.journal import read_journal
from sepsearch.search.remote_journal import RemoteJournal
from sepsearch.utils.errors import UserError
from sepsearch.utils.storage import StorageFolder, open_storage

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
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def run(self, module: str, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", f"sepsearch.{module}", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

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
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
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


RACE = """
import sys
from sepsearch.search import remote_journal
from sepsearch.utils.errors import UserError
from sepsearch.utils.storage import open_storage
remote_journal.ALIVE_SECONDS = 0.0
writer = remote_journal.RemoteJournal(open_storage("s3://bucket/race") / "journal")
writer.claim()
print("claimed", flush=True)
sys.stdin.readline()
try:
    for line in range(100):
        writer.append(b"%d of %s\\n" % (line, sys.argv[1].encode()))
        print(line, flush=True)
except UserError as error:
    print(error, flush=True)
writer.release()
"""


@pytest.fixture
def far(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> StorageFolder:
    """The run's place, for this process."""
    for name, value in environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return open_storage(STORAGE) / "far"


def race(environment, name):
    return subprocess.Popen(
        [sys.executable, "-c", RACE, name], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.fixture
def journal(environment, monkeypatch):
    for name, value in environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    place = open_storage("s3://bucket/race")
    yield RemoteJournal(place / "journal")
    place.remove_all()


def test_of_two_processes_that_race_for_a_journal_one_has_every_line(environment, journal):
    racers = {name: race(environment, name) for name in ("a", "b")}
    assert [racer.stdout.readline() for racer in racers.values()] == ["claimed\n"] * 2
    for racer in racers.values():
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = {name: racer.communicate(timeout=120)[0].splitlines() for name, racer in racers.items()}
    lines = [line.decode().split() for line in journal.read_all()]
    assert [int(number) for number, _, _ in lines] == list(range(100))
    assert sum(len(words) == 100 and words[-1] == "99" for words in said.values()) == 1
    assert sum("has written this line" in words[-1] for words in said.values()) == 1
    for name, words in said.items():
        assert [word for word in words if word.isdecimal()] == [number for number, _, who in lines if who == name]


def test_a_process_that_was_stopped_while_another_took_the_run_over_stops_and_damages_nothing(environment, journal):
    slow = race(environment, "slow")
    assert slow.stdout.readline() == "claimed\n"
    slow.stdin.write("go\n")
    slow.stdin.flush()
    assert slow.stdout.readline() == "0\n"
    slow.send_signal(signal.SIGSTOP)
    successor = RemoteJournal(journal.storage)
    while True:
        taken = len(successor.read_all())
        try:
            successor.append(b"first\n")
            break
        except UserError:  # the last request of the other was still under way
            continue
    for number in range(300):
        successor.append(b"%d\n" % number)
    slow.send_signal(signal.SIGCONT)
    said, _ = slow.communicate(timeout=120)
    assert "has written this line of the journal, so it has taken this run over" in said.splitlines()[-1]
    assert journal.read_all()[taken:] == [b"first\n", *(b"%d\n" % number for number in range(300))]


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
    RemoteJournal(far / "journal").fetch(tmp_path / "copy")
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


def another(folder: Path, machines: list[Machine]) -> Machine:
    """A machine that has seen nothing of the run."""
    (folder / "space.yaml").write_text(SPACE)
    own = {"SEPSEARCH_CACHE": str(folder / "cache"), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    return Machine(folder, machines[0].environment | own)


def results_of(folder: StorageFolder) -> dict:
    return json.loads(folder.read("results.json"))


def test_a_search_begins_with_the_trials_of_a_run_in_the_object_store(machines, far, tmp_path, tree):
    done = another(tmp_path, machines).run(
        *("run", "--space", "space.yaml", "--data", str(tree), "--instruments", "vn,vc", "--name", "warm"),
        *("--trials", "2", "--warm-start", "far", "--storage", STORAGE),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    completed = sum(trial["state"] == "completed" for trial in results_of(far)["trials"])
    (known,) = results_of(open_storage(STORAGE) / "warm")["known"]
    # The reference's trial does not enter.
    assert (known["name"], known["entered"] + known["reference"]) == ("far", completed)
    assert f"of {completed} completed trials of far" in done.stdout


def test_a_run_in_the_object_store_is_extended_on_a_machine_that_has_nothing_of_it(machines, far, tmp_path):
    before = results_of(far)
    done = another(tmp_path, machines).run("run", "--continue", "far", "--trials", "6", "--storage", STORAGE)
    assert done.returncode == 0, done.stderr[-2000:]
    after = results_of(far)
    assert [trial["id"] for trial in after["trials"]] == [f"t{number:04d}" for number in range(6)]
    assert after["trials"][:4] == before["trials"]
    assert set(after["final"]) == {"vn", "vc"}
