"""A whole search with constraints in this process: what it trains and chooses, resumed after a kill, and refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_search

from sepsearch.search.journal import Journal, read_run

LIMIT = 52_000  # parameters: up to 9 filters
SPACE = f"""\
parameters:
  filters: {{low: 4, high: 40}}
  learning_rate: {{low: 1e-3, high: 1e-2, log: true}}
front_end: {{clip_seconds: 1.0}}
search: {{trials: 5, epochs: 2, examples_per_epoch: 4, validation_examples: 4, startup_trials: 2, grace_epochs: 2}}
final: {{configurations: 2, seeds: 2, epochs: 1, choose: smallest_within_sd}}
constraints: {{parameters: {LIMIT}}}
"""


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_search, "SPACE", SPACE)
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CRASH_POINTS_RESULTS", str(tmp_path / "results"))  # what was trained is not trained again
    monkeypatch.setenv("CRASH_POINTS_EPOCHS", str(tmp_path / "epochs"))
    (tmp_path / "results").mkdir()
    tiny_search.write_inputs(tmp_path / "inputs")
    return tmp_path / "inputs"


def search_in(folder: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> tiny_search.Ended:
    folder.mkdir()
    monkeypatch.chdir(folder)
    return tiny_search.start(inputs)


def events_of(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    found = [{**event} for event in read_run(folder / "runs" / tiny_search.NAME / "journal.jsonl")]
    return [event for event in found if event["event"] in kinds]


def proposals(folder: Path) -> list[tuple[Any, ...]]:
    events = events_of(folder, "trial")
    return [(event["id"], event["params"], event["parameters"], event.get("infeasible")) for event in events]


def test_only_small_networks_are_trained_and_chosen_and_a_killed_search_goes_on_alike(inputs, tmp_path, monkeypatch):
    ended = search_in(tmp_path / "whole", inputs, monkeypatch)
    assert ended.code == 0, ended.text
    whole = proposals(tmp_path / "whole")
    reference = events_of(tmp_path / "whole", "search")[0]["reference"]
    assert all(size <= LIMIT for id, _, size, _ in whole if id != reference)
    assert any(rejected for *_, rejected in whole)

    results = json.loads((tmp_path / "whole" / "runs" / tiny_search.NAME / "results.json").read_text())
    assert [trial["parameters"] for trial in results["trials"]] == [size for _, _, size, _ in whole]
    assert all(trial["examples_per_second"] > 0 for trial in results["trials"])
    assert [one["infeasible"] for one in results["finalists"] if one["reference"]] == [
        f"54,658 parameters, at most {LIMIT:,} asked"
    ]
    for row in results["final"].values():
        assert row["parameters"] <= LIMIT
        assert row["choice_reason"]

    append = Journal.append

    def kill(journal: Journal, event: Any) -> None:
        append(journal, event)
        if event["event"] == "trial_end" and event["id"] == "t0002":
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", kill)
        assert "Killed" in search_in(tmp_path / "part", inputs, monkeypatch).text
    assert len(proposals(tmp_path / "part")) < len(whole)
    ended = tiny_search.resume()
    assert ended.code == 0, ended.text
    assert proposals(tmp_path / "part") == whole


def test_a_limit_that_no_network_of_the_space_keeps_is_refused_before_anything_is_written(
    inputs, tmp_path, monkeypatch
):
    (inputs / "space.yaml").write_text(SPACE.replace(str(LIMIT), "100"))
    ended = search_in(tmp_path / "none", inputs, monkeypatch)
    assert ended.code == 2
    assert ended.text.startswith("error: constraints: parameters: at most 100 asked, but no configuration")
    assert len(ended.text.splitlines()) == 1
    assert not (tmp_path / "none" / "runs" / tiny_search.NAME / "journal.jsonl").exists()
