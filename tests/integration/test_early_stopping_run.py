"""A whole search with each early-stopping method: training, checkpoints, journal, results and rung audit."""

import json
from collections import Counter
from pathlib import Path

import pytest
import tiny_search
from remembered_results import COUNTED, FOLDER

from sepsearch.reporting.rung_audit import audit_rungs
from sepsearch.runs.state import reduce_events
from sepsearch.search.journal import read_journal

SEARCH = "trials: 7, epochs: 4, stopping: {stopping}, sampler: random,"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("early") / "inputs"
    tiny_search.write_inputs(folder)
    return folder


def search(inputs: Path, folder: Path, stopping: str, monkeypatch) -> Path:
    """Run a search with an early-stopping method in `folder`; gives the run's folder."""
    text = tiny_search.SPACE.replace("trials: 3, epochs: 2,", SEARCH.format(stopping=stopping))
    (inputs / "space.yaml").write_text(text, encoding="utf-8")
    for name, place in {FOLDER: inputs.parent / "results", "SEPSEARCH_CACHE": inputs.parent / "cache"}.items():
        place.mkdir(exist_ok=True)
        monkeypatch.setenv(name, str(place))
    monkeypatch.setenv(COUNTED, str(folder / "epochs"))
    monkeypatch.chdir(folder)
    ended = tiny_search.start(inputs)
    assert ended.code == 0, ended.text
    return folder / "runs" / tiny_search.NAME


@pytest.mark.parametrize("stopping", ["asha_promotion", "pasha", "curve_model", "none"])
def test_a_search_with_each_method_ends_with_models_and_an_audit_that_agrees_with_its_results(
    stopping, inputs, tmp_path, monkeypatch
):
    folder = search(inputs, tmp_path, stopping, monkeypatch)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    events = list(read_journal(folder / "journal.jsonl"))
    kinds = Counter(event["event"] for event in events)
    state = reduce_events(events)
    assert set(results["final"]) == {"vn", "vc"}
    assert len(results["trials"]) == 7
    assert state.paused == state.running == {}
    # Every epoch was trained once: a promoted trial went on from its checkpoint.
    epochs = Counter((event["id"], event["epoch"]) for event in events if event["event"] == "epoch")
    assert set(epochs.values()) == {1}
    stopped = {trial["id"]: trial["epochs"] for trial in results["trials"] if trial["state"] == "stopped"}
    audit = audit_rungs(state.search, events)
    assert {trial: audit.stops[trial].rung for trial in stopped} == stopped
    if stopping in ("asha_promotion", "pasha"):
        assert kinds["paused"] > 0
        assert kinds["promoted"] > 0
        assert len(stopped) >= 4
    if stopping == "none":
        assert stopped == {}
    assert not list((folder / "checkpoints").glob("t*.checkpoint"))
