"""Contract with Ray: every private attribute that sepsearch touches is where it was, in the installed version."""

import inspect
import json
import time
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import ray
from ray import tune
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.result_grid import ResultGrid
from ray.tune.schedulers import FIFOScheduler

from sepsearch.distributed import ray_internals

TESTED = "2.60"


def moved(what: str) -> str:
    return (
        f"Ray {ray.__version__} has moved {what} (tested: {TESTED}): look for its new name in Ray's sources, change"
        " sepsearch/distributed/ray_internals.py, or bound ray below this version in pyproject.toml"
    )


class Looking(FIFOScheduler):
    """Notes what a controller and its trial hold while the trial runs."""

    seen: ClassVar[dict[str, Any]] = {}

    def on_trial_result(self, tune_controller, trial, result):
        controller = getattr(tune_controller, "_tune_controller", None)
        for name in (ray_internals.TRIALS, ray_internals.ACTORS, ray_internals.METADATA, *ray_internals.TRIAL_SETS):
            table = getattr(controller, name, None)
            self.seen[name] = (type(table), trial in table if isinstance(table, list | set | dict) else None)
        self.seen["actor"] = getattr(trial.temporary_state, "ray_actor", None) is not None
        self.seen["finished"] = trial.is_finished()
        return super().on_trial_result(tune_controller, trial, result)


@pytest.fixture(scope="module")
def seen(ray_workers, tmp_path_factory):
    config = tune.TuneConfig(scheduler=Looking())
    run = tune.RunConfig(name="look", storage_path=str(tmp_path_factory.mktemp("look")), verbose=0)
    tune.Tuner(lambda config: tune.report({"loss": 1}), tune_config=config, run_config=run).fit()
    return Looking.seen


@pytest.mark.parametrize(
    ("table", "kind", "holds"),
    [
        (ray_internals.TRIALS, list, True),
        (ray_internals.ACTORS, dict, True),
        (ray_internals.METADATA, dict, False),
        ("_live_trials", set, True),
        ("_stopped_trials", set, False),
        ("_failed_trials", set, False),
        ("_trials_to_cache", set, None),
    ],
)
def test_a_controller_keeps_its_trials_in_the_tables_that_are_cleared(table, kind, holds, seen):
    assert seen[table][0] is kind, moved(f"TuneController.{table}")
    assert holds is None or seen[table][1] is holds, moved(f"the content of TuneController.{table}")


def test_a_trial_knows_its_actor_and_whether_it_has_finished(seen):
    assert seen["actor"], moved("Trial.temporary_state.ray_actor")
    assert seen["finished"] is False, moved("Trial.is_finished")


def test_trials_that_have_ended_are_taken_out_of_all_tables_once_there_are_many():
    trials = [
        SimpleNamespace(trial_id=str(number), is_finished=lambda number=number: number < 6) for number in range(8)
    ]

    class Hashed(SimpleNamespace):
        __hash__ = object.__hash__

    trials = [Hashed(**vars(trial)) for trial in trials]
    sets = {name: set(trials) for name in ray_internals.TRIAL_SETS}
    controller = SimpleNamespace(
        _trials=list(trials),
        _trial_to_actor={trials[0]: "busy"},
        _trial_metadata={t.trial_id: "" for t in trials},
        **sets,
    )
    ray_internals.forget_ended(SimpleNamespace(_tune_controller=controller), most=8)
    assert len(controller._trials) == 8
    ray_internals.forget_ended(SimpleNamespace(_tune_controller=controller), most=7)
    kept = [trials[0], *trials[6:]]
    assert controller._trials == kept
    assert all(getattr(controller, name) == set(kept) for name in ray_internals.TRIAL_SETS)
    assert list(controller._trial_metadata) == [trial.trial_id for trial in kept]


def test_a_controller_gives_free_workers_away_and_knows_which_start_by_the_names_that_are_used():
    assert callable(getattr(TuneController, ray_internals.REUSE, None)), moved(f"TuneController.{ray_internals.REUSE}")
    assert callable(getattr(RayActorManager, "is_actor_started", None)), moved("RayActorManager.is_actor_started")
    source = inspect.getsource(TuneController)
    assert f"self.{ray_internals.MANAGER} = RayActorManager(" in source, moved(
        f"TuneController.{ray_internals.MANAGER}"
    )
    assert f"self.{ray_internals.REUSE}(" in source, moved(f"the use of TuneController.{ray_internals.REUSE}")


def test_a_trial_whose_worker_has_begun_to_start_gets_no_other_and_one_that_waits_for_room_does(monkeypatch):
    monkeypatch.setattr(TuneController, ray_internals.REUSE, lambda self, trial: True)
    controller = object.__new__(TuneController)
    controller._trial_to_actor = {"starts": "begun", "waits": "requested"}
    controller._actor_manager = SimpleNamespace(is_actor_started=lambda actor: actor == "begun")
    with ray_internals.keep_starting_workers():
        given = {trial: controller._maybe_reuse_cached_actor(trial) for trial in ("starts", "waits", "new")}
    assert given == {"starts": False, "waits": True, "new": True}
    assert controller._maybe_reuse_cached_actor("starts")


def test_the_table_of_results_names_a_trial_without_a_folder_as_the_search_expects():
    source = inspect.getsource(ResultGrid) + inspect.getsource(Trial)
    assert ray_internals.UNREAD_TRIAL in source, moved("the error about a trial that has no folder")


def test_the_methods_of_a_running_actor_are_attributes_that_can_be_replaced(ray_workers):
    class Actor:
        def train(self):
            return 1

    actor = ray.remote(num_cpus=0)(Actor).remote()
    ray_internals.name_training_tasks(SimpleNamespace(temporary_state=SimpleNamespace(ray_actor=actor)), "t0001")
    assert "train" in actor.__dict__, moved("ActorHandle's methods")
    assert ray.get(actor.train.remote()) == 1, moved("ActorMethod.options")
    ray_internals.kill_worker(SimpleNamespace(temporary_state=SimpleNamespace(ray_actor=actor)))

    def train_for_a_minute():
        begin = time.monotonic()
        while time.monotonic() < begin + 60:  # it takes a moment to die
            ray.get(actor.train.remote())

    with pytest.raises(ray.exceptions.RayActorError):
        train_for_a_minute()


def test_a_session_says_where_it_spills_to_and_what_its_nodes_are_called(ray_workers):
    config = ray._private.state.state.get_system_config()
    assert "object_spilling_config" in config, moved("ray._private.state.state.get_system_config")
    assert json.loads(config["object_spilling_config"])["params"]["directory_path"], moved("object_spilling_config")
    folder = ray_internals.spill_folder()
    assert folder is not None, moved("object_spilling_config")
    assert folder.is_dir()
    names = ray_internals.node_type_names()
    assert names, moved("get_cluster_status or __autoscaling_status")
    assert all(name.startswith("node_") for name in names), moved("the node type of a cluster without autoscaler")


def test_a_head_gives_its_id_to_those_with_its_token(ray_workers):
    address = ray.get_runtime_context().gcs_address
    assert ray_internals.ask_cluster_id(address, 5.0) is None, moved("init_grpc_channel or GetClusterId")


def test_ray_start_leaves_its_address_in_a_file_below_the_temporary_folder():
    assert ray_internals.address_file().name == "ray_current_cluster", moved("get_ray_address_file")


def test_a_controller_keeps_workers_by_their_resources_in_a_cache_that_can_be_enlarged():
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.utils.object_cache import _ObjectCache

    assert ray_internals.CACHE in inspect.getsource(TuneController.__init__), moved("TuneController._actor_cache")
    cache = _ObjectCache(may_keep_one=True)
    controller = SimpleNamespace(**{ray_internals.CACHE: cache})
    ray_internals.keep_workers(SimpleNamespace(_tune_controller=controller), "resources", 2)
    assert [cache.cache_object("resources", number) for number in range(3)] == [True, True, False], moved("its limit")
    ray_internals.keep_workers(controller, "resources", -2)
    assert len(list(cache.flush_cached_objects())) >= 1, moved("its limit")


@pytest.mark.parametrize("helper", ray_internals.HELPERS)
def test_a_node_starts_what_is_left_out_or_put_off_by_these_methods(helper):
    from ray._private.node import Node

    starts = inspect.getsource(Node.start_head_processes) + inspect.getsource(Node.start_ray_processes)
    assert f"self.{helper}(" in starts, moved(f"Node.{helper}")
