"""Warm start: a new run begins with completed trials of earlier ones, or says why it cannot; without Ray."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_search
import torch
from remembered_results import COUNTED, FOLDER

from sepsearch.search.journal import read_run

FIRST = ("--trials", "4")
WIDER = tiny_search.SPACE.replace("filters: [1, 2]", "filters: [1, 2, 3]")
NARROW = tiny_search.SPACE.replace("filters: [1, 2]", "filters: [2]")


@pytest.fixture(autouse=True)
def nothing_left_by_a_refused_run():
    yield
    shutil.rmtree(Path("runs", "refused"), ignore_errors=True)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Recordings and space files; the first run is in `work`, whose copies later ones start from."""
    folder = tmp_path_factory.mktemp("warm")
    tiny_search.write_inputs(folder / "inputs")
    (folder / "inputs" / "results").mkdir()
    for name, text in {"wider": WIDER, "narrow": NARROW}.items():
        (folder / "inputs" / f"{name}.yaml").write_text(text)
    return folder / "inputs"


@pytest.fixture(autouse=True)
def work(inputs, monkeypatch) -> Iterator[Path]:
    """The working directory, with the finished run `first`."""
    folder = inputs.parent / "work"
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv(FOLDER, str(inputs / "results"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same numbers every time
    monkeypatch.setenv(COUNTED, str(inputs / "epochs"))
    monkeypatch.setenv("SEPSEARCH_CACHE", str(inputs / "cache"))
    if not (folder / "runs" / "first").exists():
        ended = tiny_search.run(inputs, "first", *FIRST)
        assert ended.code == 0, ended.text
    yield folder
    torch.set_num_threads(threads)


def results(name: str) -> dict:
    return json.loads(Path("runs", name, "results.json").read_text())


def completed(name: str) -> list[dict]:
    found = results(name)
    return [one for one in found["trials"] if one["state"] == "completed" and one["id"] != found["reference"]]


def test_completed_trials_enter_the_study_and_are_none_of_the_new_runs_trials(inputs):
    ended = tiny_search.run(inputs, "second", "--warm-start", "first", space="wider.yaml")
    assert ended.code == 0, ended.text
    count = len(completed("first"))
    assert f"warm start: {count} of " in ended.text
    found = results("second")
    assert [one["id"] for one in found["trials"]] == ["t0000", "t0001", "t0002"]
    assert found["known"][0]["name"] == "first"
    assert found["known"][0]["entered"] == count
    search = next(read_run(Path("runs/second/journal.jsonl")))
    assert [one["id"] for one in search["known"][0]["trials"]] == [one["id"] for one in completed("first")]


def test_the_best_known_configuration_is_trained_first(inputs):
    best = min(completed("first"), key=lambda one: one["ratio"])
    ended = tiny_search.run(inputs, "again", "--warm-start", "first")
    assert ended.code == 0, ended.text
    assert re.search(rf"the best of them, first/{best['id']} with ratio .*, is trained again first", ended.text)
    assert results("again")["trials"][0]["params"] == best["params"]
    known = [one["params"] for one in completed("first") if one["id"] != best["id"]]
    assert not any(one["params"] in known for one in results("again")["trials"])


def test_trials_outside_the_new_space_are_left_out_and_counted(inputs):
    inside = [one for one in completed("first") if one["params"]["filters"] == 2]
    ended = tiny_search.run(inputs, "narrow", "--warm-start", "first", space="narrow.yaml")
    assert ended.code == 0, ended.text
    known = results("narrow")["known"][0]
    assert known["entered"] == len(inside)
    assert known["outside"] == len(completed("first")) - len(inside)
    assert known["completed"] == known["entered"] + known["outside"] + known["repeated"] + known["reference"]


def test_a_run_is_found_by_its_folder_and_known_trials_of_two_runs_enter_once(inputs):
    assert tiny_search.run(inputs, "other", *FIRST, "--warm-start", "runs/first").code == 0
    ended = tiny_search.run(inputs, "third", "--warm-start", "runs/first,other")
    assert ended.code == 0, ended.text
    first, other = results("third")["known"]
    assert first["repeated"] == 0
    assert other["repeated"] == sum(
        one["params"] in [two["params"] for two in completed("first")] for one in completed("other")
    )


def test_a_run_that_this_machine_does_not_keep_is_found_in_the_storage(inputs):
    ended = tiny_search.run(inputs, "shared", "--runs", "here", "--storage", "runs", "--warm-start", "first")
    assert ended.code == 0, ended.text
    assert results("shared")["known"][0]["name"] == "first"


@pytest.mark.parametrize("params", [{"family": "mine"}, {"family": ["report"]}, {"depth": 3}, {}])
def test_a_configuration_that_this_version_does_not_know_is_outside_the_space(params):
    from sepsearch.runs.warm_start import _inside
    from sepsearch.spaces.space import parse_space

    assert _inside(parse_space({"parameters": {"filters": [2, 4]}}, "space"), params) is None


def test_a_configuration_of_an_earlier_version_gets_the_parameters_that_were_added():
    from sepsearch.runs.warm_start import _inside
    from sepsearch.spaces.space import parse_space

    space = parse_space({"parameters": {"filters": [2, 4]}}, "space")
    whole = space.complete({"filters": 2})
    earlier = {name: value for name, value in whole.items() if name not in ("schedule", "optimizer")}
    assert _inside(space, earlier) == whole


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--max-epochs", "1"), "--warm-start first: its ratios are not comparable.*search.epochs: 2 → 1"),
        (("--instruments", "vn"), r"instruments.codes: \[.*\] → \[.vn.\].*the same --instruments"),
        (("--seed", "3"), "split.*the same --seed"),
    ],
)
def test_a_run_that_is_not_comparable_is_refused_with_the_difference_and_nothing_is_written(inputs, options, expected):
    ended = tiny_search.run(inputs, "refused", "--warm-start", "first", *options)
    assert ended.code == 2
    assert re.search(expected, ended.text), ended.text
    assert len([line for line in ended.text.splitlines() if line.startswith("error:")]) == 1
    assert not Path("runs/refused/journal.jsonl").exists()


def test_another_front_end_is_refused(inputs):
    text = tiny_search.SPACE.replace("{clip_seconds: 1.0}", "{clip_seconds: 1.0, preset: report}")
    (inputs / "log.yaml").write_text(text)
    ended = tiny_search.run(inputs, "refused", "--warm-start", "first", space="log.yaml")
    assert ended.code == 2
    assert 'front_end.preset: "mel" → "report"' in ended.text


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ("nothing", "--warm-start nothing: no such run in runs, expected one of: "),
        ("first,first", "--warm-start first: the run first is named twice"),
        ("elsewhere/first", "--warm-start elsewhere/first: no journal.jsonl there, expected the folder of a run"),
        ("first,", "expected runs with commas between them"),
        ("../first", "--warm-start ../first: no journal.jsonl there"),
    ],
)
def test_a_run_that_cannot_be_read_is_named_in_one_line(inputs, places, expected):
    ended = tiny_search.run(inputs, "refused", "--warm-start", places)
    assert ended.code == 2
    assert expected in ended.text


def test_a_run_that_exists_takes_no_warm_start():
    ended = tiny_search.command("--resume", "first", "--warm-start", "first")
    assert ended.code == 2
    assert "--warm-start: expected with a new run: leave it out" in ended.text


def test_a_resumed_run_needs_no_other_run_and_proposes_the_same(inputs, work):
    whole = tiny_search.run(inputs, "whole", *FIRST, "--warm-start", "first")
    assert whole.code == 0, whole.text
    journal = Path("runs/whole/journal.jsonl").read_bytes().splitlines(keepends=True)
    begun = [number for number, line in enumerate(journal) if b'"event":"trial",' in line]
    killed = Path("runs/killed")
    killed.mkdir()
    (killed / "space.yaml").write_bytes(Path("runs/whole/space.yaml").read_bytes())
    (killed / "journal.jsonl").write_bytes(b"".join(journal[: begun[2]]))
    Path("runs/first").rename("moved")
    try:
        ended = tiny_search.command("--resume", "killed")
    finally:
        Path("moved").rename("runs/first")
    assert ended.code == 0, ended.text
    assert results("killed")["trials"] == results("whole")["trials"]
    assert results("killed")["known"] == results("whole")["known"]


def test_the_report_names_the_runs_that_a_search_began_with(inputs):
    from sepsearch.reporting.run_data import gather_facts
    from sepsearch.reporting.text import commands, known_text

    assert tiny_search.run(inputs, "shown", "--warm-start", "first").code == 0
    facts = gather_facts(Path("runs/shown"))
    assert known_text(facts).startswith(f"The sampler began with {len(completed('first'))} of ")
    assert "--warm-start first" in commands(facts)[0][1]
