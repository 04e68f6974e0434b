"""Sizes at the corners of a space: what preflight says, leaves out, and refuses."""

import pytest

from sepsearch.preflight.corner_configurations import corner_configs, parameter_counts
from sepsearch.preflight.size_range import require_small_enough, small_corners
from sepsearch.spaces.space import Space, parse_space
from sepsearch.utils.errors import UserError


def space(constraints: dict, **parameters: object) -> Space:
    return parse_space({"parameters": parameters or {"filters": [4, 16, 32]}, "constraints": constraints}, "space")


def found(searched: Space) -> tuple[list[dict], list[str]]:
    corners = corner_configs(searched)
    return small_corners(searched, corners, parameter_counts(corners))


def test_preflight_says_the_range_of_sizes_at_the_corners():
    kept, notes = found(space({}))
    assert len(kept) == 3
    assert notes == [
        "networks at the corners of the space have from 51,682 to 62,658 parameters; the reference network 54,658"
    ]


def test_corners_that_are_too_large_are_not_tried_and_the_reference_always_is():
    kept, notes = found(space({"parameters": 52_000}))
    assert [params["filters"] for params in kept] == [16, 4]
    assert notes[0].endswith(
        "at most 52,000 asked: 1 of 2 corners are larger, and so is the reference, which is trained for comparison"
    )


def test_a_limit_of_speed_is_said():
    _, notes = found(space({"examples_per_second": 50}))
    assert "fewer than 50 examples/s" in notes[1]


def test_a_space_without_small_enough_networks_is_refused_with_the_smallest_that_it_has():
    with pytest.raises(UserError, match="at most 1,000 asked") as error:
        require_small_enough(space({"parameters": 1e3}))
    assert "the smallest has 51,682: raise the limit, or widen the space" in str(error.value)


def test_small_networks_between_the_corners_of_a_space_are_found():
    # Few filters and a long kernel at once are no corner.
    ranges = {"filters": {"low": 4, "high": 32}, "detector_kernel_time": {"low": 1, "high": 64}}
    searched = space({"parameters": 15_000}, **ranges)
    assert min(parameter_counts(corner_configs(searched))) > 15_000
    require_small_enough(searched)


def test_without_a_limit_nothing_is_counted(monkeypatch):
    counted = []
    monkeypatch.setattr("sepsearch.preflight.size_range.known_parameters", counted.append)
    require_small_enough(space({"examples_per_second": 1.0}))
    assert counted == []
