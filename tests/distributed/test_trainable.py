"""What a worker's node must see before it trains, and what becomes of a unit whose node does not."""

import contextlib
import subprocess
import sys
import threading
import weakref
from types import SimpleNamespace

import pytest
from synthetic import synthetic_data

from sepsearch.distributed.task_outcome import task_outcome
from sepsearch.distributed.trainable import MARK, Task, _require_mark, train_job
from sepsearch.models.families import config_params, make_config
from sepsearch.training.loop import fit
from sepsearch.utils.errors import StorageFault, UserError
from sepsearch.utils.storage import open_storage


def task(place, mark="abc") -> Task:
    return Task(
        data=None,
        instruments=("vn",),
        epochs=1,
        examples_per_epoch=8,
        threads=1,
        gpu=False,
        checkpoints=place,
        mark=mark,
    )


def test_a_node_that_sees_what_the_driver_wrote_may_train(tmp_path):
    place = open_storage(tmp_path)
    place.write(MARK, b"abc")
    assert _require_mark(task(place)) is None


@pytest.mark.parametrize("content", [None, b"of an earlier run"])
def test_a_node_that_came_later_without_the_storage_may_not(tmp_path, content):
    if content is not None:
        open_storage(tmp_path).write(MARK, content)
    with pytest.raises(UserError, match="is the storage mounted"):
        _require_mark(task(open_storage(tmp_path)))


def test_a_unit_of_an_unfit_node_counts_as_one_whose_worker_died(tmp_path):
    """So it is tried again, elsewhere; in a process of its own, as importing the stage imports Ray."""
    (tmp_path / "error.txt").write_text(
        "Failure # 1 (occurred at noon)\nray::ImplicitFunc.train() (pid=1, ip=10.0.0.2)\n  File x, line 1\n"
        "sepsearch.utils.errors.NodeUnfit: node two: /shared/runs: not seen here as the driver sees it\n"
    )
    code = (
        "import sys; from sepsearch.distributed.task_outcome import task_outcome;"
        "ending = task_outcome(sys.argv[1]); print(ending.how, ending.reason, sep='|')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "error.txt")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "died|node two: /shared/runs: not seen here as the driver sees it"


def test_a_worker_that_cannot_write_its_checkpoint_says_so_and_neither_fails_nor_dies(tmp_path, monkeypatch):
    def full(config, task):
        raise StorageFault("x.checkpoint: cannot be written: No space left on device", 12345)
        yield

    reports = []
    monkeypatch.setattr("ray.tune.report", reports.append)
    monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "n"))
    monkeypatch.setattr("sepsearch.distributed.trainable.reported_memory", lambda search, gpu: contextlib.nullcontext())
    monkeypatch.setattr("sepsearch.distributed.trainable._epochs", full)
    train_job({"id": "t0000", "params": {}, "seed": 0}, task(None))
    (begun, told) = reports
    assert begun == {"node": "n"}
    assert told["size"] == 12345
    assert "x.checkpoint: cannot be written: No space left on device" in told["storage"]


def test_a_task_of_which_no_reason_is_kept_is_no_failure_of_its_configuration(tmp_path):
    (tmp_path / "error.txt").touch()
    assert task_outcome(str(tmp_path / "error.txt")).how == "died"


def test_no_network_of_a_stopped_job_is_left_when_freed_memory_is_returned(monkeypatch):
    """Without the garbage collector: it may not run before the next job has its networks."""
    networks, left, trimmed = [], [], threading.Event()

    def watched_fit(*arguments, **options):
        for result in fit(*arguments, **options):
            networks.extend(weakref.ref(member.weights.args[1]) for member in result.members)
            yield result

    def report(result):
        if "epoch" in result:
            raise SystemExit(0)  # what Ray Tune does to a trial that is stopped

    def trim():
        left.extend(network for network in networks if network() is not None)
        trimmed.set()

    monkeypatch.setattr("ray.tune.report", report)
    monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "n"))
    monkeypatch.setattr("sepsearch.distributed.trainable.reported_memory", lambda search, gpu: contextlib.nullcontext())
    monkeypatch.setattr("sepsearch.distributed.trainable.resident_data", lambda data, device: synthetic_data())
    monkeypatch.setattr("sepsearch.distributed.trainable.trim_heap", trim)
    params = config_params(make_config({"filters": 2, "head": "mask", "batch_size": 8}))
    job = Task(SimpleNamespace(key="x"), ("vn", "vc"), 3, 16, 1, False, fit=watched_fit)
    with pytest.raises(SystemExit):
        train_job({"id": "t0000", "params": params, "seed": 0}, job)
    assert trimmed.wait(60)
    assert len(networks) == 2
    assert not left
