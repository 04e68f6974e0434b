"""A whole search in this process, without Ray and MLflow: `sepsearch.run` as it is, in half a second.

Everything that touches the disk is the real thing: preparation, run folder, journal, checkpoints, weights, study,
models, samples, results and report page. Replaced are

- `stage.run_stage`: units are trained one after the other in this process, by the function that workers run;
- `course.get_ready`: no Ray is started, and no corner of the space is tried, which writes nothing;
- Ray's object store, which hands out what was put into it;
- `training.fit` and `TestTitles.listen`, by what keeps their results (`remembered_results`);
- the patience with a storage that takes nothing, which is over at once;
- the drawing of the report page, which is a second of matplotlib;
- `tracking.Tracker`, by one whose server is away: MLflow is a projection of the journal.
"""

import contextlib
import dataclasses
import io
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from remembered_results import remembered_fit, remembering_listener

from sepsearch.search.protocol import INTERRUPTED, RETURNED, JobOutcome, Params, Plan, StopSignal, Workers
from sepsearch.utils.errors import NodeUnfit, exit_on_user_error

NAME = "x"
PIECES = (("01_Jupiter_vn_vc", 2.0), ("12_Spring_vn_va", 2.0), ("19_Pavane_vc_vn", 2.0), ("28_Fugue_vn_va", 2.0))
SPACE = """\
parameters:
  filters: [1, 2]
  head: [mask]
  learning_rate: {low: 1e-3, high: 1e-2, log: true}
front_end: {clip_seconds: 1.0}
search: {trials: 3, epochs: 2, examples_per_epoch: 4, validation_examples: 4, startup_trials: 2, grace_epochs: 1,
         reduction_factor: 2}
final: {configurations: 1, seeds: 2, epochs: 2}
"""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (None after an exception that it let through), and what it printed."""

    code: int | None
    text: str


def write_inputs(folder: Path) -> None:
    """The recordings and the space file that every search of an exploration reads."""
    from recording_fixtures import write_urmp_tree

    folder.mkdir(parents=True)
    write_urmp_tree(folder / "recordings", PIECES)
    (folder / "space.yaml").write_text(SPACE, encoding="utf-8")


def start(inputs: Path) -> Ended:
    """Search from nothing; the working directory gets `runs`."""
    options = ["--space", str(inputs / "space.yaml"), "--data", str(inputs / "recordings"), "--name", NAME]
    return _command([*options, "--instruments", "vn,vc", "--workers", "1"])


def resume() -> Ended:
    """Go on with the search of the working directory."""
    return _command(["--resume", NAME])


def run(inputs: Path, name: str, *options: str, space: str = "space.yaml") -> Ended:
    """Search from nothing under another name and with more options."""
    arguments = ["--space", str(inputs / space), "--data", str(inputs / "recordings"), "--name", name]
    return _command([*arguments, "--instruments", "vn,vc", "--workers", "1", *options])


def command(*options: str) -> Ended:
    """`sepsearch run` with these options alone."""
    return _command(list(options))


def prepare(inputs: Path) -> Ended:
    """Build the shards of the recordings."""
    from sepsearch.prepare import main

    return _command(["--space", str(inputs / "space.yaml"), str(inputs / "recordings")], main)


def _command(arguments: list[str], main: Callable[[list[str]], None] | None = None) -> Ended:
    """A command line in this process, which may die in it; that of `sepsearch.run` by default."""
    if main is None:
        from sepsearch.run import main

    code: int | None = 0
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), _replaced():
        try:
            exit_on_user_error(lambda: main(arguments))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            import traceback

            code = None
            frames = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in frames if "/sepsearch/" in frame.filename] or list(frames)
            place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
            said.write(
                f"\ntraceback: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} ({place})\n"
            )
    return Ended(code, said.getvalue())


@contextlib.contextmanager
def _replaced() -> Iterator[None]:
    """What is not the real thing, as the module's first lines list it."""
    from sepsearch.evaluation.test_scores import TestTitles

    with contextlib.ExitStack() as stack:
        for target, replacement in {
            "sepsearch.distributed.tune_runner.run_stage": run_stage,
            "sepsearch.pipeline.driver.get_ready": _get_ready,
            "sepsearch.pipeline.driver.EarlyStart": mock.MagicMock(),
            "sepsearch.tracking.tracker.Tracker": AwayTracker,
            "sepsearch.evaluation.test_scores.TestTitles.listen": remembering_listener(TestTitles.listen),
            "os.cpu_count": lambda: 1,  # files are written in the same order every time
            "sepsearch.distributed.storage_wait.PATIENCE": 0.0,
            "sepsearch.monitoring.prometheus.Gauges": lambda run: mock.MagicMock(),
            "ray.put": lambda value: value,
            "ray.get": lambda references: references,
            "ray.get_runtime_context": mock.MagicMock,
            "ray.nodes": list,
            "sepsearch.reporting.page.render": lambda facts: "<!doctype html><title>page</title>",
            "ray.tune.with_parameters": lambda train, task: lambda config: train(config, task),
        }.items():
            stack.enter_context(mock.patch(target, replacement))
        yield


class AwayTracker:
    """A `Tracker` whose server never answers."""

    away = True

    def __init__(self, **options: Any):
        """Take what `Tracker` takes."""

    def handle(self, event: dict[str, Any]) -> None:
        """Nothing arrives."""

    def run_id(self, id: str = "", timeout: float = 0.0) -> None:
        """No run is there."""

    def close(self, timeout: float = 0.0) -> bool:
        """Nothing has arrived."""
        return False


def _get_ready(settings: Any, begin: Any, prepared: Any, start: Any, console: Any) -> Any:
    """`course.get_ready` with the shards in this process's memory."""
    from sepsearch.distributed.object_store import StoredData, put_shards
    from sepsearch.pipeline.execution import Ready
    from sepsearch.pipeline.stages import search_task
    from sepsearch.search.trials import reference_trial

    workers = Workers(1, 1.0, 0.0)
    identity = dict(prepared.baselines["validation"]["identity"])
    identity |= {fold: losses["validation"] for fold, losses in prepared.fold_identity.items()}
    examples = {**prepared.examples, **{fold.id: fold.splits for fold in prepared.folds}}
    stored = StoredData(prepared.shards.fingerprint, put_shards(prepared.shards), examples, identity)
    task = search_task(settings, begin.space, prepared, workers, stored, begin.storage)
    reference = begin.past.search.get("reference") or reference_trial(settings.trials, workers.concurrent)
    return Ready(workers, dataclasses.replace(task, fit=remembered_fit), settings, reference)


class _UnitOver(BaseException):
    """The plan or a stop signal ends a unit; no handler of the unit's own catches it."""

    def __init__(self, ending: JobOutcome):
        super().__init__(ending)
        self.ending = ending


def run_stage(
    name: str,
    plan: Plan,
    train: Callable[[Params], None],
    workers: Workers,
    storage: Path,
    stop: StopSignal,
    tick: Callable[[], None] = lambda: None,
    storage_wait: Any = None,
) -> None:
    """`stage.run_stage` with one unit after the other, in this process: what Ray Tune does between its callbacks."""
    from sepsearch.distributed.tune_runner import Bridge, Searcher

    bridge = Bridge(plan, stop, tick, workers, storage_wait)
    try:
        for number in itertools.count():
            bridge.tick()
            config = bridge.ask(str(number))
            if config == Searcher.FINISHED:
                break
            if isinstance(config, dict):
                bridge.end(str(number), _train(bridge, str(number), config, train))
    finally:
        bridge.end_all(JobOutcome("halted", bridge.reason or INTERRUPTED))
        bridge.call(lambda: plan.give_up(bridge.reason or INTERRUPTED))
    if bridge.error is not None:
        raise bridge.error


def _train(bridge: Any, trial: str, config: Params, train: Callable[[Params], None]) -> JobOutcome:
    """Train a unit to its end, as a worker and Ray Tune do together."""

    def report(result: Params) -> None:
        if bridge.result(trial, result):
            raise _UnitOver(RETURNED)
        if bridge.reason:
            raise _UnitOver(JobOutcome("halted", bridge.reason))

    try:
        with mock.patch("ray.tune.report", report):
            train(config)
    except _UnitOver as over:
        return over.ending
    except NodeUnfit as error:
        return JobOutcome("died", str(error))
    except Exception as error:
        return JobOutcome("raised", f"exception: {type(error).__name__}: {error}")
    return RETURNED


def warm_up() -> None:
    """Import all that a search uses, with one thread; nothing is left running that a fork would lose."""
    os.environ.update(ONE_THREAD)
    from sepsearch.distributed.session import ENVIRONMENT

    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import torch

    torch.set_num_threads(1)
