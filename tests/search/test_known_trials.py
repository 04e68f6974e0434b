"""Completed trials of other runs in a sampler's study: what it learns, what it does not propose, and after a resume."""

import pytest
from optuna.trial import TrialState

from sepsearch.search.event_checks import event_problem
from sepsearch.search.sampling.known_trials import KnownTrial, best_known, first_points, known_trials
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.spaces.space import Space, parse_space

PARAMETERS = {"filters": [8, 16, 24], "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


def space(sampler: str = "tpe", points: tuple = (), parameters: dict = PARAMETERS) -> Space:
    search = {"sampler": sampler, "startup_trials": 4, "tell": "last"}
    return parse_space({"parameters": parameters, "points": list(points), "search": search}, "space")


def known(own: Space, rates: tuple = (2e-4, 5e-4, 1e-3, 2e-3, 5e-3)) -> list[KnownTrial]:
    """Trials of which the one with the largest learning rate is the best."""
    return [
        KnownTrial(f"first/t{number:04d}", own.complete({"filters": 24, "learning_rate": rate}), 0.9 - 50 * rate)
        for number, rate in enumerate(rates)
    ]


def run(sampler: Sampler, trials: int, first: int = 0) -> list[dict]:
    asked = []
    for number in range(first, first + trials):
        params = sampler.ask(f"t{number}")
        asked.append(params)
        if params is not None:
            sampler.report(f"t{number}", 1, 0.5 + params["learning_rate"])
            sampler.tell(f"t{number}", "completed", 0.5 + params["learning_rate"])
    return asked


def test_known_trials_are_completed_trials_of_the_study_that_say_where_they_come_from():
    own = space()
    sampler = Sampler(own, None, "x", 0, known=known(own))
    trials = sampler.study.trials
    assert [trial.user_attrs["source"] for trial in trials] == [f"first/t{number:04d}" for number in range(5)]
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert trials[0].params == {"filters": 24, "learning_rate": 2e-4}
    assert not any("trial" in trial.user_attrs for trial in trials)


def test_the_best_known_configuration_is_the_first_after_the_reference_and_the_points():
    own = space(points=({"filters": 8, "learning_rate": 0.003},))
    sampler = Sampler(own, None, "x", 0, reference="t1", known=known(own))
    asked = run(sampler, 3)
    assert (asked[0]["filters"], asked[0]["learning_rate"]) == (8, 0.003)
    assert asked[1] == sampler.reference_params()
    assert asked[2] == known(own)[-1].params


def test_the_best_known_configuration_that_is_a_point_is_trained_once():
    own = space(points=({"filters": 24, "learning_rate": 5e-3},))
    assert first_points(own, [{"filters": 24, "learning_rate": 5e-3}], known(own)) == [
        {"filters": 24, "learning_rate": 5e-3}
    ]


def test_known_trials_outside_the_space_are_left_out():
    own = space()
    narrow = space(parameters={**PARAMETERS, "filters": [8, 16]})
    assert Sampler(narrow, None, "x", 0, known=known(own)).study.trials == []
    assert best_known(narrow, known(own)) is None


def test_no_known_configuration_but_the_best_is_proposed_again():
    parameters = {"filters": [8, 24, 32], "l2": [0.0, 1e-4]}
    own = space(parameters=parameters)
    values = [{"filters": filters, "l2": l2} for filters in (8, 24) for l2 in (0.0, 1e-4)]
    trials = [KnownTrial(f"first/t{n}", own.complete(value), 0.5 + n / 10) for n, value in enumerate(values)]
    asked = run(Sampler(own, None, "x", 0, known=trials), 5)
    assert asked[1] == trials[0].params
    assert asked[4] is None
    rest = [(one["filters"], one["l2"]) for one in asked[2:4]]
    assert sorted(rest) == [(32, 0.0), (32, 1e-4)]


def test_a_model_is_made_at_once_where_as_many_trials_are_known_as_the_startup_has():
    # Twelve trials are known, the good ones with 24 filters: a model proposes those, random draws a third of them.
    own = space()
    trials = [
        KnownTrial(
            f"first/t{n}", own.complete({"filters": filters, "learning_rate": 1e-3 * (1 + n / 20)}), ratio + n / 1e3
        )
        for n, (filters, ratio) in enumerate([(24, 0.3), (8, 0.8), (16, 0.9)] * 4)
    ]
    informed = [run(Sampler(own, None, "x", seed, known=trials), 4)[2:] for seed in range(12)]
    cold = [run(Sampler(own, None, "x", seed), 4)[2:] for seed in range(12)]
    share = [sum(one["filters"] == 24 for pair in of for one in pair) for of in (informed, cold)]
    assert share[0] >= share[1] + 6


@pytest.mark.parametrize("name", ["tpe", "random", "gp", "qmc"])
def test_a_restored_sampler_with_known_trials_goes_on_as_if_it_had_never_ended(name):
    own = space(name)
    first = Sampler(own, None, "x", 3, reference="t1", known=known(own))
    asked = run(first, 6)
    again = Sampler(own, None, "x", 3, reference="t1", known=known(own))
    for number, params in enumerate(asked):
        again.restore(f"t{number}", params)
        again.report(f"t{number}", 1, 0.5 + params["learning_rate"])
        again.tell(f"t{number}", "completed", 0.5 + params["learning_rate"])
    again.restored()
    assert run(again, 3, 6) == run(first, 3, 6)


def test_a_random_search_proposes_the_same_with_known_trials_but_for_the_best():
    own = space("random")
    cold, warm = (run(Sampler(own, None, "x", 5, known=trials), 6) for trials in ([], known(own)))
    assert warm[1] == known(own)[-1].params
    assert warm[2:] == cold[2:]


def test_known_trials_are_read_from_the_first_event_and_a_damaged_one_is_named():
    own = space()
    record = {"id": "t0003", "params": own.complete({}), "ratio": 0.4}
    counts = {"completed": 2, "outside": 1, "repeated": 0, "reference": 0}
    run_record = {"name": "first", "run": "r1", "place": "first", **counts, "trials": [record]}
    assert known_trials([run_record])[0].source == "first/t0003"
    begin = {
        "event": "search",
        "time": 1.0,
        "format": 3,
        "name": "x",
        "run": "r2",
        "reference": "t0000",
        "seconds": 1.0,
        **{key: {} for key in ("space", "settings", "versions", "dataset", "baselines", "caveats")},
        "known": [run_record],
    }
    assert event_problem(begin, set()) == ""
    damaged = {**begin, "known": [{**run_record, "trials": [{**record, "ratio": "low"}]}]}
    assert "known.0.trials.0.ratio is 'low'" in event_problem(damaged, set())
