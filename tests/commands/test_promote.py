"""`sepsearch.promote`: a run that a person picked becomes champion, is checked before, and stays champion."""

import json
import shutil

import pytest
import safetensors.torch
import torch
from documented_keys import documented_keys
from event_fixtures import PARAMS, journal, story, write_run

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import ModelCard, load_model, save_model
from sepsearch.promote import main
from sepsearch.tracking import mapping
from sepsearch.tracking.descriptions import champion_line
from sepsearch.tracking.registry import register_model, resolve_model
from sepsearch.tracking.tracker import Tracker, connect
from sepsearch.utils.errors import UserError


def network(seed):
    torch.manual_seed(seed)
    return make_network(make_config(PARAMS)).eval()


def final_story(name="duets", run="abc123"):
    """Two seeds that finished, one that failed; the search chose the second seed for the violin."""
    for kind, fields in story():
        if kind == "search":
            yield kind, {**fields, "name": name, "run": run}
        elif kind == "scores":
            yield "final", {"id": "c0-s2", "configuration": "c0", "seed": 2, "params": PARAMS}
            yield (
                "final_end",
                {"id": "c0-s2", "state": "failed", "reason": "NaN in epoch 1", "epochs": 0, "weights": None},
            )
            yield kind, {**fields, "final": {"vn": {**fields["final"]["vn"], "configuration": "c0", "seed": 1}}}
        elif kind != "registered":
            yield kind, fields


def write_search(folder, name="duets", run="abc123"):
    """A run's folder with weights of the finalists and the chosen model."""
    events = journal(final_story(name, run))
    write_run(folder / name, events)
    for seed in (0, 1):
        path = folder / name / "finalists" / f"c0-s{seed}"
        path.mkdir(parents=True)
        safetensors.torch.save_file(network(seed).state_dict(), path / "vn.safetensors")
        safetensors.torch.save_file(network(seed).state_dict(), path / "vc.safetensors")
    card = ModelCard(
        "vn",
        make_config(PARAMS),
        FrontEnd(),
        3.5,
        scores={"ratio": 0.25, "test_ratio": 0.35},
        fingerprint="f1",
        seeds=(0, 1),
        seed=1,
        search=name,
        baselines={"validation": {"identity": 1.0, "gain": 0.9}},
    )
    save_model(folder / name / "models" / "vn", network(1), card)
    return events


def track(events, uri):
    tracker = Tracker(uri, interval=0.01)
    for event in events:
        tracker.handle(event)
    run_id = tracker.run_id()
    assert tracker.close(60)
    return run_id


@pytest.fixture(scope="session")
def finished(empty_store, tmp_path_factory):
    """A finished search in a folder and in MLflow, its violin model registered."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(empty_store, folder)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapping, "draw_curves", lambda *_: iter(()))
        patch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
        run_id = track(write_search(folder / "runs"), uri)
    register_model(folder / "runs" / "duets" / "models" / "vn", run_id, uri)
    return folder


@pytest.fixture
def client(finished, tmp_path, monkeypatch):
    """A working directory of its own with that search, and its MLflow."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    shutil.copy(finished / "mlflow.db", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(mapping, "draw_curves", lambda *_: iter(()))
    return connect(f"sqlite:///{tmp_path / 'mlflow.db'}")


def champion(client):
    return str(client.get_model_version_by_alias("sepsearch-vn", "champion").version)


def versions(client):
    return len(client.search_model_versions("name = 'sepsearch-vn'"))


def run_of(client, name):
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return next(run for run in client.search_runs(ids) if run.info.run_name == name)


def promote(*arguments):
    main([*arguments, "--instrument", "vn"])


def test_a_finalist_that_was_not_chosen_becomes_champion_and_it_is_said_what_changed_and_how_to_go_back(client, capsys):
    promote("duets/c0-s0")
    assert (champion(client), versions(client)) == ("2", 2)
    said = capsys.readouterr().out
    assert "version 1 → version 2" in said
    assert "before: ratio 0.250, test ratio 0.350; search duets, seed 1" in said
    assert "now:    ratio 0.500 (mean of its seeds 0.500 ± 0.000), test ratio not measured; search duets" in said
    assert "to go back: python -m sepsearch.promote models:/sepsearch-vn/1 --instrument vn" in said
    loaded, card = load_model(resolve_model("models:/sepsearch-vn@champion"))
    torch.testing.assert_close(loaded.state_dict(), network(0).state_dict())
    assert (card.seed, card.seeds, card.constant, card.fingerprint) == (0, (0, 1), 3.5, "f1")


def test_the_card_of_a_model_that_a_person_picked_says_that_it_has_no_test_scores(client):
    promote("duets/c0-s0")
    version = client.get_model_version_by_alias("sepsearch-vn", "champion")
    assert "this card has no test scores" in version.description
    assert "chosen on validation titles" not in version.description
    assert "test_ratio" not in version.tags
    assert version.run_id == run_of(client, "c0-s0").info.run_id


def test_promoting_the_champion_changes_nothing_and_says_so(client, capsys):
    promote("duets/c0-s0")
    capsys.readouterr()
    promote("duets/c0-s0")
    assert "version 2 is the champion already" in capsys.readouterr().out
    assert (champion(client), versions(client)) == ("2", 2)


@pytest.mark.parametrize("name", ["duets", "duets/vn", "duets/c0-s1", "c0-s1", "models:/sepsearch-vn/1"])
def test_going_back_to_what_the_search_chose_makes_no_new_version(client, name):
    promote("duets/c0-s0")
    promote(name)
    assert (champion(client), versions(client)) == ("1", 2)


def test_a_run_is_found_by_its_id_and_by_the_beginning_of_it(client):
    id = run_of(client, "c0-s0").info.run_id
    promote(id)
    assert champion(client) == "2"
    promote(run_of(client, "violin · c0-s1").info.run_id)
    assert champion(client) == "1"
    promote(id[:12])
    assert champion(client) == "2"


def test_an_older_or_a_newer_search_leaves_a_persons_choice_alone_and_says_how_to_change_it(client, tmp_path):
    promote("duets/c0-s0")
    run_id = run_of(client, "duets").info.run_id
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    register_model(tmp_path / "runs" / "duets" / "models" / "vn", run_id, uri)
    assert champion(client) == "2"
    card = load_model(tmp_path / "runs" / "duets" / "models" / "vn")[1]
    save_model(tmp_path / "new", network(5), card)
    outcome = register_model(tmp_path / "new", run_id, uri)
    assert champion(client) == "2"
    line = champion_line("vn", outcome.facts())
    assert line.startswith("violin: version 2 stays champion; version 3: a person picked version 2")
    assert line.endswith("-m sepsearch.promote models:/sepsearch-vn/3 --instrument vn")


def test_two_searches_with_a_unit_of_one_name_are_told_apart(client, tmp_path):
    track(write_search(tmp_path / "runs", "trios", "def456"), f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(UserError, match="several searches have one, expected one of: duets/c0-s0, trios/c0-s0"):
        promote("c0-s0")
    promote("trios/c0-s0")
    assert client.get_model_version_by_alias("sepsearch-vn", "champion").tags["search"] == "trios"


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("nothing-like-it", "no such run, expected models:/sepsearch-vn/3"),
        ("quartets/c0-s0", "no such run in runs, expected one of: duets"),
        ("duets/c7-s0", "no such run, expected one of: duets/c0-s0, duets/c0-s1"),
        ("c7-s0", "no such run in runs"),
        ("t0001", "a trial of the search, which keeps no weights; finalists have them: duets/c0-s0, duets/c0-s1"),
        ("duets/c0-s2", r"has no weights \(NaN in epoch 1\), expected one that has: duets/c0-s0"),
        ("duets/vc", "a model of vc, expected one of vn"),
        ("fffffffff", "no run in MLflow has an id that begins so"),
        ("models:/sepsearch-vn/9", "no such version, expected one of: 1"),
        ("models:/sepsearch-vn@best", "no such alias, expected one of: champion"),
        ("../duets/c0-s0", "expected letters, digits"),
    ],
)
def test_a_run_that_cannot_be_champion_is_one_line_and_changes_nothing(client, run, expected):
    with pytest.raises(UserError, match=expected) as caught:
        promote(run)
    assert "\n" not in str(caught.value)
    assert (champion(client), versions(client)) == ("1", 1)


@pytest.mark.parametrize(
    ("code", "expected"), [("kazoo", "unknown, expected one of vn"), ("tba", "not trained for tba")]
)
def test_an_instrument_that_is_none_or_was_not_trained_is_told_with_those_there_are(client, code, expected):
    with pytest.raises(UserError, match=expected):
        main(["duets/c0-s0", "--instrument", code])


def test_a_beginning_that_several_ids_have_is_told_with_them(client, monkeypatch):
    real = type(client).search_runs
    monkeypatch.setattr(
        type(client), "search_runs", lambda self, ids, search="", **more: real(self, ids, max_results=2)
    )
    with pytest.raises(UserError, match=r"several runs begin so, expected one of: \w{32} \("):
        promote("abcd")


def test_a_folder_of_another_search_with_the_same_name_is_refused(client, tmp_path):
    id = run_of(client, "c0-s0").info.run_id
    shutil.rmtree(tmp_path / "runs")
    write_search(tmp_path / "runs", "duets", "another")
    with pytest.raises(UserError, match="another search of the same name"):
        promote(id)


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda path: path.unlink(), "the weights are missing"),
        (lambda path: path.write_bytes(b"none"), "the weights are damaged"),
        (
            lambda path: safetensors.torch.save_file({"a": torch.zeros(2)}, path),
            "weights misfit the configuration of c0",
        ),
    ],
)
def test_weights_that_are_missing_or_damaged_are_refused(client, tmp_path, harm, expected):
    harm(tmp_path / "runs" / "duets" / "finalists" / "c0-s0" / "vn.safetensors")
    with pytest.raises(UserError, match=expected):
        promote("duets/c0-s0")
    assert (champion(client), versions(client)) == ("1", 1)


def test_weights_that_are_not_finite_are_refused(client, tmp_path):
    weights = network(0).state_dict()
    weights["regenerator.bias"].fill_(float("nan"))
    safetensors.torch.save_file(weights, tmp_path / "runs" / "duets" / "finalists" / "c0-s0" / "vn.safetensors")
    with pytest.raises(UserError, match="not finite"):
        promote("duets/c0-s0")
    assert versions(client) == 1


def test_a_run_that_mlflow_does_not_have_is_to_be_tracked_first(client, tmp_path):
    write_search(tmp_path / "runs", "trios", "def456")
    with pytest.raises(UserError, match=r"bring it there first: python -m sepsearch\.track trios"):
        promote("trios/c0-s0")


def test_no_database_is_told_and_none_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="no MLflow database"):
        promote("duets")
    assert not list(tmp_path.iterdir())


def test_json_has_the_versions_before_and_now(client, capsys):
    promote("duets/c0-s0", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["changed"]) == ("sepsearch-vn", True)
    assert (found["before"]["version"], found["now"]["version"]) == ("1", "2")
    assert found["now"]["tags"]["search"] == "duets"
    assert found.keys() | found["now"].keys() <= documented_keys("promote")


def test_quiet_prints_what_has_become_champion_alone(client, capsys):
    promote("duets/c0-s0", "--quiet")
    assert capsys.readouterr().out == "sepsearch-vn@champion: version 1 → version 2\n"
