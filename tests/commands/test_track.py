"""`sepsearch.track`: MLflow from the journal, at any time, again and again; models that were not registered yet."""

import json
import shutil

import pytest
import torch
from documented_keys import documented_keys
from event_fixtures import histories, interrupted_story, journal, runs, steps, story, until, write_run

from sepsearch.__main__ import COMMANDS
from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import ModelCard, save_model
from sepsearch.search.journal import Journal, read_run
from sepsearch.track import main
from sepsearch.tracking import mapping
from sepsearch.tracking.tracker import Tracker, connect
from sepsearch.utils.errors import UserError

CONFIG = make_config({"filters": 2, "activation": "silu"})
UNREGISTERED = [event for event in journal(story()) if event["event"] != "registered"]


@pytest.fixture(autouse=True)
def place(empty_store, tmp_path, monkeypatch):
    """A working directory with an empty database; no figures, which take longer than all the rest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.setattr(mapping, "draw_curves", lambda *_: iter(()))
    shutil.copy(empty_store, "mlflow.db")
    return tmp_path


@pytest.fixture
def uri(place):
    return f"sqlite:///{place / 'mlflow.db'}"


def run_of(place, events):
    return write_run(place / "runs" / "duets", events)


def save(folder, code):
    torch.manual_seed(0)
    card = ModelCard(
        instrument=code,
        config=CONFIG,
        front_end=FrontEnd(),
        constant=1.0,
        search="duets",
        fingerprint="f1",
        scores={"ratio": 0.25},
        baselines={"validation": {"identity": 1.0, "gain": 0.9}},
    )
    save_model(folder / "models" / code, make_network(CONFIG).eval(), card)


def versions(uri):
    client = connect(uri)
    return sorted(
        (v.name, v.version)
        for m in client.search_registered_models()
        for v in client.search_model_versions(f"name = '{m.name}'")
    )


def test_a_run_is_brought_into_mlflow_and_it_is_said_where_to_look(place, uri, capsys):
    run_of(place, journal(story()))
    main(["duets"])
    assert set(runs(uri)) == {"duets", "t0000", "t0001", "t0002", "c0-s0", "c0-s1"}
    assert histories(uri) == {id: steps(journal(story()), id) for id in ("t0000", "t0001", "t0002", "c0-s0", "c0-s1")}
    told = capsys.readouterr()
    assert "duets: 6 runs" in told.out
    assert "-m sepsearch.ui" in told.out
    assert "sending runs: 6 of 6" in told.err


def test_a_second_time_changes_nothing(place, uri):
    folder = run_of(place, journal(interrupted_story()))
    main(["duets"])
    before, lines = (
        {name: run.to_dictionary() for name, run in runs(uri).items()},
        (folder / "journal.jsonl").read_bytes(),
    )
    main(["duets"])
    assert {name: run.to_dictionary() for name, run in runs(uri).items()} == before
    assert histories(uri) == {id: steps(journal(interrupted_story()), id) for id in ("t0000", "t0001")}
    assert (folder / "journal.jsonl").read_bytes() == lines


def test_runs_of_a_search_that_was_killed_are_not_left_running(place, uri):
    run_of(place, until(journal(story()), "epoch", "t0001"))
    main(["duets"])
    assert {name: run.info.status for name, run in runs(uri).items()} == {
        "duets": "KILLED",
        "t0000": "FINISHED",
        "t0001": "KILLED",
    }


def test_while_the_search_is_at_work_its_runs_stay_running_and_models_are_left_to_it(place, uri, capsys):
    folder = run_of(place, until(UNREGISTERED, "scores"))
    save(folder, "vn")
    at_work = Journal(folder / "journal.jsonl", resume=True)
    try:
        main(["duets"])
    finally:
        at_work.close()
    assert runs(uri)["duets"].info.status == "RUNNING"
    assert versions(uri) == []
    assert "another process is at work" in capsys.readouterr().out


def test_a_search_that_goes_on_after_it_doubles_nothing(place, uri):
    events = journal(story())
    begun = until(events, "trial_end", "t0000")
    tracker = Tracker(uri, interval=0.01, folder=place / "runs" / "duets")
    folder = run_of(place, until(events, "final_end"))
    for event in begun:
        tracker.handle(event)
    assert tracker.flush(60)
    main(["duets"])
    for event in events[len(begun) :]:
        tracker.handle(event)
    assert tracker.close(60)
    assert len(runs(uri)) == 6
    assert histories(uri)["c0-s0"] == [1]
    assert (folder / "journal.jsonl").is_file()


def test_models_that_were_not_registered_are_and_the_journal_and_the_results_say_so(place, uri, capsys):
    folder = run_of(place, UNREGISTERED)
    save(folder, "vn")
    main(["duets"])
    assert versions(uri) == [("sepsearch-vn", 1)]
    assert "models:/sepsearch-vn/1" in capsys.readouterr().out
    last = list(read_run(folder / "journal.jsonl"))[-1]
    assert (last["event"], last["models"]) == ("registered", {"vn": "models:/sepsearch-vn/1"})
    champion = {"name": "sepsearch-vn", "version": "1", "before": None, "now": "1"}
    assert last["champions"]["vn"].items() >= champion.items()
    results = json.loads((folder / "results.json").read_text())
    assert results["final"]["vn"]["model_uri"] == "models:/sepsearch-vn/1"
    assert results["champions"] == last["champions"]
    parent = runs(uri)["duets"]
    assert parent.info.status == "FINISHED"
    assert "models:/sepsearch-vn/1" in parent.data.tags["mlflow.note.content"]


def test_models_are_registered_once_however_often_it_is_called(place, uri):
    folder = run_of(place, UNREGISTERED)
    save(folder, "vn")
    main(["duets"])
    lines = (folder / "journal.jsonl").read_bytes()
    main(["duets"])
    assert versions(uri) == [("sepsearch-vn", 1)]
    assert (folder / "journal.jsonl").read_bytes() == lines


def test_an_mlflow_that_lost_everything_gets_runs_and_models_back(place, uri, empty_store):
    folder = run_of(place, UNREGISTERED)
    save(folder, "vn")
    main(["duets"])
    lines = (folder / "journal.jsonl").read_bytes()
    shutil.copy(empty_store, place / "mlflow.db")
    main(["duets"])
    assert len(runs(uri)) == 6
    assert versions(uri) == [("sepsearch-vn", 1)]
    assert (folder / "journal.jsonl").read_bytes() == lines


def test_a_damaged_model_costs_a_warning_and_exit_code_1_and_the_others_are_registered(place, uri, capsys):
    folder = run_of(place, UNREGISTERED)
    for code in ("vn", "vc"):
        save(folder, code)
    (folder / "models" / "vn" / "model.safetensors").write_bytes(b"")
    with pytest.raises(SystemExit) as left:
        main(["duets"])
    assert left.value.code == 1
    assert versions(uri) == [("sepsearch-vc", 1)]
    assert "warning: vn was not registered" in capsys.readouterr().err


def test_an_unknown_run_is_told_with_those_that_are_there(place):
    run_of(place, journal(story()))
    (place / "runs" / "no-run").mkdir()
    with pytest.raises(UserError, match=r"NAME dust: no such run in runs, expected one of: duets$"):
        main(["dust"])


@pytest.mark.parametrize("name", ["../duets", "/etc", ".", "", "a/b", "duets\n"])
def test_no_name_leaves_the_folder_of_runs(place, name):
    run_of(place, journal(story()))
    with pytest.raises(UserError, match="expected letters, digits"):
        main([name, "--runs", "runs"])


def test_a_journal_without_a_search_is_told(place):
    folder = place / "runs" / "duets"
    Journal(folder / "journal.jsonl").close()
    with pytest.raises(UserError, match="empty, expected a search that has begun"):
        main(["duets"])


def test_a_damaged_journal_is_told_and_nothing_is_sent(place, uri):
    folder = run_of(place, journal(story()))
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "journal.jsonl").write_bytes(b"".join(lines[:3] + lines[4:]))
    with pytest.raises(UserError, match="damaged line"):
        main(["duets"])
    assert connect(uri).get_experiment_by_name("sepsearch") is None


def parents(uri):
    """The parent's name of every run in MLflow that has one."""
    found = runs(uri)
    names = {run.info.run_id: name for name, run in found.items()}
    return {
        n: names.get(run.data.tags.get("mlflow.parentRunId"), "deleted") for n, run in found.items() if n != "duets"
    }


def test_a_parent_run_that_was_deleted_in_mlflow_is_made_again_and_has_all_its_children(place, uri, capsys):
    run_of(place, journal(story()))
    main(["duets"])
    connect(uri).delete_run(runs(uri)["duets"].info.run_id)
    main(["duets"])
    assert parents(uri) == dict.fromkeys(("t0000", "t0001", "t0002", "c0-s0", "c0-s1"), "duets")
    assert "duets: 6 runs are in MLflow" in capsys.readouterr().out.splitlines()[-2]


def test_a_deleted_experiment_is_an_error_and_nothing_is_said_to_be_recorded(place, uri, capsys):
    run_of(place, journal(story()))
    main(["duets"])
    capsys.readouterr()
    client = connect(uri)
    client.delete_experiment(client.get_experiment_by_name("sepsearch").experiment_id)
    with pytest.raises(UserError, match="experiment 'sepsearch' is deleted: restore it"):
        main(["duets"])
    assert capsys.readouterr().out == ""


def test_the_summary_counts_only_the_runs_that_mlflow_has(place, uri, capsys, monkeypatch):
    run_of(place, journal(story()))
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    real, made = MlflowClient.create_run, []

    def create_run(self, *arguments, **options):
        made.append(1)
        if len(made) > 2:
            raise MlflowException.invalid_parameter_value("too many runs")
        return real(self, *arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_run", create_run)
    with pytest.raises(SystemExit) as left:
        main(["duets"])
    assert left.value.code == 1
    told = capsys.readouterr()
    assert "duets: 2 of 6 runs are in MLflow" in told.out
    assert "too many runs" in told.err


@pytest.mark.parametrize(
    ("address", "expected"),
    [("sqlite:////proc/none/mlflow.db", "cannot be reached"), ("nonsense://here", "does not accept the address")],
)
def test_an_address_that_cannot_be_used_is_told_in_one_line(place, address, expected):
    run_of(place, journal(story()))
    with pytest.raises(UserError, match=expected) as caught:
        main(["duets", "--uri", address])
    assert "\n" not in str(caught.value)


def test_track_is_one_of_the_commands():
    assert "track" in COMMANDS


def test_json_has_what_is_in_mlflow_and_nothing_else_is_printed(place, uri, capsys):
    folder = run_of(place, UNREGISTERED)
    save(folder, "vn")
    main(["duets", "--json"])
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert (found["runs"], found["recorded"], found["problems"]) == (6, 6, [])
    assert found["registered"] == {"vn": "models:/sepsearch-vn/1"}
    assert found["not_registered"] is None
    assert found.keys() <= documented_keys("track")
    assert "sending runs" in output.err


def test_quiet_prints_the_summary_alone(place, capsys):
    run_of(place, journal(story()))
    main(["duets", "--quiet"])
    output = capsys.readouterr()
    assert output.err == ""
    (line,) = output.out.splitlines()
    assert line.startswith("duets: 6 runs are in MLflow")
