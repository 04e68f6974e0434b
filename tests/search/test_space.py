"""The space file: what it says, and every mistake in one line."""

from pathlib import Path

import pytest

from sepsearch.models.families import REFERENCE_FINAL, config_params
from sepsearch.search.space import Parameter, load_space, parse_space
from sepsearch.utils.errors import UserError

SPACES = Path(__file__).parents[2] / "search_spaces"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return path


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
    assert space.complete({"filters": 8}) == {**config_params(REFERENCE_FINAL), "filters": 8, "head": "mask"}


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
