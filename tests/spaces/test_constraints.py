"""Constraints of a space file: their schema, what violates them, and what Optuna gets."""

import math

import pytest

from sepsearch.spaces.constraints import Constraints, fastest, rate, violation
from sepsearch.spaces.space import parse_space
from sepsearch.utils.errors import UserError

FILTERS = {"parameters": {"filters": [8, 16]}}


def test_constraints_are_optional_and_each_may_stand_alone():
    assert parse_space(FILTERS, "space").constraints == Constraints()
    assert parse_space({**FILTERS, "constraints": {"parameters": 1e6}}, "space").constraints.parameters == 1e6
    assert (
        parse_space({**FILTERS, "constraints": {"examples_per_second": 50}}, "s").constraints.examples_per_second == 50
    )


@pytest.mark.parametrize(
    ("constraints", "said"),
    [
        ({"paramters": 1e6}, "did you mean parameters?"),
        ({"parameters": 0}, "greater than or equal to 1"),
        ({"parameters": "1e6"}, "valid number"),
        ({"parameters": True}, "valid number"),
        ({"examples_per_second": -3}, "greater than 0"),
        ({"examples_per_second": math.nan}, "finite number"),
    ],
)
def test_a_wrong_constraint_is_refused_in_one_line(constraints, said):
    with pytest.raises(UserError, match="space: constraints") as error:
        parse_space({**FILTERS, "constraints": constraints}, "space")
    assert said in str(error.value)


def test_the_rule_for_small_models_needs_something_to_choose_from_and_seeds():
    for few in ({"configurations": 1}, {"seeds": 1}):
        with pytest.raises(UserError, match="at least 2 configurations and 2 seeds"):
            parse_space({**FILTERS, "final": {"choose": "smallest_within_sd", **few}}, "space")
    with pytest.raises(UserError, match="final: choose"):
        parse_space({**FILTERS, "final": {"choose": "smallest"}}, "space")


def test_a_violation_says_what_was_found_and_what_was_asked():
    limits = {"parameters": 2e4, "examples_per_second": 50}
    assert violation(limits, 54_658, None) == "54,658 parameters, at most 20,000 asked"
    assert violation(limits, 20_000, 50.0) == ""
    assert violation(limits, None, 0.425) == "0.42 examples/s, at least 50 asked"
    assert violation({}, 10**9, 0.1) == ""


def test_values_for_optuna_are_above_0_for_what_is_violated_and_every_limit_has_one():
    limits = Constraints(parameters=100, examples_per_second=50)
    assert limits.values(200, 100.0, True) == pytest.approx(
        {"parameters": math.log(2), "examples_per_second": -math.log(2)}
    )
    assert limits.values(None, None, True) == {"parameters": 0.0, "examples_per_second": 0.0}
    assert limits.values(50, 10.0, False)["examples_per_second"] == 0.0
    assert Constraints().values(200, 1.0, True) == {}


def test_speed_is_that_of_the_fastest_of_the_first_three_epochs():
    speed = None
    for epoch, measured in enumerate((3.0, 60.0, None, 90.0), 1):
        speed = fastest(speed, measured, epoch)
    assert speed == 60.0
    assert fastest(None, math.nan, 1) is None
    assert rate(1234.4) == "1,234"
