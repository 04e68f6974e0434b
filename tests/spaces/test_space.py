"""The space file: what it says, and every mistake in one line."""

import re
from pathlib import Path

import pytest

from sepsearch.models.families import config_params, make_config
from sepsearch.spaces.configurations import (
    count_configurations,
    holds,
    iterate_configurations,
    ordered_names,
    sampled_names,
)
from sepsearch.spaces.parameter import Parameter
from sepsearch.spaces.space import Space, load_space, parse_space
from sepsearch.utils.errors import UserError

SPACES = Path(__file__).parents[2] / "search_spaces"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return path


def read(tmp_path: Path, text: str) -> Space:
    return load_space(write(tmp_path, text))


def problem(tmp_path: Path, text: str) -> str:
    with pytest.raises(UserError) as caught:
        load_space(write(tmp_path, text))
    message = str(caught.value)
    assert "space.yaml" in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_spaces_are_valid(path):
    assert load_space(path).parameters


def test_lists_are_choices_numbers_are_ranges_and_single_values_are_fixed(tmp_path):
    space = load_space(
        write(tmp_path, "parameters: {filters: [8, 16], learning_rate: {low: 3e-4, high: 1e-2, log: true}, head: mask}")
    )
    assert space.parameters["filters"].choices == (8, 16)
    assert (space.parameters["learning_rate"].low, space.parameters["learning_rate"].log) == (3e-4, True)
    assert space.fixed == {"head": "mask"}


def test_what_a_space_does_not_name_keeps_the_reports_value(tmp_path):
    space = load_space(write(tmp_path, "parameters: {filters: [8, 16], head: mask}"))
    assert space.complete({"filters": 8}) == {**config_params(make_config({})), "filters": 8, "head": "mask"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "parameters: {fliters: [8, 16]}",
            "fliters: unknown key (did you mean filters?), expected one of filters, prep",
        ),
        (
            "parameter: {filters: [8]}",
            "parameter: unknown key (did you mean parameters?), expected one of family, param",
        ),
        ("parameters: {filters: [8]}\nsearch: {trails: 5}", "search: trails: unknown key (did you mean trials?)"),
        (
            "parameters: {filters: [8]}\nsearch: {trials: ten}",
            "search: trials: input should be a valid integer, found 'ten'",
        ),
        (
            "parameters: {filters: [8]}\nsearch: {trials: 0}",
            "search: trials: input should be greater than or equal to 1",
        ),
        ("parameters: {filters: []}", "parameters: filters: choices is empty"),
        ("parameters: {filters: [8, 8]}", "parameters: filters: choices [8, 8] holds a value twice"),
        ("parameters: {filters: {low: 32, high: 8}}", "parameters: filters: low 32 is not below high 8: swap them?"),
        ("parameters: {filters: {low: 8}}", "parameters: filters: low and high belong together"),
        ("parameters: {filters: {lo: 8, high: 9}}", "parameters: filters: lo: unknown key (did you mean low?)"),
        ("parameters: {l2: {low: 0, high: 1e-3, log: true}}", "parameters: l2: low is 0, expected above 0"),
        (
            "parameters: {activation: [elu, tanh]}",
            "activation: input should be 'relu', 'elu', 'gelu' or 'silu', found 'tanh'",
        ),
        ("parameters: {filters: [8.5]}", "filters: input should be a valid integer, found 8.5"),
        ("parameters: {preparer_kernel_1: {low: 2, high: 5}}", "preparer_kernel_1: expected an odd number, found 2"),
        (
            "parameters: {detector_width: {choices: [8], when: {layers: 2}}, filters: [8]}",
            "when names 'layers', expected one of filters",
        ),
        (
            "parameters: {detector_width: {choices: [8], when: {filters: 9}}, filters: [8]}",
            "when filters is 9, expected one of its choices (8,)",
        ),
        ("parameters: {filters: [8]}\nfamily: resnet", "family is 'resnet', expected one of report"),
        (
            "parameters: {filters: [8]}\nsplit: {train: 0.9}",
            "split: train, validation and test add up to 1.3, expected 1",
        ),
        (
            "parameters: {filters: [8]}\nfront_end: {axis: linear, high_hz: 99000.0}",
            "front_end: low_hz 0 and high_hz 99000",
        ),
        (
            "parameters: {family: {low: 4, high: 16}}",
            "parameters: family is {'low': 4, 'high': 16}, expected a list of families",
        ),
        ("family: [unet, report, unet]\nparameters: {l2: [0.0]}", "family: 'unet' is there twice"),
        ("search: {trials: 3}", "parameters: missing"),
        ("- a\n- b", "found list, expected keys: family, parameters"),
        ("parameters: {filters: [8}", "space.yaml:1: not YAML"),
        ("a: &x [1]\nb: *x", "aliases are not allowed here"),
        ("search: {}\nsearch: {}", "space.yaml:2: not YAML: found duplicate key"),
    ],
)
def test_a_mistake_is_named_with_where_and_what_was_expected(tmp_path, text, expected):
    assert expected in problem(tmp_path, text)


def test_a_missing_file_is_named_with_one_that_is_there(tmp_path):
    with pytest.raises(
        UserError, match=r"none.yaml: no such space file, expected detector or laptop, or a file such as my-space.yaml"
    ):
        load_space(tmp_path / "none.yaml")


def test_the_corners_of_every_parameter_build_a_network():
    with pytest.raises(
        UserError, match="detector_kernel_frequency: input should be less than or equal to 64, found 99"
    ):
        parse_space({"parameters": {"detector_kernel_frequency": {"low": 4, "high": 99}}}, "space")


@pytest.mark.parametrize(
    ("parameter", "values"),
    [
        ({"low": 3, "high": 8, "step": 2}, [3, 5, 7]),
        ({"low": 3, "high": 4, "step": 2}, [3]),
        ({"low": 3, "high": 5, "step": 2}, [3, 5]),
        ({"low": 8, "high": 32, "log": True}, [8, 9, 32]),
        ({"low": 8, "high": 9}, [8, 9]),
        ({"low": 1e-4, "high": 1e-2, "log": True}, [1e-4, 1e-2]),
        ({"choices": [9, 3]}, [9, 3]),
    ],
    ids=str,
)
def test_corner_values_are_values_that_are_drawn(parameter, values):
    found = Parameter.model_validate(parameter)
    assert found.corners() == values
    assert all(found.holds(value) for value in values)


def test_a_range_whose_end_is_never_drawn_is_not_refused_for_it():
    space = parse_space({"parameters": {"preparer_kernel_1": {"low": 3, "high": 8, "step": 2}}}, "space")
    assert space.parameters["preparer_kernel_1"].corners() == [3, 5, 7]
    with pytest.raises(UserError, match="preparer_kernel_1: expected an odd number, found 4"):
        parse_space({"parameters": {"preparer_kernel_1": {"low": 3, "high": 8, "step": 1}}}, "space")


def test_a_range_holds_its_steps_and_no_others():
    stepped, real = Parameter(low=3, high=8, step=2), Parameter(low=0.0, high=1.0)
    assert [value for value in (2, 3, 3.0, 4, 7, 8, 9, True, "3") if stepped.holds(value)] == [3, 3.0, 7]
    assert [value for value in (-0.1, 0, 0.5, 1.0, 1.1, float("nan"), "0") if real.holds(value)] == [0, 0.5, 1.0]


def test_choices_of_equal_numbers_are_one_value_twice():
    with pytest.raises(UserError, match=r"l2: choices \[0, 0.0\] holds a value twice"):
        parse_space({"parameters": {"l2": [0, 0.0]}}, "space")


FAMILIES = "family: [report, unet]\n"


def test_several_families_are_a_dimension_with_conditions_on_it(tmp_path):
    text = "parameters: {filters: {choices: [8, 16], when: {family: report}}, activation: [elu, silu]}\n"
    space = read(tmp_path, FAMILIES + text)
    assert space.families == ("report", "unet")
    assert space.complete({"family": "unet", "activation": "elu"})["channels"] == 16
    assert "filters" not in space.complete({"family": "unet"})
    assert space.complete({"family": "report", "filters": 8})["filters"] == 8


def test_a_fixed_value_applies_to_the_families_that_have_it(tmp_path):
    space = read(tmp_path, FAMILIES + "parameters: {l2: [0.0, 1e-4]}\nfixed: {channels: 8, heads: all}\n")
    assert space.complete({"family": "unet"})["channels"] == 8
    assert "channels" not in space.complete({"family": "report"})
    assert {space.complete({"family": family})["heads"] for family in space.families} == {"all"}


def test_a_space_of_several_families_survives_a_round_trip_through_the_journal(tmp_path):
    space = read(tmp_path, FAMILIES + "parameters: {channels: {choices: [4, 8], when: {family: unet}}}\n")
    assert parse_space(space.model_dump(mode="json", exclude_none=True), "the journal") == space


def test_conditions_have_several_levels(tmp_path):
    text = """parameters:
  frames: {choices: [64, 128], when: {offsets: random}}
  offsets: {choices: [clip, random], when: {family: unet}}
"""
    space = read(tmp_path, FAMILIES + text)
    assert space.conditions("frames") == {"offsets": "random", "family": "unet"}
    assert ordered_names(space) == ["family", "offsets", "frames"]
    unet = space.complete({"family": "unet", "offsets": "random", "frames": 64})
    assert sampled_names(space, unet) == ["family", "offsets", "frames"]
    # The reference has offsets: clip by default, which is no sampled value.
    assert sampled_names(space, space.reference_params()) == ["family"]
    assert count_configurations(space) == 1 + 1 + 2
    assert len(list(iterate_configurations(space))) == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("parameters: {channels: [4, 8]}", "channels: family report has no such parameter: add when: {family: unet}"),
        ("parameters: {chanels: [4, 8]}", "chanels: unknown key"),
        ("parameters: {family: [unet]}", "family is given twice"),
        (
            "parameters: {heads: {choices: [one, all], when: {schedule: cosine}},"
            " schedule: {choices: [cosine], when: {heads: all}}}",
            "heads: when goes in a circle",
        ),
        (
            "parameters: {offsets: {choices: [random], when: {family: unet}},"
            " frames: {choices: [64], when: {family: report, offsets: random}}}",
            "frames: when asks family to be 'report' and 'unet'",
        ),
        ("parameters: {l2: [0.0]}\nfixed: {channel: 3}", "channel: unknown key"),
        ("parameters: {harmonic_bins: {choices: [15], when: {family: unet}}}", "but the front end has no logarithmic"),
    ],
)
def test_a_mistake_in_a_space_of_several_families_is_named(tmp_path, text, expected):
    with pytest.raises(UserError, match=re.escape(expected)):
        read(tmp_path, FAMILIES + text + "\n")


def test_harmonics_fit_the_front_end_that_is_made_for_them(tmp_path):
    text = "family: unet\nparameters: {channels: [4, 8]}\nfixed: {harmonic_bins: 15}\nfront_end: {preset: log15}\n"
    assert read(tmp_path, text).complete({"channels": 4})["harmonic_bins"] == 15


def test_the_former_spelling_of_the_detectors_width_is_still_searched(tmp_path):
    text = "parameters: {detector_layers: [1, 2], detector_width: {choices: [64, 128], when: {detector_layers: 2}}}\n"
    space = read(tmp_path, text)
    assert make_config(space.complete({"detector_layers": 1})).network.detector_width == 0
    assert make_config(space.complete({"detector_layers": 2, "detector_width": 64})).network.detector_width == 64
    assert holds(space, space.reference_params())
