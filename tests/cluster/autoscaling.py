"""Run by test_launcher_files.py in namespaces of its own: the shape of cluster/aws.yaml, with nodes that are processes.

A head without CPUs for trials, workers from none to two, Ray's autoscaler itself. Prints the number of workers over time.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml
from private_hosts import ROOT

IDLE_MINUTES = 0.1


def main(folder: Path) -> None:
    """Ask for two placements as Ray Tune does, use them, let them go."""
    from sepsearch.distributed.session import ENVIRONMENT

    os.environ.update(ENVIRONMENT)
    os.environ |= {"PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}", "HOME": str(folder), "RAY_AUTH_MODE": "token"}
    subprocess.run(
        "ip link set lo up; mkdir -p /tmp/ray; mount -t tmpfs tmpfs /tmp/ray; mount -t tmpfs tmpfs /dev/shm",
        shell=True,
        check=True,
    )
    subprocess.run(
        ["ray", "get-auth-token", "--generate"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE
    from ray.autoscaler._private.util import prepare_config, validate_config

    cloud = yaml.safe_load((ROOT / "cluster" / "aws.yaml").read_text())
    cloud["available_node_types"]["gpu"]["resources"] = {"CPU": 1, "GPU": 1}  # AWS is asked for these
    config = prepare_config(cloud)
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    memory = {"object_store_memory": 100_000_000}
    types["gpu"] |= {"node_config": {}, "max_workers": 2, "resources": {"CPU": 1, "GPU": 1, **memory}}
    types[FAKE_HEAD_NODE_TYPE] = {**head, "node_config": {}, "resources": {**head["resources"], **memory}}
    module = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
    provider = {"type": "external", "module": module, "launch_multiple": True, "head_node_id": FAKE_HEAD_NODE_ID}
    config |= {
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "provider": provider,
        "max_workers": 2,
        "idle_timeout_minutes": IDLE_MINUTES,
    }
    config |= {"file_mounts": {}, "head_node": {}}
    config.pop("head_node")
    validate_config(config)
    file = folder / "autoscaling.json"
    file.write_text(json.dumps(config))
    environment = os.environ | {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    }
    start = ["ray", "start", "--head", f"--autoscaling-config={file}", "--object-store-memory=100000000"]
    start += [
        f"--num-cpus={head['resources']['CPU']}",
        f"--num-gpus={head['resources']['GPU']}",
        "--dashboard-host=127.0.0.1",
    ]
    subprocess.run(start, env=environment, check=True, stdout=subprocess.DEVNULL)
    import ray

    ray.init("auto", log_to_driver=False, logging_level="error")
    counts: list[int] = []

    def workers() -> int:
        number = sum(node["Alive"] and node["Resources"].get("GPU", 0) > 0 for node in ray.nodes())
        if not counts or counts[-1] != number:
            counts.append(number)
        return number

    def until(found, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not found() and time.monotonic() < deadline:
            time.sleep(0.2)
        return bool(found())

    workers()
    groups = [ray.util.placement_group([{"CPU": 1, "GPU": 1}]) for _ in range(3)]
    grown = until(lambda: workers() == 2, 120)

    @ray.remote(num_cpus=1, num_gpus=1)
    def trial() -> str:
        return ray.get_runtime_context().get_node_id()

    strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy
    ready = [group for group in groups if group.wait(20)]
    nodes = ray.get([trial.options(scheduling_strategy=strategy(group)).remote() for group in ready])
    for group in groups:
        ray.util.remove_placement_group(group)
    gone = until(lambda: workers() == 0, 120)
    print(
        "\n"
        + json.dumps({"counts": counts, "grown": grown, "gone": gone, "places": len(ready), "nodes": len(set(nodes))})
    )
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
