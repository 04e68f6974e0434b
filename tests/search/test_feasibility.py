"""Constraints in a search: what the sampler proposes and learns, which trials end, and that a restart changes nothing."""

from pathlib import Path

import pytest
from optuna.trial import TrialState

from sepsearch.models.size import known_parameters
from sepsearch.search.journal import Journal, read_journal
from sepsearch.search.protocol import RETURNED
from sepsearch.search.sampling.feasibility import MOST_PROPOSALS, shortage
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan
from sepsearch.search.stopping.asha import Rungs
from sepsearch.spaces.space import Space, parse_space

LIMIT = 55_000  # parameters: filters up to 16


def limited_space(sampler: str = "tpe", filters: object = None, **constraints: float) -> Space:
    parameters = {
        "filters": filters or {"low": 4, "high": 40},
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    }
    search = {"sampler": sampler, "startup_trials": 4}
    limits = constraints or {"parameters": LIMIT}
    return parse_space({"parameters": parameters, "search": search, "constraints": limits}, "space")


def make_plan(space: Space, path: Path | None = None, trials: int = 12, epochs: int = 4) -> SearchPlan:
    journal = Journal(path / "journal.jsonl") if path else _Nothing()
    sampler = Sampler(space, None, "x", seed=1, reference="t0002")
    return SearchPlan(sampler, Rungs(epochs, 2, epochs), journal, trials, epochs, 1, reference="t0002")


class _Nothing:
    def append(self, event):
        pass


def run(plan: SearchPlan, trials: int, speed: float = 100.0) -> list[dict]:
    """Begin and complete some trials one after the other; small networks have a slightly worse ratio."""
    asked = []
    for _ in range(trials):
        following = plan.next()
        if following is None:
            break
        job, params = following[0], following[1]["params"]
        asked.append(params)
        for epoch in range(1, plan.epochs + 1):
            if plan.result(job, report(epoch, 1 / params["filters"] + params["learning_rate"], speed)):
                break
        plan.ended(job, RETURNED)
    return asked


def report(epoch: int, ratio: float = 0.5, speed: float = 100.0) -> dict:
    return {"epoch": epoch, "ratio": ratio, "seconds": 1.0, "examples_per_second": speed, "members": []}


@pytest.mark.parametrize("name", ["tpe", "random", "gp", "qmc"])
def test_no_trial_but_the_references_has_more_parameters_than_asked(name):
    plan = make_plan(limited_space(name))
    asked = run(plan, 8)
    sizes = {id: known_parameters(trial.params) for id, trial in plan.trials.items()}
    assert len(asked) == 8
    assert all(size <= LIMIT for id, size in sizes.items() if id != "t0002")
    assert plan.trials["t0002"].parameters == 54_658


@pytest.mark.parametrize(("name", "trials"), [("tpe", 16), ("gp", 9)])
def test_the_sampler_learns_to_stay_away_from_what_is_infeasible(name, trials):
    plan = make_plan(limited_space(name, filters={"low": 2, "high": 120}), trials=trials)
    run(plan, trials)
    rejected = [len(plan.sampler.feasibility.rejected.get(id, ())) for id in plan.trials if id != "t0002"]
    # 15 of 119 numbers of filters are small enough; the first four trials are drawn at random.
    at_random, learnt = rejected[:3], rejected[3:]
    assert sum(at_random) / len(at_random) > 2 * sum(learnt) / len(learnt)


def test_a_rejected_proposal_is_infeasible_in_the_study_and_has_no_value():
    plan = make_plan(limited_space())
    run(plan, 6)
    rejected = [trial for trial in plan.sampler.study.trials if trial.user_attrs.get("reason", "").startswith("infeas")]
    assert rejected
    assert {trial.state for trial in rejected} == {TrialState.PRUNED}
    assert all(trial.constraints["parameters"] > 0 for trial in rejected)
    assert all(not trial.intermediate_values for trial in rejected)
    assert "55,000 asked" in rejected[0].user_attrs["reason"]


@pytest.mark.parametrize("name", ["tpe", "gp", "random", "qmc"])
def test_a_resumed_search_proposes_what_an_uninterrupted_one_does(name, tmp_path):
    space = limited_space(name)
    through = make_plan(space, tmp_path / "a")
    whole = run(through, 10)
    first = make_plan(space, tmp_path / "b")
    run(first, 6)
    first.journal.close()
    second = make_plan(space, tmp_path / "c")
    second.restore(read_journal(tmp_path / "b" / "journal.jsonl"))
    second.resume()
    run(second, 4)
    assert [trial.params for trial in second.trials.values()] == whole
    assert second.sampler.feasibility.rejected == through.sampler.feasibility.rejected


def test_a_space_without_small_enough_networks_ends_the_search_and_says_why():
    plan = make_plan(limited_space(filters={"low": 30, "high": 40}))
    run(plan, 12)
    assert list(plan.trials) == ["t0002"]
    assert plan.finished()
    said = shortage(plan, 12, "")
    assert (
        said
        == f"no other configuration with at most 55,000 parameters was found in {MOST_PROPOSALS} proposals: "
        + ("1 trial instead of 12")
    )


def test_the_last_small_enough_configurations_of_a_listed_space_are_all_trained():
    space = limited_space(filters=[8, 12, 16, 24, 32])
    space = parse_space(
        {**space.model_dump(exclude_none=True), "parameters": {"filters": [8, 12, 16, 24, 32]}}, "space"
    )
    plan = make_plan(space)
    run(plan, 12)
    assert sorted(trial.params["filters"] for trial in plan.trials.values()) == [8, 12, 16]
    assert shortage(plan, 12, "") == (
        "no other configuration with at most 55,000 parameters is left in the space: 3 trials instead of 12"
    )


def test_a_trial_ends_as_infeasible_when_none_of_its_first_epochs_was_fast_enough():
    plan = make_plan(limited_space(examples_per_second=50))
    job, _ = plan.next()
    assert plan.result(job, report(1, speed=31.0)) is None
    assert plan.result(job, report(2, speed=20.0)) is None
    assert plan.result(job, report(3, speed=30.0)) == "infeasible: 31 examples/s, at least 50 asked"
    plan.ended(job, RETURNED)
    assert (plan.trials[job].state, plan.trials[job].reason) == (
        "stopped",
        "infeasible: 31 examples/s, at least 50 asked",
    )
    (told,) = plan.sampler.study.trials
    assert told.state == TrialState.PRUNED
    assert told.constraints["examples_per_second"] > 0


def test_one_fast_epoch_among_the_first_three_is_enough():
    plan = make_plan(limited_space(examples_per_second=50))
    job, _ = plan.next()
    assert [plan.result(job, report(epoch, speed=speed)) for epoch, speed in enumerate((9, 60, 9, 9), 1)] == (
        [None] * 3 + ["full budget"]
    )
    plan.ended(job, RETURNED)
    assert plan.trials[job].state == "completed"


def test_a_trial_that_a_rung_stopped_before_its_speed_was_judged_is_not_infeasible():
    plan = make_plan(limited_space(examples_per_second=50))
    plan.rungs = Rungs(1, 2, 4)
    good, bad = plan.next()[0], plan.next()[0]
    plan.result(good, report(1, 0.4))
    assert plan.result(bad, report(1, 0.9, speed=3.0)) == "stopped at rung 1"
    plan.ended(bad, RETURNED)
    assert next(t for t in plan.sampler.study.trials if t.user_attrs["trial"] == bad).constraints == {
        "examples_per_second": 0.0
    }


def test_with_a_budget_of_one_epoch_speed_is_judged_after_it():
    plan = make_plan(limited_space(examples_per_second=50), epochs=1)
    job, _ = plan.next()
    assert str(plan.result(job, report(1, speed=3.0))).startswith("infeasible: 3 examples/s")


def test_the_reference_network_is_trained_however_slow_and_is_marked():
    plan = make_plan(limited_space(examples_per_second=50))
    run(plan, 3, speed=9.0)
    states = {id: trial.state for id, trial in plan.trials.items()}
    assert states == {"t0000": "stopped", "t0001": "stopped", "t0002": "completed"}
    assert plan.trials["t0002"].infeasible == "9 examples/s, at least 50 asked"
    assert "reference network alone" in shortage(plan, 3, "")


def test_a_slow_trial_is_judged_alike_after_a_restart(tmp_path):
    space = limited_space(examples_per_second=50)
    plan = make_plan(space, tmp_path / "a")
    job, _ = plan.next()
    for epoch in (1, 2, 3):
        plan.result(job, report(epoch, speed=9.0))
    plan.journal.close()  # killed before its end was written
    again = make_plan(space, tmp_path / "b")
    again.restore(read_journal(tmp_path / "a" / "journal.jsonl"))
    again.resume()
    assert again.trials[job].reason == "infeasible: 9 examples/s, at least 50 asked"


def test_journals_without_speeds_and_sizes_violate_no_constraint(tmp_path):
    plan = make_plan(limited_space(examples_per_second=50, parameters=100))
    epochs = [{"event": "epoch", "id": "t0000", "epoch": e, "ratio": 0.5, "members": []} for e in (1, 2, 3, 4)]
    plan.restore([{"event": "trial", "id": "t0000", "params": {"filters": 8}}, *epochs])
    assert plan.trials["t0000"].infeasible == ""


def test_a_configuration_in_another_spelling_is_not_trained_again():
    widths = {"detector_layers": [1, 2], "detector_width": [64, 128]}  # with one layer the width has no effect
    space = parse_space({"parameters": widths}, "space")
    sampler = Sampler(space, None, "x", seed=0)
    asked = []
    while (params := sampler.ask(f"t{len(asked)}")) is not None:
        asked.append(params)
        sampler.tell(f"t{len(asked) - 1}", "completed", 0.5)
    assert len(asked) == 3
