"""Every private attribute of Ray that sepsearch touches.

tests/distributed/test_ray_internals.py checks all of them against the installed Ray and names the one that has moved.
Bounds in pyproject.toml: the major version that this test has passed.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sepsearch.utils.errors import UserError

# Tables of a `TuneController`: a list of all trials, sets of trials, and two dictionaries, trial → actor and id → text.
TRIALS, ACTORS, METADATA = "_trials", "_trial_to_actor", "_trial_metadata"
TRIAL_SETS = ("_live_trials", "_stopped_trials", "_failed_trials", "_trials_to_cache")
CACHE = "_actor_cache"  # of a `TuneController`: workers between two trials, and how many of them may stay
REUSE, MANAGER = "_maybe_reuse_cached_actor", "_actor_manager"  # of a `TuneController`
UNREAD_TRIAL = "trial_dir_name"  # in the error of Tune's table of results about a trial that never had a folder
HELPERS = ("start_monitor", "start_log_monitor", "start_api_server")  # of a node that starts a Ray: not needed at once
GCS = "--gcs-address="  # argument of a raylet: the cluster that it belongs to


def forget_ended(tune_controller: Any, most: int) -> None:
    """Remove trials that have ended from a controller of Ray Tune that holds more than `most`, all at once.

    It keeps every trial with its last result and goes through all of them again and again; its ids of eight digits also
    come twice among many. Use it only where nothing reads the trials from there (`Tuner.fit`'s table of results).
    Where another version of Ray names its tables otherwise, all trials stay.

    Args:
        tune_controller: as schedulers get it.
        most: trials that are kept without a look.
    """
    controller = getattr(tune_controller, "_tune_controller", tune_controller)
    trials: list[Any] = getattr(controller, TRIALS, [])
    if len(trials) <= most:
        return
    busy = getattr(controller, ACTORS, {})
    ended = {trial for trial in trials if trial.is_finished() and trial not in busy}
    trials[:] = [trial for trial in trials if trial not in ended]
    for name in TRIAL_SETS:
        getattr(controller, name, set()).difference_update(ended)
    for trial in ended:
        getattr(controller, METADATA, {}).pop(trial.trial_id, None)


def keep_workers(tune_controller: Any, resources: Any, more: int) -> None:
    """Let a controller of Ray Tune keep so many more workers that have nothing to do, for trials that come later.

    It ends all but one of them as soon as no trial waits.

    Args:
        tune_controller: as schedulers get it.
        resources: of each, a `PlacementGroupFactory`.
        more: than before; may be negative.

    Raises:
        AttributeError: another version of Ray has moved what that takes.
    """
    controller = getattr(tune_controller, "_tune_controller", tune_controller)
    getattr(controller, CACHE).increase_max(resources, by=more)


@contextlib.contextmanager
def keep_starting_workers() -> Iterator[None]:
    """Let Ray Tune wait for a worker that has begun to start, also where another one is free before it.

    It gives the free one to the trial that waits and ends the one that starts for it: where trials are shorter than a
    worker's start, a node that comes later never gets one. Where another version of Ray names this otherwise, nothing
    changes.
    """
    from ray.tune.execution.tune_controller import TuneController

    controller: Any = TuneController
    reuse = getattr(controller, REUSE, None)
    if reuse is None:
        yield
        return

    def unless_starting(self: Any, trial: Any) -> bool:
        actor = getattr(self, ACTORS).get(trial)
        starts = actor is not None and getattr(self, MANAGER).is_actor_started(actor)
        return not starts and bool(reuse(self, trial))

    setattr(controller, REUSE, unless_starting)
    try:
        yield
    finally:
        setattr(controller, REUSE, reuse)


def name_training_tasks(trial: Any, name: str) -> None:
    """Show a trial's tasks under `name` in the dashboard: a reused actor has the name of its first trial."""
    actor = trial.temporary_state.ray_actor
    actor.__dict__.pop("train", None)
    actor.train = actor.train.options(name=name)


def kill_worker(trial: Any) -> None:
    """Kill the worker of a trial, also one that does not answer the request to stop that Ray Tune sends."""
    import ray

    if actor := trial.temporary_state.ray_actor:
        ray.kill(actor, no_restart=True)


@contextlib.contextmanager
def without_dashboard() -> Iterator[None]:
    """Let Ray start on this machine without its dashboard, which `start_dashboard` starts later, and two helpers.

    Ray waits for its dashboard, 2 s, and it takes 2 CPU seconds. The autoscaler's monitor comes with it; the log
    monitor, which sends output of workers to drivers with `log_to_driver`, does not come at all.
    """
    from ray._private.node import Node

    node: Any = Node
    before = {name: getattr(node, name) for name in HELPERS}
    for name in HELPERS:
        setattr(node, name, lambda started, **options: None)
    try:
        yield
    finally:
        for name, start in before.items():
            setattr(node, name, start)


def start_dashboard() -> str:
    """Start the dashboard of a Ray that this process has started without it; returns its "host:port".

    The system kills it when the thread that calls this ends, as it does with all that Ray starts.

    Raises:
        Exception: it does not start; Ray goes on without it.
    """
    import ray

    node: Any = ray._private.worker._global_node
    node.start_monitor()
    node.start_api_server(include_dashboard=True, raise_on_failure=True)
    return str(node.webui_url)


def spill_folder() -> Path | None:
    """Where the cluster's nodes spill objects to; None where that is no folder here."""
    import ray

    try:
        config = json.loads(ray._private.state.state.get_system_config()["object_spilling_config"])
        folder = config["params"]["directory_path"]
        path = Path(folder if isinstance(folder, str) else folder[0])
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        return None
    return path if path.is_dir() else None


def node_type_names() -> list[str]:
    """Types of the cluster's nodes, as an autoscaler names them; without one Ray says "node_" and the node's id."""
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.experimental.internal_kv import _internal_kv_get

    report = json.loads(_internal_kv_get("__autoscaling_status") or b"{}").get("autoscaler_report") or {}
    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    names = list((report.get("node_type_mapping") or {}).values())
    return names + [node.ray_node_type_name for node in (*status.active_nodes, *status.idle_nodes)]


def address_file() -> Path:
    """The file in which `ray start` leaves the cluster's address on this machine."""
    from ray._common.utils import get_ray_address_file

    return Path(get_ray_address_file(None))


def own_clusters(user: int) -> Iterator[str]:
    """Addresses of the clusters that raylets of a user on this machine belong to."""
    import psutil

    for process in psutil.process_iter():
        try:
            # Arguments can be chosen by a user who may run the program as another; the program's file cannot.
            if set(process.uids()) == {user} and Path(process.exe()).name == "raylet":
                yield from (word.removeprefix(GCS) for word in process.cmdline() if word.startswith(GCS))
        except psutil.Error:  # it has ended, or is not ours to look at
            continue


def ask_cluster_id(target: str, seconds: float) -> None:
    """Ask the head at "host:port" for its cluster's id, with this process's token.

    Raises:
        grpc.RpcError: no answer, or the token is refused.
        UserError: this process has no token to show.
    """
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated.gcs_service_pb2 import GetClusterIdRequest  # type: ignore[attr-defined]
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub
    from ray.exceptions import AuthenticationError

    try:
        with init_grpc_channel(target) as channel:
            NodeInfoGcsServiceStub(channel).GetClusterId(GetClusterIdRequest(), timeout=seconds)
    except (AuthenticationError, RuntimeError) as error:
        raise UserError(str(error)) from error
