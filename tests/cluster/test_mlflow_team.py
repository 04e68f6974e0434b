"""MLflow as a team uses it: PostgreSQL, users with passwords, two searches at once, a server that dies and comes back."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from team import ADMIN_PASSWORD, MLFLOW, SECRET_KEY, Postgres, TeamServer, quiet_environment

from sepsearch.search.events import Event
from sepsearch.search.journal import read_run
from sepsearch.tracking.access import check_access, registry_notes
from sepsearch.tracking.mapping import Projection
from sepsearch.tracking.tracker import connect
from sepsearch.utils.errors import UserError

SPACE = """
parameters:
  filters: 4
  head: [relu, mask]
  learning_rate: {low: 1e-3, high: 1e-2, log: true}
front_end: {clip_seconds: 1.0}
search: {trials: 4, epochs: 3, examples_per_epoch: 32, validation_examples: 16, startup_trials: 2, grace_epochs: 1, reduction_factor: 2}
final: {configurations: 1, seeds: 1, epochs: 2}
"""
PATIENCE = 400.0  # seconds
CODES = ("vn", "vc")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    database = Postgres()
    try:
        database.start()
        yield database
    finally:
        database.stop()


@pytest.fixture(scope="module")
def server(postgres, tmp_path_factory) -> Iterator[TeamServer]:
    """With alice and bob, who search, and carol, who only looks."""
    team = TeamServer(tmp_path_factory.mktemp("team"), postgres)
    try:
        team.start()
        for words in (("alice",), ("bob",), ("carol", "--reader")):
            done = team.users("add", *words)
            assert done.returncode == 0, done.stderr
        yield team
    finally:
        team.kill()


@dataclass
class Search:
    """A user's search in a folder and a home of their own."""

    folder: Path
    name: str
    process: subprocess.Popen
    began: float

    @property
    def events(self) -> list[Event]:
        path = self.folder / "runs" / self.name / "journal.jsonl"
        return list(read_run(path)) if path.exists() else []

    @property
    def output(self) -> str:
        return (self.folder / f"{self.name}.txt").read_text()

    def wait_for(self, kind: str, count: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while sum(event["event"] == kind for event in self.events) < count:
            assert time.monotonic() < deadline, self.output
            assert self.process.poll() is None, self.output
            time.sleep(0.1)

    def end(self) -> float:
        """Wait; seconds from its start to its end."""
        assert self.process.wait(PATIENCE) == 0, self.output
        return time.monotonic() - self.began


@dataclass
class StorageFolder:
    """Where one user searches: passwords in a file, or in the environment."""

    folder: Path
    environment: dict[str, str]

    def search(self, tree: Path, name: str, seed: int) -> Search:
        (self.folder / "space.yaml").write_text(SPACE)
        options = ["--space", "space.yaml", "--data", str(tree), "--instruments", ",".join(CODES), "--name", name]
        command = [sys.executable, "-m", "sepsearch.run", *options, "--workers", "1", "--seed", str(seed)]
        with (self.folder / f"{name}.txt").open("w") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )
        return Search(self.folder, name, process, time.monotonic())


def place_of(server: TeamServer, user: str, folder: Path, in_file: bool) -> StorageFolder:
    environment = quiet_environment() | {"HOME": str(folder), "SEPSEARCH_CACHE": str(folder / "cache")}
    if not in_file:
        return StorageFolder(folder, environment | server.credentials(user))
    (folder / ".mlflow").mkdir(exist_ok=True)
    (folder / ".mlflow" / "credentials").write_bytes((server.folder / f"{user}.credentials").read_bytes())
    return StorageFolder(folder, environment | {"MLFLOW_TRACKING_URI": server.uri})


@pytest.fixture(scope="module")
def places(server, tmp_path_factory) -> dict[str, StorageFolder]:
    return {
        name: place_of(server, name, tmp_path_factory.mktemp(name), in_file=name == "alice")
        for name in ("alice", "bob")
    }


def command_lines(secrets: dict[str, str]) -> set[str]:
    """Which secrets stand in the command line of any process of this machine."""
    found = set()
    for process in psutil.process_iter():
        try:
            line = "\0".join(process.cmdline())
        except psutil.Error:
            continue
        found |= {name for name, secret in secrets.items() if secret in line}
    return found


def all_secrets(server: TeamServer) -> dict[str, str]:
    passwords = {user: server.credentials(user)["MLFLOW_TRACKING_PASSWORD"] for user in ("alice", "bob", "carol")}
    return {**passwords, **server.secrets, "database": server.postgres.password}


@pytest.fixture(scope="module")
def alone(places, tree) -> float:
    """Seconds of one search with the server for itself."""
    return places["alice"].search(tree, "alone", 1).end()


@pytest.fixture(scope="module")
def together(server, places, tree, alone) -> tuple[list[Search], list[float], set[str]]:
    """Alice's and bob's searches side by side, their seconds, and the secrets that were seen in command lines."""
    searches = [places[user].search(tree, f"{user}-both", seed) for seed, user in enumerate(("alice", "bob"), 2)]
    for search in searches:
        search.wait_for("epoch", 1)
    seen = command_lines(all_secrets(server))
    return searches, [search.end() for search in searches], seen


@pytest.fixture(scope="module")
def through_a_kill(server, places, tree, together) -> list[Search]:
    """Two more, while the server is killed and comes back; what came too late for a search, `track` brings."""
    searches = [places[user].search(tree, f"{user}-kill", seed) for seed, user in enumerate(("alice", "bob"), 4)]
    for search in searches:
        search.wait_for("epoch", 1)
    server.kill()
    known = [len(search.events) for search in searches]
    for search, count in zip(searches, known, strict=True):
        while len(search.events) == count and search.process.poll() is None:
            time.sleep(0.1)
    server.start()
    for search in searches:
        search.end()
        if "not all of this run is in MLflow" in search.output:
            command = [sys.executable, "-m", "sepsearch.track", search.name]
            environment = places[search.name.partition("-")[0]].environment
            subprocess.run(command, cwd=search.folder, env=environment, check=True, timeout=PATIENCE)
    return searches


def as_alice(server: TeamServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in server.credentials("alice").items():
        monkeypatch.setenv(name, value)
    return connect(server.uri)


def recorded(client: Any, search: Search) -> dict[str, Any]:
    """MLflow's runs of a search, by the last part of their key; none of them twice."""
    experiment = client.get_experiment_by_name("sepsearch").experiment_id
    run = search.events[0]["run"]
    found = client.search_runs([experiment], f"tags.`sepsearch.run` = '{run}'")
    keys = [run.data.tags["sepsearch.key"].partition("/")[2] for run in found]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, found, strict=True))


def check_against_the_journal(client: Any, search: Search) -> None:
    """Every run, parameter, metric of every epoch, tag, state and file of a journal is there once, and nothing else."""
    projection = Projection(search.folder / "runs" / search.name)
    for event in search.events:
        projection.apply(event)
    projection.draw()
    runs = recorded(client, search)
    assert set(runs) == set(projection.work)
    for id, work in projection.work.items():
        run = runs[id]
        assert run.data.params == work.params
        expected, found = defaultdict(list), {}
        for key, value, moment, step in work.metrics:
            expected[key].append((step, moment, value))
        for key in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, key)
            found[key] = sorted((metric.step, metric.timestamp, metric.value) for metric in history)
        assert found == {key: sorted(values) for key, values in expected.items()}, id
        assert {key: run.data.tags.get(key) for key in work.tags} == work.tags
        assert (run.info.status, run.info.end_time) == work.status
        assert files(client, run.info.run_id) == set(work.files), id
        parent = None if id == "" else runs[""].info.run_id
        assert run.data.tags.get("mlflow.parentRunId") == parent
    # Without the projection: as many epochs as the journal has.
    for id in {event["id"] for event in search.events if event["event"] in ("trial", "final")}:
        epochs = [e["epoch"] for e in search.events if e["event"] in ("epoch", "final_epoch") and e["id"] == id]
        history = client.get_metric_history(runs[id].info.run_id, "ratio")
        assert sorted(metric.step for metric in history) == epochs


def files(client: Any, run_id: str, folder: str | None = None) -> set[str]:
    found: set[str] = set()
    for item in client.list_artifacts(run_id, folder):
        found |= files(client, run_id, item.path) if item.is_dir else {item.path}
    return found


def test_two_searches_at_once_lose_nothing_and_double_nothing(server, together, monkeypatch):
    client = as_alice(server, monkeypatch)
    for search in together[0]:
        check_against_the_journal(client, search)
        assert "away" not in search.output
        assert "refuses" not in search.output


def test_a_server_that_is_killed_under_two_searches_has_everything_once_in_the_end(server, through_a_kill, monkeypatch):
    client = as_alice(server, monkeypatch)
    for search in through_a_kill:
        check_against_the_journal(client, search)
        assert search.output.count("is away") == 1


def test_runs_name_the_user_of_the_server_whether_from_the_file_or_the_environment(server, together, monkeypatch):
    client = as_alice(server, monkeypatch)
    for search in together[0]:
        users = {run.data.tags["mlflow.user"] for run in recorded(client, search).values()}
        assert users == {search.name.partition("-")[0]}


def test_both_users_register_under_the_same_names_and_the_champion_is_one_that_a_search_settled_on(
    server, together, through_a_kill, monkeypatch
):
    client = as_alice(server, monkeypatch)
    for code in CODES:
        name = f"sepsearch-{code}"
        versions = {v.version: v.tags["search"] for v in client.search_model_versions(f"name = '{name}'")}
        assert sorted(versions.values()) == ["alice-both", "alice-kill", "alone", "bob-both", "bob-kill"]
        champion = client.get_registered_model(name).aliases.get("champion")  # none, if none beats the baselines
        settled = set()
        for search in (*together[0], *through_a_kill):
            (registered,) = (event for event in search.events if event["event"] == "registered")
            assert versions[registered["models"][code].rpartition("/")[2]] == search.name
            settled |= {registered["champions"][code]["before"], registered["champions"][code]["now"]}
        assert (None if champion is None else str(champion)) in settled


def test_files_that_went_through_the_server_are_those_of_the_runs_folder(server, together, monkeypatch, tmp_path):
    client = as_alice(server, monkeypatch)
    for search in together[0]:
        runs = recorded(client, search)
        for id, path in (("", "report.html"), ("vn", "audio/estimate.mp3")):
            there = Path(client.download_artifacts(runs[id].info.run_id, path, str(tmp_path)))
            here = {"": "report.html", "vn": "samples/vn/estimate.mp3"}[id]
            assert there.read_bytes() == (search.folder / "runs" / search.name / here).read_bytes()


def test_no_password_is_in_a_command_line_a_log_or_a_file_of_a_run(server, places, together, through_a_kill):
    assert together[2] == set()
    secrets = all_secrets(server)
    looked_at = [server.log, MLFLOW / "basic_auth.ini", server.postgres.folder / "log"]
    for place in places.values():
        looked_at += [path for path in place.folder.rglob("*") if path.is_file() and ".mlflow" not in path.parts]
    looked_at += [path for path in (server.folder / "mlartifacts").rglob("*") if path.is_file()]
    assert len(looked_at) > 100
    found = {
        (path, name) for path in looked_at for name, secret in secrets.items() if secret.encode() in path.read_bytes()
    }
    assert found == set()
    assert all(path.stat().st_mode & 0o077 == 0 for path in (server.folder / "mlartifacts").rglob("*"))


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        (
            {"MLFLOW_TRACKING_USERNAME": "alice", "MLFLOW_TRACKING_PASSWORD": "not hers, clearly"},
            "refuses: 401, user 'alice' or its password is wrong: set MLFLOW_TRACKING_USERNAME",
        ),
        ({}, "refuses: 401, it needs a user and a password: set MLFLOW_TRACKING_USERNAME"),
        ("carol", "refuses: 403, user 'carol' may not write to experiment 'sepsearch' (permission READ"),
        (
            "by another name",
            "refuses: 403, it does not accept the host name in this address: start it with that name in --allowed-hosts",
        ),
    ],
    ids=["wrong password", "nobody", "reader", "name"],
)
def test_a_search_that_the_server_refuses_ends_at_once_with_one_line(server, together, tree, tmp_path, who, expected):
    place = place_of(server, "alice", tmp_path, in_file=False)
    place.environment |= {"MLFLOW_TRACKING_USERNAME": "", "MLFLOW_TRACKING_PASSWORD": ""}
    if who == "carol":
        place.environment |= server.credentials("carol")
    elif who == "by another name":
        place.environment |= server.credentials("alice") | {"MLFLOW_TRACKING_URI": f"http://localhost:{server.port}"}
    else:
        place.environment |= who
    search = place.search(tree, "refused", 1)
    assert search.process.wait(PATIENCE) == 2
    (line,) = search.output.splitlines()
    assert line.startswith("error: MLflow at http://")
    assert expected in line
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "cache" / "shards").exists()


def test_a_user_who_may_search_but_not_register_is_told_before_anything_is_spent(server, together, monkeypatch):
    client = as_alice(server, monkeypatch)
    experiment = client.get_experiment_by_name("sepsearch").experiment_id
    assert registry_notes(CODES) == []
    assert server.users("add", "dave", "--reader").returncode == 0
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", server.secrets[ADMIN_PASSWORD])
    from mlflow.server import get_app_client

    assert check_access() is None
    assert registry_notes(CODES) == []
    get_app_client("basic-auth", tracking_uri=server.uri).grant_user_permission(
        "dave", "experiment", experiment, "EDIT"
    )
    for name, value in server.credentials("dave").items():
        monkeypatch.setenv(name, value)
    check_access()
    (note,) = registry_notes((*CODES, "tba"))
    assert "user 'dave' may not register sepsearch-vn, sepsearch-vc: those models stay in the run's folder" in note


def test_a_deleted_experiment_is_told_before_anything_is_spent(server, together, monkeypatch):
    client = as_alice(server, monkeypatch)
    client.delete_experiment(client.create_experiment("gone"))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "gone")
    with pytest.raises(UserError, match="experiment 'gone' is deleted: restore it"):
        check_access()


URI = "expected postgresql+psycopg2://"
MISTAKES = {
    "no database named": ({"MLFLOW_BACKEND_STORE_URI": None}, [], URI),
    "sqlite": ({"MLFLOW_BACKEND_STORE_URI": "sqlite:///x.db"}, [], URI),
    "password in the address": ({"MLFLOW_BACKEND_STORE_URI": "postgresql://mlflow:hush@127.0.0.1/mlflow"}, [], URI),
    "MLflow's own settings": (
        {"MLFLOW_AUTH_CONFIG_PATH": None},
        [],
        "MLFLOW_AUTH_CONFIG_PATH=: database_uri: expected",
    ),
    "nobody listens": ({"PGPORT": "9", "PGPASSWORD": "hush"}, [], "Connection refused"),
    "no password": ({"PGPASSFILE": "/none"}, [], "no password supplied"),
    "wrong password": ({"PGPASSWORD": "hush"}, [], "password authentication failed"),
    "another's database": ({"PGDATABASE": "postgres"}, [], "may not make tables there"),
    "empty secret": ({SECRET_KEY: ""}, [], f"{SECRET_KEY}: empty"),
    "short secret": ({SECRET_KEY: "hush"}, [], f"{SECRET_KEY}: empty, shorter"),
    "known password": ({ADMIN_PASSWORD: "password1234"}, [], f"{ADMIN_PASSWORD}: empty, shorter"),
    "heard by all": (
        {"MLFLOW_HOST": "0.0.0.0", "MLFLOW_SERVER_ALLOWED_HOSTS": ""},
        [],
        "expected MLFLOW_SERVER_ALLOWED",
    ),
    "an option": ({}, ["--host", "0.0.0.0"], "--host: cannot be looked at here: set MLFLOW_HOST"),
    "foreign address": ({"MLFLOW_HOST": "192.0.2.1"}, [], "Cannot assign requested address"),
    "artifacts": ({"MLFLOW_ARTIFACTS_DESTINATION": "/proc/none"}, [], "/proc/none"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_the_server_lacks_is_one_line_before_it_starts(postgres, tmp_path, mistake):
    changes, options, expected = MISTAKES[mistake]
    server = TeamServer(tmp_path, postgres)
    environment = server.environment() | changes
    environment = {key: value for key, value in environment.items() if value is not None}
    check_refused(server.command(*options), environment, tmp_path, expected)
    assert not (tmp_path / "mlartifacts").exists()


def test_a_port_in_use_is_one_line_before_the_server_starts(server, tmp_path):
    another = TeamServer(tmp_path, server.postgres)
    check_refused(
        another.command(), another.environment() | {"MLFLOW_PORT": str(server.port)}, tmp_path, "Address already in use"
    )


def test_a_missing_package_is_one_line_before_the_server_starts(postgres, tmp_path):
    server = TeamServer(tmp_path, postgres)
    python, *words = server.command()
    check_refused([python, "-S", *words], server.environment(), tmp_path, "package mlflow is missing: ")  # no packages


def check_refused(command: list[str], environment: dict[str, str], folder: Path, expected: str) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert "hush" not in line


def test_a_new_server_on_the_same_database_knows_its_users_and_needs_no_admin_password(server, together, tmp_path):
    other = TeamServer(tmp_path, server.postgres)
    try:
        del other.secrets[ADMIN_PASSWORD]
        other.start()
        place = place_of(server, "bob", tmp_path, in_file=False)
        script = (
            "import sys; from sepsearch.tracking.access import check_access; check_access(sys.argv[1]); print('in')"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, other.uri], env=place.environment, capture_output=True, text=True, check=True
        )
        assert done.stdout == "in\n"
    finally:
        other.kill()


def test_timings_are_printed(server, alone, together, monkeypatch, capsys):
    client = as_alice(server, monkeypatch)
    from mlflow.entities import Metric

    experiment = client.create_experiment(f"timings-{os.getpid()}")
    created, batches = [], []
    for _ in range(20):
        begin = time.perf_counter()
        run = client.create_run(experiment).info.run_id
        created.append(time.perf_counter() - begin)
        for step in range(3):
            begin = time.perf_counter()
            client.log_batch(run, [Metric(f"m{n}", n, 1, step) for n in range(30)], synchronous=True)
            batches.append(time.perf_counter() - begin)
    run, batch = (1e3 * statistics.median(values) for values in (created, batches))
    longest = max(together[1])
    with capsys.disabled():
        print(
            f"\nMLflow on PostgreSQL with users: a run {run:.0f} ms, 30 metrics {batch:.0f} ms (medians);"
            f" one search {alone:.0f} s, two at once {longest:.0f} s ({longest / alone:.2f} times)"
        )
    results = json.loads((together[0][0].folder / "runs" / "alice-both" / "results.json").read_text())
    assert all(row["model_uri"].startswith("models:/sepsearch-") for row in results["final"].values())
