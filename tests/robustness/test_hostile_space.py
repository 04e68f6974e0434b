"""The space file, written by somebody who means no good or has no luck."""

from pathlib import Path

import pytest
from hostile import corpus, few, fuzz_space, fuzz_target, refusal, verdicts
from hypothesis import given
from hypothesis import strategies as st

from sepsearch.spaces.space import load_space
from sepsearch.utils.errors import UserError


@corpus("space")
def test_a_hostile_space_file_is_refused_in_one_line_and_runs_nothing(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert path.name in refusal(lambda: load_space(path))
    assert not list(tmp_path.iterdir())


def judged(act):
    """("accepted", what an act gives) or ("refused", its error, which is one line)."""
    try:
        return "accepted", act()
    except UserError as error:
        text = str(error)
    return ("refused" if text.isprintable() else "no one line"), text


def test_a_space_file_of_many_bytes_is_refused_before_it_is_parsed(tmp_path):
    (tmp_path / "space.yaml").write_text("#" * 100_001)
    assert "at most 100,000 bytes" in refusal(lambda: load_space(tmp_path / "space.yaml"))


def test_brackets_on_many_lines_are_refused_before_they_cost_time(tmp_path):
    (tmp_path / "space.yaml").write_text(f"a: {'[' * 900}{']' * 900}\n" * 50)
    assert "nested deeper than 20 levels" in refusal(lambda: load_space(tmp_path / "space.yaml"))


def test_the_path_of_a_space_file_may_be_anything(tmp_path):
    assert "File name too long" in refusal(lambda: load_space(tmp_path / ("x" * 300)))
    assert "no such space file" in refusal(lambda: load_space(Path("/dev/zero")))
    assert "no such space file" in refusal(lambda: load_space(tmp_path))


@few
@given(
    low=st.floats(1e-12, 0.1),
    factor=st.floats(1.001, 50),
    filters=st.sets(st.integers(1, 1024), min_size=1, max_size=4),
)
def test_every_number_is_read_as_it_is_written(tmp_path_factory, low, factor, filters):
    path = tmp_path_factory.getbasetemp() / "numbers.yaml"
    chosen = sorted(filters)
    path.write_text(f"parameters: {{learning_rate: {{low: {low!r}, high: {low * factor!r}}}, filters: {chosen}}}")
    parameters = load_space(path).parameters
    assert (parameters["learning_rate"].low, parameters["learning_rate"].high) == (low, low * factor)
    assert parameters["filters"].choices == tuple(chosen)


@few
@given(
    st.one_of(
        st.binary(max_size=80),
        st.text(max_size=60).map(str.encode),
        st.text("[]{}:,&*!|>'\"%@`?-#\n ~<=01.e", max_size=60).map(str.encode),
    )
)
def test_any_bytes_are_an_error_or_a_space(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(b"parameters: {filters: [8, 16]}\n" + data)
    verdict, problem = judged(lambda: load_space(path).parameters["filters"].choices)
    assert verdict == "refused" or problem == (8, 16)


@few
@given(st.integers(1, 30), st.integers(1, 30), st.one_of(st.none(), st.integers(1, 9)))
def test_every_value_of_an_accepted_range_builds_a_network(tmp_path_factory, low, span, step):
    path = tmp_path_factory.getbasetemp() / "range.yaml"
    steps = f", step: {step}" if step else ""
    path.write_text(f"parameters: {{preparer_kernel_1: {{low: {low}, high: {low + span}{steps}}}}}")
    reachable = range(low, low + span + 1, step or 1)
    try:
        load_space(path)
    except UserError:
        assert any(kernel % 2 == 0 or kernel > 31 for kernel in (*reachable, low + span))
    else:
        assert all(kernel % 2 == 1 and kernel <= 31 for kernel in reachable)


def test_the_fuzzers_space_files_are_refused_or_read_as_they_are_written(tmp_path):
    with fuzz_target(fuzz_space, tmp_path) as target:
        assert verdicts(target, 120) == {"accepted", "refused"}


@pytest.mark.parametrize(("text", "read"), [("3e-4", 3e-4), ("1.", 1.0), (".5", 0.5), ("+1e-3", 1e-3), ("0.010", 0.01)])
def test_numbers_as_people_write_them_are_numbers(text, read, tmp_path):
    (tmp_path / "space.yaml").write_text(f"parameters: {{learning_rate: [{text}]}}")
    assert load_space(tmp_path / "space.yaml").parameters["learning_rate"].choices == (read,)
