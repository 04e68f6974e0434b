"""A search on a cluster that has nobody to run a trial when it begins: Ray's autoscaler starts nodes for it."""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import BIN, Host, network, wait_until
from ray.autoscaler._private import fake_multi_node

from sepsearch.search.journal import read_journal

SPACE = """
parameters: {filters: [4, 8], head: [mask]}
front_end: {clip_seconds: 1.0}
search: {trials: 2, epochs: 2, examples_per_epoch: 32, validation_examples: 16}
final: {configurations: 1, seeds: 1, epochs: 1}
"""
HEAD_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"  # which Ray's imitation of a cloud gives its head
EMPTY_LISTS = (
    "cluster_synced_files",
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
CLOUD = {
    "cluster_name": "imitated",
    "max_workers": 2,
    "upscaling_speed": 10,
    "idle_timeout_minutes": 5,
    "provider": {"type": "fake_multinode", "head_node_id": HEAD_ID, "launch_multiple": True},
    "auth": {"ssh_user": "nobody"},
    "docker": {},
    "head_node": {},
    "worker_nodes": {},
    "file_mounts": {},
    "file_mounts_sync_continuously": False,
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
    },
    **{key: [] for key in EMPTY_LISTS},
}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory, tree: Path) -> Iterator[tuple[Host, Path]]:
    """A head without CPUs, whose autoscaler may start two nodes (processes on the same host); and a folder on it."""
    folder = tmp_path_factory.mktemp("growing")
    (folder / "space.yaml").write_text(SPACE)
    (folder / "cloud.json").write_text(json.dumps(CLOUD))
    (folder / "token").write_text(secrets.token_hex(32))
    (folder / "tree").symlink_to(tree)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "TUNE_", "MLFLOW_"))}
    environment = clean | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "SEPSEARCH_CACHE": str(folder / "cache"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    # As Ray's launcher and KubeRay tell every node what it is.
    environment |= {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID, "RAY_NODE_TYPE_NAME": "ray.head.default"}
    with network(environment) as net:
        host = net.add("head")
        # Ray's wheel has the imitation of a cloud, but not the file of its defaults.
        imitation = Path(fake_multi_node.__file__).parent
        shutil.copytree(imitation, folder / "imitation", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "imitation" / "example.yaml").write_text(json.dumps(CLOUD))
        host.run(["mount", "--bind", str(folder / "imitation"), str(imitation)], 10)
        words = ["ray", "start", "--head", "--port=6379", f"--node-ip-address={host.address}", "--num-cpus=0"]
        more = ["--autoscaling-config=cloud.json", "--include-dashboard=false", "--block"]
        host.start([str(BIN / words[0]), *words[1:], *more], folder / "head.log", folder)
        wait_until(lambda: "Ray runtime started" in (folder / "head.log").read_text(), 60, "Ray on the head")
        yield host, folder


def command(*words: str) -> list[str]:
    return [str(BIN / "python"), "-m", "sepsearch.run", "--space", "space.yaml", "--data", "tree", *words]


def test_a_search_that_does_not_say_how_many_at_once_is_told_to(head):
    host, folder = head
    done = host.run(command("--name", "no", "--address", f"{host.address}:6379"), 120, folder)
    assert done.returncode == 2
    assert "the cluster grows on demand: say with --workers how many trials at once" in done.stderr


def test_auto_has_no_gpu_to_measure_before_the_cluster_has_one(head):
    host, folder = head
    words = ["--name", "no", "--address", f"{host.address}:6379", "--workers", "2", "--gpus-per-trial", "auto"]
    done = host.run(command(*words), 120, folder)
    assert done.returncode == 2
    assert "give a number, such as 0.25" in done.stderr


def test_nodes_are_started_for_a_search_that_says_how_many(head):
    host, folder = head
    words = ["--name", "x", "--address", f"{host.address}:6379", "--workers", "2", "--instruments", "vn"]
    done = host.run(command(*words), 400, folder)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "nodes are started for 2 trials at once, 1 CPUs and 0 GPUs each" in done.stdout
    events = list(read_journal(folder / "runs" / "x" / "journal.jsonl"))
    assert sum(event["event"] == "trial_end" and event["epochs"] > 0 for event in events) == 2
