"""Constraints, stops by hand, rules that end a search, points and known trials where trials pause at rungs."""

from pathlib import Path

import pytest

from sepsearch.models.size import known_parameters
from sepsearch.search.journal import Journal, read_journal
from sepsearch.search.protocol import BY_HAND, RETURNED
from sepsearch.search.sampling.known_trials import KnownTrial
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan
from sepsearch.search.search_end import end_rules
from sepsearch.search.stopping.methods import METHODS
from sepsearch.spaces.space import Space, parse_space

PARAMETERS = {"filters": {"low": 4, "high": 40}, "learning_rate": {"low": 1e-4, "high": 1e-2}}
LIMIT = 55_000  # parameters: filters up to 16


def make_space(sampler: str = "random", **sections: object) -> Space:
    return parse_space({"parameters": PARAMETERS, "search": {"sampler": sampler}, **sections}, "space")


def make_plan(folder: Path, space: Space | None = None, trials: int = 4, resume: bool = False) -> SearchPlan:
    """A search of four epochs with promotion, rungs 1 and 2."""
    space = space or make_space()
    sampler = Sampler(space, None, "x", seed=0)
    journal = Journal(folder / "journal.jsonl", resume=resume)
    rule = METHODS["asha_promotion"](1, 2, 4)
    return SearchPlan(sampler, rule, journal, trials, 4, seed=0, end_rules=end_rules(space, sampler, 0))


def train(plan: SearchPlan, ratio: float, speed: float = 100.0, best: str = "") -> str:
    """Train the next job until it pauses or ends, the `best` one with a better ratio; its id."""
    following = plan.next()
    assert following is not None
    job, reason = following[0], None
    while not reason:
        epoch = plan.trials[job].epochs + 1
        result = {
            "epoch": epoch,
            "ratio": 0.4 if job == best else ratio,
            "seconds": 1.0,
            "examples_per_second": speed,
            "members": [],
        }
        reason = plan.result(job, result)
    plan.ended(job, RETURNED)
    return job


def test_a_paused_trial_that_is_stopped_by_hand_ends_at_once_and_is_not_promoted(tmp_path):
    plan = make_plan(tmp_path)
    best = train(plan, 0.4)
    assert plan.stop(best, "me", "r1") == ""
    assert (plan.trials[best].state, plan.trials[best].reason) == ("stopped", BY_HAND)
    other = train(plan, 0.5)
    assert plan.next()[0] not in (best, other)  # the one place among the best half is that of the first still


@pytest.mark.parametrize("kept", ["stop", "trial_end"])
def test_a_paused_trial_that_was_stopped_by_hand_is_over_in_a_resumed_search(tmp_path, kept):
    plan = make_plan(tmp_path)
    job = train(plan, 0.4)
    plan.stop(job, "me", "r1")
    plan.journal.close()
    path = tmp_path / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines if kept == "trial_end" else lines[:-1]))
    again = make_plan(tmp_path, resume=True)
    again.restore(list(read_journal(path)))
    again.resume()
    assert (again.trials[job].state, again.trials[job].reason) == ("stopped", BY_HAND)
    assert again.next()[0] != job


def test_a_trial_that_is_too_slow_ends_and_does_not_pause(tmp_path):
    space = make_space(constraints={"examples_per_second": 50})
    sampler = Sampler(space, None, "x", seed=0, reference="t0003")
    plan = SearchPlan(
        sampler, METHODS["asha_promotion"](3, 2, 9), Journal(tmp_path / "j"), 4, 9, seed=0, reference="t0003"
    )
    job = train(plan, 0.5, speed=10.0)
    assert plan.trials[job].reason == "infeasible: 10 examples/s, at least 50 asked"
    assert (plan.trials[job].state, plan.trials[job].epochs) == ("stopped", 3)


def test_trials_that_pause_count_for_patience(tmp_path):
    plan = make_plan(tmp_path, make_space(stop={"patience": 3}), trials=50)
    first = train(plan, 0.4)
    while plan.trials[first].state != "completed":
        train(plan, 0.9, best=first)
    begun = len(plan.trials)
    while not plan.over:
        train(plan, 0.9)
    assert plan.over == "patience"
    assert len(plan.trials) == begun + 3
    assert {trial.state for trial in plan.trials.values() if trial.ratio == 0.9} == {"stopped"}


def test_a_known_trial_that_is_too_large_is_infeasible_and_not_trained_again():
    space = make_space("gp", constraints={"parameters": LIMIT})
    configurations = [space.complete({"filters": filters, "learning_rate": 1e-3}) for filters in (40, 8, 12)]
    known = [KnownTrial(f"first/t{n}", params, 0.1 + n / 10) for n, params in enumerate(configurations)]
    sampler = Sampler(space, None, "x", 0, reference="t9", known=known)
    large, *small = sampler.study.trials
    assert large.constraints["parameters"] > 0
    assert all(trial.constraints["parameters"] <= 0 for trial in small)
    assert sampler.ask("t0") == configurations[1]


def test_a_point_that_leaves_the_size_open_is_completed_within_the_limit():
    space = make_space("tpe", constraints={"parameters": LIMIT}, points=[{"learning_rate": 2e-3}])
    params = Sampler(space, None, "x", 0, reference="t9").ask("t0")
    assert params["learning_rate"] == 2e-3
    assert known_parameters(params) <= LIMIT
