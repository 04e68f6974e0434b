"""Points as the first trials of a search: order, ids, what is sampled beside them, the same after a resume."""

from pathlib import Path

import pytest
from planned_search import EPOCHS, ratio

from sepsearch.search.journal import Journal, read_journal
from sepsearch.search.protocol import RETURNED
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan
from sepsearch.search.stopping.asha import Rungs
from sepsearch.spaces.space import Space, parse_space

PARAMETERS = {"filters": [8, 16, 24], "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "l2": [0.0, 1e-4]}
POINTS = [{"filters": 24, "learning_rate": 0.003, "l2": 1e-4}, {"filters": 8}, {"l2": 1e-4}]


def space(sampler: str = "tpe", points: list = POINTS, parameters: dict = PARAMETERS) -> Space:
    search = {"sampler": sampler, "startup_trials": 3, "tell": "last"}
    return parse_space({"parameters": parameters, "points": points, "search": search}, "space")


def make_plan(own: Space, journal: Journal, trials: int = 8, reference: str = "t0001") -> SearchPlan:
    sampler = Sampler(own, None, "x", seed=1, reference=reference)
    return SearchPlan(sampler, Rungs(1, 2, EPOCHS), journal, trials, EPOCHS, 1, reference=reference)


def run(plan: SearchPlan, trials: int) -> None:
    """Train so many trials, one after the other."""
    for _ in range(trials):
        job, work = plan.next()
        for epoch in range(1, EPOCHS + 1):
            value = ratio(work["params"], epoch)
            if plan.result(
                job, {"epoch": epoch, "ratio": value, "seconds": 1, "examples_per_second": 1, "members": []}
            ):
                break
        plan.ended(job, RETURNED)


def has(params: dict, point: dict) -> bool:
    return all(params[name] == value for name, value in point.items())


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "qmc"])
def test_points_are_the_first_trials_in_order_and_the_reference_keeps_its_place(sampler, tmp_path):
    plan = make_plan(space(sampler), Journal(tmp_path / "journal.jsonl"))
    run(plan, 8)
    trials = list(plan.trials.values())
    assert [trial.id for trial in trials] == [f"t{number:04d}" for number in range(8)]
    assert has(trials[0].params, POINTS[0])
    assert trials[1].params == plan.sampler.reference_params()
    assert has(trials[2].params, POINTS[1])
    assert has(trials[3].params, POINTS[2])
    assert len({repr(trial.params) for trial in trials}) == 8


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "qmc"])
@pytest.mark.parametrize("before", [1, 2, 3, 5])
def test_a_resumed_search_goes_on_with_the_points_that_are_left(sampler, before, tmp_path):
    whole = make_plan(space(sampler), Journal(tmp_path / "whole.jsonl"))
    run(whole, 8)
    first = make_plan(space(sampler), Journal(tmp_path / "killed.jsonl"))
    run(first, before)
    again = make_plan(space(sampler), first.journal)
    again.restore(read_journal(tmp_path / "killed.jsonl"))
    again.resume()
    run(again, 8 - before)
    assert [trial.params for trial in again.trials.values()] == [trial.params for trial in whole.trials.values()]


def test_what_a_point_leaves_open_is_sampled_and_its_conditions_hold(tmp_path):
    width = {"choices": [32, 64], "when": {"detector_layers": 2}}
    own = space(
        points=[{"detector_layers": 2}], parameters={**PARAMETERS, "detector_layers": [1, 2], "detector_width": width}
    )
    plan = make_plan(own, Journal(tmp_path / "journal.jsonl"))
    run(plan, 1)
    params = plan.trials["t0000"].params
    assert params["detector_layers"] == 2
    assert params["detector_width"] in (32, 64)


def test_a_point_whose_configurations_are_all_known_leaves_its_turn_to_the_sampler(tmp_path):
    # Two points of which the second holds no other configuration than the first.
    points = [{"filters": 8, "l2": 0.0}, {"filters": 8, "head": "relu"}]
    own = space(points=points, parameters={"filters": [8, 16], "l2": {"choices": [0.0]}})
    plan = make_plan(own, Journal(tmp_path / "journal.jsonl"), trials=2, reference="t0001")
    run(plan, 2)
    assert [trial.params["filters"] for trial in plan.trials.values()] == [8, 16]
    assert plan.next() is None


def test_the_study_has_the_points_with_their_trials(tmp_path):
    plan = make_plan(space(), Journal(tmp_path / "journal.jsonl"))
    run(plan, 3)
    found = [trial.params for trial in plan.sampler.study.trials if trial.user_attrs.get("trial") == "t0000"]
    assert found == [POINTS[0]]


def test_points_leave_the_later_proposals_of_a_random_search_as_they_are(tmp_path):
    with_points = make_plan(space("random"), Journal(tmp_path / "points.jsonl"))
    without = make_plan(space("random", []), Journal(tmp_path / "none.jsonl"))
    for plan in (with_points, without):
        run(plan, 8)
    for id in ("t0004", "t0005", "t0006", "t0007"):
        assert with_points.trials[id].params == without.trials[id].params


def test_points_that_are_written_in_yaml_are_read(tmp_path: Path):
    from sepsearch.spaces.space import load_space

    path = tmp_path / "space.yaml"
    path.write_text("parameters: {filters: [8, 16], l2: [0.0, 1e-4]}\npoints:\n  - {filters: 8}\n  - {l2: 1e-4}\n")
    assert load_space(path).points == ({"filters": 8}, {"l2": 1e-4})
