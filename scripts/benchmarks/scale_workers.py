"""Workers in virtual time in the place of Ray's actors: Ray Tune's controller runs as it is, and nothing trains."""

import heapq
import random
import time
import zlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:  # not before Ray's settings are made
    from ray.air.execution._internal.tracked_actor import TrackedActor

Params = dict[str, Any]
Event = tuple[float, int, "TrackedActor", int, Callable[[], None]]


def reports(config: Params, epochs: int, instruments: tuple[str, ...]) -> Iterator[Params]:
    """What a worker (`distributed.trainable`) reports of one unit, its ratios drawn by lot from its parameters."""
    lot = random.Random(zlib.crc32(repr((config["id"], sorted(config["params"].items()))).encode()))
    quality = lot.random()
    yield {"node": "0" * 56}
    for epoch in range(1, epochs + 1):
        ratio = 0.4 + 0.4 * quality + 0.2 / epoch + 0.02 * lot.random()
        numbers = {
            "val_loss": ratio,
            "train_loss": ratio,
            "identity_loss": 1.0,
            "gradient_norm": 1.0,
            "zero_share": 0.1,
        }
        members = [
            {"instrument": code, "seed": 0, "ratio": ratio, **numbers, "discontinuity": False} for code in instruments
        ]
        yield {"epoch": epoch, "ratio": ratio, "seconds": 1.0, "examples_per_second": 100.0, "members": members}


class Actor:
    """A worker that stays from unit to unit, as `reuse_actors` has it."""

    def __init__(self, config: Params, train: Callable[[Params], Iterator[Params]]):
        self._train, self._pace = train, random.Random(repr(config["id"]))
        self.reset(config)

    def options(self, **named: Any) -> "Actor":
        """The same worker under another name."""
        return self

    def __getattr__(self, name: str) -> Any:
        """`train`, a task of Ray's that can be given a name, is the worker itself."""
        if name == "train":
            return self
        raise AttributeError(name)

    @property
    def get_auto_filled_metrics(self) -> Any:
        """What Ray Tune asks of a worker that it gives a trial to, as a method with `remote`."""
        return SimpleNamespace(remote=lambda **options: {"node_ip": "127.0.0.1", "pid": 1})

    def reset(self, config: Params) -> None:
        """Begin another unit."""
        self.config = {key: value for key, value in config.items() if not key.startswith("__")}
        self.curve, self.iteration = self._train(self.config), 0
        self.seconds = 0.5 + self._pace.random()  # of an epoch, so that units overtake each other

    def step(self) -> Params:
        """The next report with what Ray Tune's trainable adds, or the mark of a function that has returned."""
        report = next(self.curve, None)
        self.iteration += report is not None
        if report is None:
            return {"__duplicate__": True, "config": self.config}
        return {
            **report,
            "done": False,
            "training_iteration": self.iteration,
            "date": "2026-01-01_00-00-00",
            "timestamp": 0,
            "time_this_iter_s": 0.0,
            "time_total_s": 0.0,
            "pid": 1,
            "hostname": "simulated",
            "node_ip": "127.0.0.1",
            "config": self.config,
            "time_since_restore": 0.0,
            "iterations_since_restore": self.iteration,
        }


class SimulatedActors:
    """What Ray Tune's controller asks of its `RayActorManager`, in virtual time."""

    train: Callable[[Params], Iterator[Params]]  # set by `simulated`
    handled = 0  # results handed to the controller, of all managers
    seconds = 0.0  # of the processor, for the workers themselves: not the driver's

    def __init__(self, resource_manager: Any):
        self.clock, self._turn = 0.0, 0
        self._events: list[Event] = []
        self._valid: dict[TrackedActor, int] = {}  # tasks of earlier numbers were discarded
        self._live_actors_to_ray_actors_resources: dict[TrackedActor, tuple[Actor, None]] = {}
        self._pending: dict[TrackedActor, Params] = {}

    @property
    def num_live_actors(self) -> int:
        """Workers that have started."""
        return len(self._live_actors_to_ray_actors_resources)

    @property
    def num_pending_actors(self) -> int:
        """Workers that were asked for."""
        return len(self._pending)

    @property
    def num_total_actors(self) -> int:
        """All of them."""
        return self.num_live_actors + self.num_pending_actors

    @property
    def num_actor_tasks(self) -> int:
        """What is going on."""
        return len(self._events)

    def get_live_actors_resources(self) -> dict[str, float]:
        """A CPU each."""
        return {"CPU": float(self.num_live_actors)}

    def is_actor_started(self, tracked_actor: "TrackedActor") -> bool:
        """Whether it has started."""
        return tracked_actor in self._live_actors_to_ray_actors_resources

    def is_actor_failed(self, tracked_actor: "TrackedActor") -> bool:
        """None ever does."""
        return False

    def _push(self, after: float, tracked: "TrackedActor", valid: int, act: Callable[[], None]) -> None:
        self._turn += 1
        heapq.heappush(self._events, (self.clock + after, self._turn, tracked, valid, act))

    def add_actor(
        self, cls: Any, kwargs: Params, resource_request: Any, *, on_start: Any, on_stop: Any, on_error: Any
    ) -> "TrackedActor":
        """Ask for a worker; there is room for as many as are asked for."""
        from ray.air.execution._internal.tracked_actor import TrackedActor

        self._turn += 1
        tracked = TrackedActor(self._turn, on_start, on_stop, on_error)
        self._pending[tracked] = kwargs["config"]
        self._valid[tracked] = 0

        def start() -> None:
            if (config := self._pending.pop(tracked, None)) is not None:
                self._live_actors_to_ray_actors_resources[tracked] = (Actor(config, type(self).train), None)
                tracked._on_start(tracked)

        self._push(0.0, tracked, -1, start)
        return tracked

    def remove_actor(self, tracked_actor: "TrackedActor", kill: bool = False, stop_future: Any = None) -> bool:
        """Stop a worker; whether `on_stop` will be called."""
        if self._pending.pop(tracked_actor, None) is not None:
            return False

        def stop() -> None:
            self._live_actors_to_ray_actors_resources.pop(tracked_actor, None)
            self._valid.pop(tracked_actor, None)
            if tracked_actor._on_stop:
                tracked_actor._on_stop(tracked_actor)

        self._push(0.0, tracked_actor, -1, stop)
        return True

    def clear_actor_task_futures(self, tracked_actor: "TrackedActor") -> None:
        """What the worker is at is of no interest any more."""
        self._valid[tracked_actor] = self._turn

    def schedule_actor_task(
        self,
        tracked_actor: "TrackedActor",
        method_name: str,
        args: Any = (),
        kwargs: Any = None,
        on_result: Any = None,
        on_error: Any = None,
        _return_future: bool = False,
    ) -> None:
        """Run `train` (an epoch), `reset` (begin another unit) or `stop`."""
        if method_name == "stop":
            return
        actor = self._live_actors_to_ray_actors_resources[tracked_actor][0]
        begin = time.thread_time()
        if method_name == "reset":
            actor.reset(args[0])
            result, after = True, 0.0
        else:
            result = actor.step()
            after = actor.seconds if "epoch" in result else 0.0
        SimulatedActors.seconds += time.thread_time() - begin
        self._push(after, tracked_actor, self._turn, lambda: on_result(tracked_actor, result))

    def next(self, timeout: float | None = None) -> bool:
        """Handle the event that comes first."""
        begin = time.thread_time()
        while self._events:
            self.clock, _, tracked, valid, act = heapq.heappop(self._events)
            if valid < 0 or valid >= self._valid.get(tracked, valid + 1):
                SimulatedActors.handled += valid >= 0
                SimulatedActors.seconds += time.thread_time() - begin
                act()
                return True
        return False

    def cleanup(self) -> None:
        """All go home."""
        self._live_actors_to_ray_actors_resources.clear()


def simulated(train: Callable[[Params], Iterator[Params]]) -> Any:
    """A context in which Ray Tune's controllers have simulated workers that report what `train` yields of a unit."""
    manager = type("Simulated", (SimulatedActors,), {"train": staticmethod(train)})
    return mock.patch("ray.tune.execution.tune_controller.RayActorManager", manager)
