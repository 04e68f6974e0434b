"""Corners in the workers of the search: which are tried, and what becomes of one that cannot be trained."""

import pytest

from sepsearch.preflight.corner_plan import CornerPlan
from sepsearch.search.protocol import RETURNED, JobOutcome
from sepsearch.utils.errors import UserError, one_line

CONFIGS = [{"filters": number} for number in range(6)]
NUMBERS = (0.01, 0.01, 10**6, 0, 1.0, 1.0)


def make_plan(concurrent: int = 1, near: bool = False, patience: float = 1e6, report=lambda *_: None) -> CornerPlan:
    return CornerPlan(CONFIGS, concurrent, lambda measured, gpu: near, report, patience)


def tried(plan: CornerPlan) -> list[int]:
    """Numbers of the corners that a plan tries, one after the other."""
    while (job := plan.next()) is not None:
        plan.result(job[0], {"gpu_memory": 0})
        plan.result(job[0], {"trained": NUMBERS})
        plan.result(job[0], {"trained": NUMBERS})  # Ray Tune repeats a function's last result
        plan.ended(job[0], RETURNED)
    assert plan.finished()
    return [measured.params["filters"] for measured in plan.outcome().measured]


def test_the_first_three_are_tried():
    assert tried(make_plan()) == [0, 1, 2]


def test_a_worker_that_would_idle_tries_one_more():
    assert tried(make_plan(concurrent=5)) == [0, 1, 2, 3, 4]


def test_all_are_tried_where_one_is_near_a_limit():
    assert tried(make_plan(near=True)) == [0, 1, 2, 3, 4, 5]


def test_all_are_tried_where_one_takes_long():
    assert tried(make_plan(patience=5.0)) == [0, 1, 2, 3, 4, 5]


def test_progress_never_counts_more_corners_than_there_are_to_try():
    told = []
    tried(make_plan(near=True, report=lambda done, total: told.append((done, total))))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3), (4, 6), (5, 6), (6, 6)]


def test_a_corner_that_cannot_be_trained_is_named():
    plan = make_plan()
    plan.next()
    job, _ = plan.next()
    with pytest.raises(UserError) as error:
        plan.result(job, {"failed": "out of memory"})
    assert "corner filters 1 cannot be trained: out of memory: narrow filters" in one_line(error)


def test_a_corner_whose_worker_dies_is_named():
    plan = make_plan()
    job, _ = plan.next()
    with pytest.raises(UserError, match="corner of the reference cannot be trained: worker died"):
        plan.ended(job, JobOutcome("died", "worker died"))


def test_corners_that_are_stopped_are_no_error():
    plan = make_plan()
    job, _ = plan.next()
    plan.ended(job, JobOutcome("halted", "interrupted"))
    waiting, _ = plan.next()
    plan.give_up("interrupted")
    plan.result(waiting, {"failed": "out of memory"})  # of a worker that was stopped: nothing is raised
    assert not plan._trained


def test_no_answer_in_time_says_whether_a_worker_was_there():
    plan = make_plan(patience=-1.0)
    job, _ = plan.next()
    with pytest.raises(UserError, match="no worker was ready within"):
        plan.check_time()
    plan.result(job, {"gpu_memory": 0})
    with pytest.raises(UserError, match="corner of the reference cannot be trained: one batch was not done within"):
        plan.check_time()
