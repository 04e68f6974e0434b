"""A search over several hosts: data reach each once, one is cut off, another comes, and every trial is accounted for."""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hosts import BIN, Host, Network, network, wait_until
from recording_fixtures import write_urmp_tree

import sepsearch
from sepsearch.search.journal import read_journal

PIECES = [(f"{number:02d}_Quintet{number}_fl_ob_cl_vn_vc", 20.0) for number in range(1, 5)]
# Enough trials that some are left when the third host has joined.
TRIALS, EPOCHS = 24, 6
SPACE = f"""
parameters: {{filters: [4, 8], learning_rate: {{low: 1e-3, high: 5e-3, log: true}}, head: [mask]}}
front_end: {{clip_seconds: 1.0}}
search: {{trials: {TRIALS}, epochs: {EPOCHS}, examples_per_epoch: 64, validation_examples: 32, startup_trials: 4, reduction_factor: 4}}
final: {{configurations: 1, seeds: 1, epochs: 1}}
"""
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_grpc_enable_http_proxy": "0",
    # A host that is cut off is missed after three seconds instead of about a minute.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "OMP_NUM_THREADS": "1",
}
PORT = 6379
S3 = 5555


@dataclass
class Cluster:
    """A head with a driver and an object store, and hosts with Ray; `folder` is where logs and the run are."""

    net: Network
    folder: Path
    head: Host
    workers: dict[str, Host] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{self.head.address}:{PORT}"

    def join(self, name: str, cpus: int, hidden: Path | None = None, **environment: str) -> Host:
        """A host that has joined the cluster."""
        host = self.net.add(name, hidden)
        words = ["ray", "start", f"--address={self.address}", f"--num-cpus={cpus}", f"--node-ip-address={host.address}"]
        ray(host, words, self.folder / f"{name}.log", **environment)
        self.workers[name] = host
        return host

    def command(self, *words: str) -> list[str]:
        return [str(BIN / "python"), "-m", "sepsearch.run", "--space", "space.yaml", "--data", "tree", *words]

    def events(self, name: str) -> list[dict]:
        path = self.folder / "runs" / name / "journal.jsonl"
        return list(read_journal(path)) if path.exists() else []


def ray(host: Host, words: list[str], log: Path, **environment: str) -> None:
    """Start Ray on a host and wait until it says so."""
    more = ["--object-store-memory=300000000", "--block"]
    host.start([str(BIN / words[0]), *words[1:], *more], log, **environment)
    wait_until(lambda: "Ray runtime started" in log.read_text(), 60, f"Ray on {host.name}: see {log}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The head, which runs no trials, with a store of objects; no worker yet."""
    folder = tmp_path_factory.mktemp("cluster")
    write_urmp_tree(folder / "tree", PIECES)
    (folder / "space.yaml").write_text(SPACE)
    (folder / "token").write_text(secrets.token_hex(32))
    (folder / "token").chmod(0o600)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "TUNE_", "MLFLOW_"))}
    environment |= ENVIRONMENT | {
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "SEPSEARCH_CACHE": str(folder / "cache"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    with network(environment) as net:
        head = net.add("head")
        environment["AWS_ENDPOINT_URL"] = f"http://{head.address}:{S3}"
        head.start([str(BIN / "moto_server"), "-H", head.address, "-p", str(S3)], folder / "s3.log")
        wait_until(lambda: "Running on" in (folder / "s3.log").read_text(), 60, "the S3 server")
        head.run([str(BIN / "python"), "-c", "import boto3; boto3.client('s3').create_bucket(Bucket='bucket')"], 60)
        words = ["ray", "start", "--head", f"--port={PORT}", f"--node-ip-address={head.address}", "--num-cpus=0"]
        ray(head, [*words, "--include-dashboard=false"], folder / "head.log")
        yield Cluster(net, folder, head)


@pytest.fixture(scope="module")
def searched(cluster: Cluster) -> dict:
    """A search over two hosts, of which one is cut off, and a third that comes later."""
    first, second = cluster.join("first", cpus=2), cluster.join("second", cpus=1)
    before = {host.name: host.received() for host in (first, second)}
    words = ("--name", "far", "--storage", "s3://bucket/runs", "--address", cluster.address, "--instruments", "vn,vc")
    driver = cluster.head.start(cluster.command(*words), cluster.folder / "driver.log", cluster.folder)
    ends = lambda: sum(e["event"] == "trial_end" for e in cluster.events("far"))  # noqa: E731
    trained_on_both = lambda: {first.address, second.address} <= uploads(cluster)  # noqa: E731
    wait_until(lambda: (ends() and trained_on_both()) or driver.poll() is not None, 180, "the first trial ends")
    moved = {host.name: host.received() - before[host.name] for host in (first, second)}
    second.cut_off()
    third = cluster.join("third", cpus=1)
    before["third"] = third.received()
    assert driver.wait(400) == 0, (cluster.folder / "driver.log").read_text()[-3000:]
    moved["third"] = third.received() - before["third"]
    shards = sum(path.stat().st_size for path in cluster.folder.glob("cache/shards/*/*.arrow"))
    return {"moved": moved, "shards": shards, "uploads": uploads(cluster)}


def uploads(cluster: Cluster) -> set[str]:
    """The addresses from which checkpoints have come."""
    log = (cluster.folder / "s3.log").read_text()
    return set(re.findall(r'^([\d.]+) .*"(?:PUT|POST) /bucket/runs/far/checkpoints/[tc]\d', log, re.MULTILINE))


def test_data_reach_each_host_once(searched):
    print()
    for name, moved in searched["moved"].items():
        print(f"host {name}: {moved / 1e6:.1f} MB came in, {moved / searched['shards']:.2f} times the shards")
    for moved in searched["moved"].values():
        assert 1.0 <= moved / searched["shards"] < 1.5


def test_every_trial_of_a_search_that_lost_a_host_is_accounted_for(searched, cluster):
    events = cluster.events("far")
    begun = [event["id"] for event in events if event["event"] == "trial"]
    ended = {event["id"]: event["state"] for event in events if event["event"] == "trial_end"}
    assert begun == [f"t{number:04d}" for number in range(TRIALS)]
    assert set(ended) == set(begun)
    assert set(ended.values()) <= {"completed", "stopped"}
    assert events[-1]["state"] == "finished"


def test_the_trial_of_the_host_that_was_cut_off_goes_on_elsewhere(searched, cluster):
    retries = [event for event in cluster.events("far") if event["event"] == "retry"]
    assert len(retries) == 1
    assert "node was lost" in retries[0]["reason"]
    epochs = [e["epoch"] for e in cluster.events("far") if e["event"] == "epoch" and e["id"] == retries[0]["id"]]
    assert epochs == list(range(1, len(epochs) + 1))


def test_a_host_that_comes_later_gets_work(searched, cluster):
    assert cluster.workers["third"].address in searched["uploads"]


def test_what_a_run_leaves_is_in_the_storage_and_checkpoints_are_not(searched, cluster):
    code = "from sepsearch.utils.storage import open_storage; print(*(open_storage('s3://bucket/runs') / 'far').names(), sep='\\n')"
    names = cluster.head.run([str(BIN / "python"), "-c", code], 60).stdout.split()
    assert {"results.json", "report.html", "space.yaml", "models/vn/model.safetensors"} <= set(names)
    assert not [name for name in names if name.startswith("checkpoints/")]
    lines = sorted(name for name in names if re.fullmatch(r"journal/[0-9]{9}\.jsonl", name))
    # One object a line, none of them removed.
    assert lines == [f"journal/{number:09d}.jsonl" for number in range(len(cluster.events("far")))]


# What a person can get wrong: one line each, before anything is spent


def refused(cluster: Cluster, *words: str, **environment: str) -> str:
    """The one line with which a search over the cluster is refused; nothing of it is left."""
    before = sorted(path.name for path in (cluster.folder / "runs").iterdir())
    done = cluster.head.run(cluster.command("--name", "no", *words), 200, cluster.folder, **environment)
    assert done.returncode == 2, done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert sorted(path.name for path in (cluster.folder / "runs").iterdir()) == before
    return errors[0]


def test_an_address_to_which_there_is_no_route_is_told(searched, cluster):
    assert "10.99.0.1:6379" in refused(cluster, "--address", "10.99.0.1:6379")


def test_a_wrong_token_is_told(searched, cluster):
    (cluster.folder / "other").write_text(secrets.token_hex(32))
    text = refused(cluster, "--address", cluster.address, RAY_AUTH_TOKEN_PATH=str(cluster.folder / "other"))
    assert "token" in text
    assert "RAY_AUTH_TOKEN_PATH" in text


def test_a_machine_that_is_no_node_of_the_cluster_is_told_to_become_one(searched, cluster):
    lonely = cluster.net.add("lonely")
    done = lonely.run(cluster.command("--name", "no", "--address", cluster.address), 100, cluster.folder)
    assert done.returncode == 2
    assert "ray start --address=" in done.stderr.splitlines()[-1]


def test_a_host_with_another_source_of_sepsearch_is_named(searched, cluster):
    other = cluster.folder / "other-source"
    shutil.copytree(Path(sepsearch.__file__).parent, other / "sepsearch", ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "sepsearch" / "plan.py").open("a") as file:
        file.write("# another line\n")
    old = cluster.join("old", cpus=1, PYTHONPATH=str(other))
    text = refused(cluster, "--address", cluster.address)
    assert f"node old ({old.address}): sepsearch is " in text
    assert "install the same versions on every node" in text
    old.close()
    wait_until(lambda: alive(cluster, old.address) is False, 30, "the host is missed")


def test_a_cluster_of_another_version_of_ray_is_told(searched, cluster):
    code = """
import json, sys, ray
from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put
ray.init(address=sys.argv[1], log_to_driver=False)
facts = json.loads(_internal_kv_get("CLUSTER_METADATA", namespace=KV_NAMESPACE_CLUSTER))
_internal_kv_put("CLUSTER_METADATA", json.dumps({**facts, "ray_version": sys.argv[2] or ray.__version__}), namespace=KV_NAMESPACE_CLUSTER)
"""
    cluster.head.run([str(BIN / "python"), "-c", code, cluster.address, "2.1.0"], 60)
    text = refused(cluster, "--address", cluster.address)
    cluster.head.run(
        [
            str(BIN / "python"),
            "-c",
            code.replace(
                "ray.init", "import ray._private.utils as u; u.check_version_info = lambda *a, **k: None; ray.init"
            ),
            cluster.address,
            "",
        ],
        60,
    )
    assert "Version mismatch: The cluster was started with: Ray: 2.1.0" in text


def alive(cluster: Cluster, address: str) -> bool:
    code = "import ray, sys; ray.init(address=sys.argv[1]); print(*(n['NodeManagerAddress'] for n in ray.nodes() if n['Alive']))"
    return address in cluster.head.run([str(BIN / "python"), "-c", code, cluster.address], 60).stdout.split()


def test_gpus_that_are_not_there_are_told(searched, cluster):
    text = refused(cluster, "--address", cluster.address, "--gpus-per-trial", "1")
    assert "1 GPUs, found" in text


def test_a_host_that_does_not_see_the_storage_is_named(searched, cluster):
    (cluster.folder / "shared").mkdir()
    blind = cluster.join("blind", cpus=1, hidden=cluster.folder / "shared")
    text = refused(cluster, "--address", cluster.address, "--storage", str(cluster.folder / "shared"))
    assert f"node blind ({blind.address})" in text
    assert "is not seen there" in text
    blind.close()
