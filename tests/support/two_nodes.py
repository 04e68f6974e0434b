"""A search over two raylets in which first a worker dies and then a whole node; prints what became of it as JSON.

Run by test_node_kill.py.
"""

import json
import os
import sys
import time
from pathlib import Path

from ray import cloudpickle
from ray.cluster_utils import Cluster

from sepsearch.distributed.session import ENVIRONMENT
from sepsearch.search.journal import Journal, read_journal
from sepsearch.search.protocol import StopSignal, Workers
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan
from sepsearch.search.stopping.asha import Rungs
from sepsearch.spaces.space import parse_space

TRIALS, EPOCHS = 7, 8


def train(config, folder, second):
    """Epochs that last a while; a file is the checkpoint, and another says where every epoch was trained.

    The last trials wait on the first node until the second one was killed, however slowly workers start there.
    """
    import ray
    from ray import tune

    node = ray.get_runtime_context().get_node_id()
    tune.report({"node": node})
    checkpoint = Path(folder, config["id"])
    done = int(checkpoint.read_text()) if checkpoint.exists() else 0
    deadline = time.monotonic() + 120
    while config["id"] > "t0004" and node != second and not Path(folder, "killed").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for epoch in range(done + 1, EPOCHS + 1):
        time.sleep(0.3)
        if config["id"] == "t0002" and epoch == 3 and not Path(folder, "died").exists():
            Path(folder, "died").touch()
            os._exit(1)
        checkpoint.write_text(str(epoch))
        with Path(folder, "trained").open("a") as file:
            file.write(f"{config['id']} {epoch} {node}\n")
        tune.report({"epoch": epoch, "ratio": 0.5, "seconds": 0.4, "examples_per_second": 1.0, "members": []})


def main(folder: Path) -> None:
    """Begin on two nodes, kill the second one when a trial has survived its worker, run to the end."""
    os.environ.update(ENVIRONMENT)
    import ray
    from ray import tune

    from sepsearch.distributed.tune_runner import run_stage

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    space = parse_space({"parameters": {"filters": [8, 16, 24], "learning_rate": {"low": 1e-4, "high": 1e-2}}}, "space")
    journal = Journal(folder / "journal.jsonl")
    sampler = Sampler(space, folder / "study.log", "x", seed=0)
    plan = SearchPlan(sampler, Rungs(EPOCHS, 2, EPOCHS), journal, TRIALS, EPOCHS, 0, retries=2)
    alive = [True]

    def runs_there(trained: Path) -> bool:
        """Whether a trial on the second node is in its first half: it may do some more epochs before the node is gone."""
        there = [line.split() for line in trained.read_text().splitlines() if line.endswith(second.node_id)]
        return bool(there) and 1 < int(there[-1][1]) <= EPOCHS // 2

    def kill_second_node() -> None:
        trained = Path(folder, "trained")
        if alive[0] and trained.exists() and f"t0002 {EPOCHS} " in trained.read_text() and runs_there(trained):
            alive[0] = False
            cluster.remove_node(second, allow_graceful=False)
            Path(folder, "killed").touch()

    run_stage(
        "search",
        plan,
        tune.with_parameters(train, folder=str(folder), second=second.node_id),
        Workers(2, 1.0, 0.0),
        folder / "ray",
        StopSignal(),
        kill_second_node,
    )
    ray.shutdown()
    cluster.shutdown()
    print(
        json.dumps(
            {
                "killed": not alive[0],
                "second": second.node_id,
                "states": {trial.id: trial.state for trial in plan.trials.values()},
                "study": [trial.state.name for trial in sampler.study.trials],
                "events": list(read_journal(journal.path)),
                "trained": [line.split() for line in Path(folder, "trained").read_text().splitlines()],
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
