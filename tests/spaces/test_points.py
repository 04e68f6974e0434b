"""Points of a space file: configurations to try first, and every mistake in one line."""

import re

import pytest

from sepsearch.spaces.points import check_room, is_complete, read_points
from sepsearch.spaces.space import Space, parse_space
from sepsearch.utils.errors import UserError

PARAMETERS = {
    "filters": [8, 16],
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "detector_layers": [1, 2],
    "detector_width": {"choices": [32, 64], "when": {"detector_layers": 2}},
    "detector_kernel_frequency": {"low": 8, "high": 24, "step": 8},
    "head": "mask",
}


def space(*points: dict) -> Space:
    return parse_space({"parameters": PARAMETERS, "points": list(points)}, "space.yaml")


def problem(*points: dict) -> str:
    with pytest.raises(UserError) as caught:
        space(*points)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_points_keep_their_order_and_take_the_types_of_the_space():
    found = read_points(space({"filters": 16.0, "learning_rate": 0.001}, {"detector_kernel_frequency": 24}))
    assert found == [{"filters": 16, "learning_rate": 0.001}, {"detector_kernel_frequency": 24}]
    assert isinstance(found[0]["filters"], int)


def test_the_params_of_a_trial_of_an_earlier_run_are_a_point():
    own = space()
    complete = own.complete(
        {"filters": 8, "learning_rate": 0.002, "detector_layers": 1, "detector_kernel_frequency": 8}
    )
    point = read_points(space(complete))[0]
    assert point == {"filters": 8, "learning_rate": 0.002, "detector_layers": 1, "detector_kernel_frequency": 8}
    assert is_complete(own, point)


def test_a_point_is_complete_once_no_sampled_parameter_is_left():
    own = space()
    values = {"filters": 8, "learning_rate": 0.002, "detector_layers": 2, "detector_kernel_frequency": 8}
    assert not is_complete(own, values)
    assert is_complete(own, {**values, "detector_width": 64})


def test_a_space_with_points_survives_a_round_trip_through_the_journal():
    own = space({"filters": 16})
    assert parse_space(own.model_dump(mode="json", exclude_none=True), "the journal") == own


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([{"filters": 12}], "space.yaml: points: number 1: filters is 12, expected one of 8, 16"),
        (
            [{"filters": 8}, {"learning_rate": 0.5}],
            "number 2: learning_rate is 0.5, expected a number from 0.0001 to 0",
        ),
        ([{"detector_kernel_frequency": 12}], "is 12, expected a whole number from 8 to 24 in steps of 8"),
        ([{"fliters": 8}], "number 1: fliters: unknown parameter, expected one of filters, learning_rate"),
        ([{"head": "relu"}], "head is 'relu', but the space fixes it to 'mask'"),
        ([{"activation": "silu"}], "the space does not search activation: it is 'elu' in all trials"),
        ([{"detector_width": 64}], "detector_width is sampled only when detector_layers is 2: add detector_layers: 2"),
        (
            [{"detector_layers": 1, "detector_width": 64}],
            "sampled only when detector_layers is 2: leave detector_width",
        ),
        ([{"filters": 8}, {"filters": 8, "head": "mask"}], "number 2 is the same as number 1: remove one of them"),
        ([{}], "number 1 is empty, expected names of parameters with values, such as {filters: 8}"),
        ([{"filters": True}], "filters is True, expected one of 8, 16"),
    ],
)
def test_a_mistake_in_a_point_is_named_with_its_number_and_what_was_expected(points, expected):
    assert expected in problem(*points)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ({"filters": 8}, "points: expected a list of configurations, such as - {filters: 16}, found {'filters': 8}"),
        (None, "points: expected a list of configurations, such as - {filters: 16}, found None"),
        ([3], "points: number 1: expected names and values, found 3"),
        ([{"filters": 8}, {"filters": [16]}], "points: number 2: filters: expected one value, found [16]"),
    ],
)
def test_points_that_are_no_list_of_mappings_to_values_are_refused_in_one_line(points, expected):
    with pytest.raises(UserError, match=re.escape(f"space.yaml: {expected}")):
        parse_space({"parameters": PARAMETERS, "points": points}, "space.yaml")


def test_the_reference_configuration_is_no_point_as_it_is_in_every_search():
    own = parse_space({"parameters": {"filters": [8, 16]}}, "space.yaml")
    with pytest.raises(UserError, match="number 1 is the reference network's configuration, which is in every search"):
        parse_space({"parameters": {"filters": [8, 16]}, "points": [own.reference_params()]}, "space.yaml")


def test_more_points_than_trials_beside_the_reference_are_refused():
    own = space({"filters": 8}, {"filters": 16})
    check_room(own, 3, "space.yaml")
    with pytest.raises(UserError, match=r"space.yaml: points has 2 configurations.* the search has 2 trials: .* 3, or"):
        check_room(own, 2, "space.yaml")
