"""The journal, damaged in every way that files are: what is read is a true beginning of what was written."""

import copy
from types import SimpleNamespace

import pytest
from hostile import corpus, few, fuzz_journal, fuzz_target, refusal, verdicts
from hypothesis import given
from hypothesis import strategies as st

from sepsearch.search.journal import Journal, read_journal, read_run
from sepsearch.utils.errors import UserError

STORY = fuzz_journal.make_story(2)
FILE = fuzz_journal.write_lines(STORY)
LINES = FILE.splitlines(keepends=True)


def read(folder, data):
    path = folder / "hostile.jsonl"
    path.write_bytes(data)
    return list(read_run(path))


@corpus("journal")
def test_a_hostile_journal_is_refused_in_one_line_and_stays_as_it_is(path, tmp_path):
    assert f"{path.name}:" in refusal(lambda: list(read_run(path)))
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    try:
        Journal(copy, resume=True).close()
    except UserError:
        assert copy.read_bytes() == path.read_bytes()
    else:  # its checksums fit: only what it tells makes no sense
        assert path.stem in ("ids_of_nobody", "trial_before_search", "event_is_a_list")
        assert copy.read_bytes() == path.read_bytes()


def test_the_fuzzer_writes_journals_as_they_are_written(tmp_path, monkeypatch):
    wall = iter([event["time"] for event in STORY])
    monotonic = iter([0.0, *(event["elapsed"] for event in STORY)])
    clock = SimpleNamespace(time=lambda: next(wall), monotonic=lambda: next(monotonic))
    monkeypatch.setattr("sepsearch.search.journal.time", clock)
    journal = Journal(tmp_path / "journal.jsonl")
    for event in STORY:
        journal.append({key: value for key, value in event.items() if key not in ("time", "elapsed")})
    journal.close()
    assert (tmp_path / "journal.jsonl").read_bytes() == FILE
    assert [{**event, "sum": ""} for event in read_journal(journal.path)] == [{**event, "sum": ""} for event in STORY]


@few
@given(st.integers(0, 8 * len(FILE) - 1))
def test_a_flipped_bit_is_found_or_cuts_the_last_line_off(tmp_path_factory, bit):
    data = bytearray(FILE)
    data[bit // 8] ^= 1 << bit % 8
    folder = tmp_path_factory.getbasetemp()
    if bit // 8 >= len(FILE) - len(LINES[-1]):
        assert len(read(folder, data)) == len(STORY) - 1
    else:
        assert "damaged line" in refusal(lambda: read(folder, data))


@few
@given(st.integers(0, len(FILE)))
def test_a_journal_that_is_cut_off_tells_its_whole_lines(tmp_path_factory, size):
    events = read(tmp_path_factory.getbasetemp(), FILE[:size])
    assert len(events) == FILE[:size].count(b"\n")
    assert [event["time"] for event in events] == [event["time"] for event in STORY[: len(events)]]


@few
@given(st.permutations(range(len(LINES))))
def test_lines_in_another_order_are_found(tmp_path_factory, order):
    folder = tmp_path_factory.getbasetemp()
    data = b"".join(LINES[number] for number in order)
    if data == FILE:
        assert len(read(folder, data)) == len(LINES)
    else:
        assert "damaged line" in refusal(lambda: read(folder, data))


@few
@given(st.integers(0, len(LINES) - 1), st.integers(0, len(LINES)), st.integers(1, 4))
def test_doubled_lines_are_found_wherever_they_stand(tmp_path_factory, line, place, times):
    data = b"".join([*LINES[:place], *[LINES[line]] * times, *LINES[place:]])
    folder = tmp_path_factory.getbasetemp()
    if place == len(LINES) and times == 1:  # the last line alone is wrong, as after a crash
        assert len(read(folder, data)) == len(LINES)
    else:
        assert "damaged line" in refusal(lambda: read(folder, data))


def test_the_fuzzers_damages_are_refused_or_leave_a_true_beginning(tmp_path):
    with fuzz_target(fuzz_journal, tmp_path) as target:
        assert verdicts(target, 500) == {"accepted", "refused"}


@pytest.mark.parametrize("name", ["../../evil", "/etc", "a\\b", "", "C:/x", "esc\x1b[31m"])
@pytest.mark.parametrize(
    "plant",
    [
        lambda story, name: story[0].update(settings={"instruments": ["vn", name]}),
        lambda story, name: story[1].update(id=name),
        lambda story, name: story[2]["members"][0].update(instrument=name),
        lambda story, name: event(story, "finalists")["configurations"][0].update(id=name),
        lambda story, name: event(story, "final").update(configuration=name),
        lambda story, name: event(story, "final_end").update(weights=name),
        lambda story, name: event(story, "fold").update(instrument=name),
        lambda story, name: event(story, "scores")["reference_final"].update({name: {}}),
        lambda story, name: event(story, "registered")["models"].update({name: "models:/x/1"}),
    ],
)
def test_a_name_that_would_become_a_path_elsewhere_is_refused_though_the_checksums_fit(tmp_path, plant, name):
    story = copy.deepcopy(STORY)
    plant(story, name)
    assert "becomes a path, and has" in refusal(lambda: read(tmp_path, fuzz_journal.write_lines(story)))


def event(story, kind):
    return next(one for one in story if one["event"] == kind)
