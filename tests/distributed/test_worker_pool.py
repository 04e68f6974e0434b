"""A pool of workers on a real Ray: stages one after the other, in the same processes."""

import os
import sys
import time

import pytest

from sepsearch.search.protocol import StopSignal, Workers
from sepsearch.utils.errors import UserError


class Listed:
    """A plan that runs given jobs and remembers what it is told."""

    def __init__(self, stage: str, jobs: int):
        self.jobs = [(f"{stage}{number}", {"stage": stage}) for number in range(jobs)]
        self.open: set[str] = set()
        self.results: dict[str, dict] = {}
        self.ends: dict[str, str] = {}
        self.given_up = ""

    def next(self):
        if not self.jobs:
            return None
        job = self.jobs.pop(0)
        self.open.add(job[0])
        return job

    def finished(self):
        return not self.jobs and not self.open

    def give_up(self, reason):
        self.given_up = reason

    def result(self, job, result):
        self.results.setdefault(job, result)

    def ended(self, job, outcome):
        self.open.discard(job)
        self.ends[job] = outcome.reason or outcome.how


class Refusing(Listed):
    """A plan that finds a problem."""

    def result(self, job, result):
        raise UserError("planted")


def train(config):
    from ray import tune

    time.sleep(0.5)  # so that no worker does all jobs
    tune.report(
        {"epoch": 1, "ratio": 0.5, "pid": os.getpid(), "torch": "torch" in sys.modules, "seen": config["stage"]}
    )


def endless(config):
    from ray import tune

    for epoch in range(1, 10_000):
        time.sleep(0.05)
        tune.report({"epoch": epoch, "ratio": 0.5})


@pytest.fixture(scope="module")
def pool(ray_workers, tmp_path_factory):
    from ray import cloudpickle

    from sepsearch.distributed.worker_pool import WorkerPool

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests
    pool = WorkerPool(Workers(2, 1.0, 0.0), tmp_path_factory.mktemp("pool"), ready=2)
    yield pool
    pool.close()


def run(pool, stage: str, jobs: int, function=train, stop: StopSignal | None = None) -> Listed:
    plan = Listed(stage, jobs)
    pool.run(plan, function, stop or StopSignal())
    return plan


def test_all_stages_run_in_the_workers_of_the_first_also_after_one_with_a_single_job(pool):
    run(pool, "until both are there", 6)
    stages = [run(pool, "a", 4), run(pool, "b", 1), run(pool, "c", 4)]
    pids = [{result["pid"] for result in plan.results.values()} for plan in stages]
    assert pids[0] | pids[1] | pids[2] == pids[0]
    assert len(pids[0]) == 2
    assert [len(plan.ends) for plan in stages] == [4, 1, 4]


def test_every_stage_trains_with_its_own_function_in_workers_that_have_imported_torch(pool):
    plan = run(pool, "d", 2)
    assert {result["seen"] for result in plan.results.values()} == {"d"}
    assert all(result["torch"] for result in plan.results.values())


def test_a_stage_that_is_stopped_ends_its_jobs_and_the_next_one_runs(pool):
    stopped = run(pool, "e", 9, endless, StopSignal(deadline=time.monotonic() + 2))
    assert set(stopped.ends.values()) == {"time budget"}
    assert stopped.given_up == "time budget"
    assert set(run(pool, "f", 3).ends.values()) == {"returned"}


def test_an_error_of_a_plan_is_raised_and_the_next_stage_runs(pool):
    plan = Refusing("g", 3)
    with pytest.raises(UserError, match="planted"):
        pool.run(plan, endless, StopSignal())
    assert set(plan.ends.values()) == {"interrupted"}
    assert set(run(pool, "h", 2).ends.values()) == {"returned"}


def test_a_worker_that_dies_is_replaced(pool):
    def dying(config):
        from ray import tune

        tune.report({"epoch": 1, "ratio": 0.5})
        os._exit(1)

    assert all("worker died" in reason for reason in run(pool, "i", 1, dying).ends.values())
    assert set(run(pool, "j", 4).ends.values()) == {"returned"}
