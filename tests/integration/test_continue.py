"""A finished run is extended in place: new trials, finalists chosen anew, nothing trained twice; without Ray."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_search
import torch
from remembered_results import COUNTED, FOLDER

from sepsearch.models.saved_model import load_model
from sepsearch.search.journal import read_run

SHORT, LONG = 3, 7
SPACE = tiny_search.SPACE.replace("configurations: 1", "configurations: 2")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Recordings and the space file, beside the runs that tests copy."""
    folder = tmp_path_factory.mktemp("continue")
    tiny_search.write_inputs(folder / "inputs")
    (folder / "inputs" / "results").mkdir()
    (folder / "inputs" / "two.yaml").write_text(SPACE)
    return folder / "inputs"


@pytest.fixture(autouse=True)
def work(inputs, tmp_path, monkeypatch) -> Iterator[Path]:
    """A working directory with the finished runs `short` and `long`, which differ in their trials alone."""
    monkeypatch.setenv(FOLDER, str(inputs / "results"))
    monkeypatch.setenv(COUNTED, str(inputs / "epochs"))
    monkeypatch.setenv("SEPSEARCH_CACHE", str(inputs / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same numbers every time
    whole = inputs.parent / "whole"
    if not whole.exists():
        whole.mkdir()
        monkeypatch.chdir(whole)
        for name, trials in (("short", SHORT), ("long", LONG)):
            ended = tiny_search.run(inputs, name, "--trials", str(trials), space="two.yaml")
            assert ended.code == 0, ended.text
    shutil.copytree(whole / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    torch.set_num_threads(threads)


def results(name: str) -> dict:
    return json.loads(Path("runs", name, "results.json").read_text())


def events(name: str) -> list[dict]:
    return list(read_run(Path("runs", name, "journal.jsonl")))


def extend(*options: str, trials: int = LONG) -> tiny_search.Ended:
    return tiny_search.command("--continue", "short", "--trials", str(trials), *options)


def finalists(name: str) -> dict[str, list[int]]:
    """Configurations of a run's finalists, as text, with their seeds."""
    return {json.dumps(one["params"], sort_keys=True): one["seeds"] for one in results(name)["finalists"]}


def test_an_extended_search_has_the_trials_and_models_of_one_that_was_longer_from_the_start():
    ended = extend()
    assert ended.code == 0, ended.text
    assert results("short")["trials"] == results("long")["trials"]
    assert finalists("short").keys() == finalists("long").keys()
    for code, row in results("long")["final"].items():
        found = results("short")["final"][code]
        assert found["params"] == row["params"]
        assert found["ratio_mean"] == row["ratio_mean"]
        assert found["test_ratio"] == row["test_ratio"]


def test_nothing_is_trained_twice_and_former_finalists_keep_their_ids():
    before = {one["id"]: one for one in results("short")["finalists"]}
    assert extend().code == 0
    of_short = events("short")
    for kind in ("epoch", "final_epoch"):
        counts = Counter((event["id"], event["epoch"]) for event in of_short if event["event"] == kind)
        assert set(counts.values()) == {1}
    for one in results("short")["finalists"]:
        same = [id for id, other in before.items() if other["params"] == one["params"]]
        assert same in ([one["id"]], [])
        assert same or one["id"] not in before
        assert one["eliminated"] or one["seeds"] == [1, 2]


def test_the_models_are_scored_and_saved_again():
    assert extend().code == 0
    found = results("short")
    for code, row in found["final"].items():
        _, card = load_model(Path("runs/short/models", code))
        assert card.scores["configuration"] == row["configuration"]
    assert [event["event"] for event in events("short")].count("scores") == 2
    assert events("short")[-1]["state"] == "finished"
    assert (Path("runs/short") / "report.html").exists()
    assert not Path("runs/short/provisional").exists()


def test_a_run_is_extended_twice():
    assert extend(trials=5).code == 0
    ended = extend()
    assert ended.code == 0, ended.text
    assert results("short")["trials"] == results("long")["trials"]
    assert finalists("short").keys() == finalists("long").keys()


def test_damaged_weights_of_a_former_finalist_are_trained_again():
    weights = sorted(Path("runs/short/finalists/c0-s1").iterdir())[0]
    weights.write_bytes(weights.read_bytes()[:-8])
    ended = extend()
    assert ended.code == 0, ended.text
    assert "c0-s1 is trained again" in ended.text
    assert finalists("short").keys() == finalists("long").keys()


def killed_after(count: int) -> None:
    """The extended run as a process leaves it that is killed when it has written so many lines of the extension."""
    lines = Path("runs/short/journal.jsonl").read_bytes().splitlines(keepends=True)
    begin = next(number for number, line in enumerate(lines) if b'"event":"continue"' in line)
    Path("runs/short/journal.jsonl").write_bytes(b"".join(lines[: begin + count]))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_an_extension_that_is_killed_goes_on_with_resume(share):
    assert extend().code == 0
    whole = results("short")
    lines = len(Path("runs/short/journal.jsonl").read_bytes().splitlines())
    first = next(number for number, event in enumerate(events("short")) if event["event"] == "continue")
    killed_after(1 + int(share * (lines - first - 3)))
    ended = tiny_search.command("--resume", "short")
    assert ended.code == 0, ended.text
    again = results("short")
    for key in ("trials", "finalists", "final", "candidates"):
        assert again[key] == whole[key]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--continue", "short", "--trials", "3"), "--trials 3: short has 3 trials already, expected more"),
        (("--continue", "short"), "--continue: --trials is missing, expected how many in all"),
        (("--continue", "none", "--trials", "9"), "--continue none: no such run in runs, expected one of: long, short"),
        (("--continue", "short", "--resume", "short", "--trials", "9"), "leave one of them out"),
        (("--continue", "short", "--trials", "9", "--seed", "3"), "--seed: the run was begun with 0, found 3"),
        (("--continue", "short", "--trials", "9", "--max-epochs", "3"), "--max-epochs: trials that have ended"),
        (("--continue", "short", "--trials", "9", "--name", "x"), "--name x: the run of --continue is short"),
        (("--continue", "../short", "--trials", "9"), "--continue '../short': expected letters"),
    ],
)
def test_what_cannot_be_extended_is_refused_in_one_line_and_stays_as_it_is(options, expected):
    before = Path("runs/short/journal.jsonl").read_bytes()
    ended = tiny_search.command(*options)
    assert ended.code == 2
    assert expected in ended.text
    assert Path("runs/short/journal.jsonl").read_bytes() == before


def test_a_run_that_has_not_finished_is_to_be_resumed():
    lines = Path("runs/short/journal.jsonl").read_bytes().splitlines(keepends=True)
    Path("runs/short/journal.jsonl").write_bytes(b"".join(lines[:-1]))
    ended = extend()
    assert ended.code == 2
    assert "--continue short: it has not finished, expected a finished run: go on with --resume short" in ended.text


def test_a_space_file_that_has_changed_is_refused_as_by_resume():
    path = Path("runs/short/space.yaml")
    path.write_text(path.read_text().replace("high: 1e-2", "high: 2e-2"))
    ended = extend()
    assert ended.code == 2
    assert re.search("space file changed since the run began: space.parameters.learning_rate.high", ended.text)
