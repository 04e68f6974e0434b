"""The end of a search in MLflow: finalists, a run per instrument with pictures and audio, and views to choose from."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from chosen_story import chosen_story
from event_fixtures import epoch_event, journal, members, runs, story, until
from mlflow_store import replay, rows

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.evaluation.audio_samples import CandidateEstimate, read_sample, write_sample
from sepsearch.models.families import make_config, make_network
from sepsearch.tracking import mapping, tracker
from sepsearch.tracking.mapping import Projection

VIOLIN, CELLO = "violin · c0-s1", "cello · c0-s0"


@pytest.fixture
def uri(empty_store, tmp_path, monkeypatch):
    """An empty database; no curves, which take longer than all the rest."""
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.setattr(mapping, "draw_curves", lambda *_: iter(()))
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def chosen(uri, run_folder):
    assert replay(uri, journal(chosen_story()), folder=run_folder) == (True, [])
    return runs(uri)


@pytest.fixture
def run_folder(tmp_path):
    """A run's folder with a report page and something to listen to of one instrument."""
    folder = tmp_path / "run"
    tone = np.sin(np.arange(48000) * 0.05).astype(np.float32)
    facts = {
        "instrument": "vn",
        "piece": "a",
        "title": "a",
        "clip": 0,
        "players": ["vn", "vc"],
        "begin_seconds": 0.0,
        "mixture_si_sdr_db": 0.0,
        "si_sdr_db": 3.0,
        "oracle_si_sdr_db": None,
    }
    write_sample(
        folder / "samples" / "vn",
        network=make_network(make_config({"filters": 2})),
        front_end=FrontEnd(clip_seconds=1.0),
        constant=5.0,
        mixture=tone,
        target=tone / 2,
        estimate=tone / 3,
        facts=facts,
    )
    (folder / "report.html").write_text("<p>a page</p>")
    return folder


def test_every_instrument_has_a_run_with_its_final_model_and_columns_to_sort_by(uri, chosen):
    assert set(chosen) == {"duets", "t0000", "t0001", "t0002", "c0-s0", "c0-s1", VIOLIN, CELLO}
    run = chosen[VIOLIN]
    assert run.data.tags["mlflow.parentRunId"] == chosen["duets"].info.run_id
    assert (run.info.status, run.data.params["filters"]) == ("FINISHED", "16")
    tags = {key: run.data.tags.get(key) for key in ("stage", "instrument", "unit", "protocol", "model", "reference")}
    assert tags == {
        "stage": "finalist",
        "instrument": "vn",
        "unit": "c0-s1",
        "protocol": "test titles",
        "model": "models:/sepsearch-vn/1",
        "reference": "true",
    }
    assert run.data.metrics == {
        "ratio": 0.25,
        "ratio_mean": 0.25,
        "ratio_sd": 0.01,
        "ratio_low": 0.2,
        "ratio_high": 0.3,
        "test_ratio": 0.35,
        "val_loss": 0.25,
        "identity_loss": 1.0,
        "si_sdr_gain_db": 6.0,
        "sdr_gain_db": 5.0,
        "oracle_si_sdr_gain_db": 12.0,
        "seeds": 2,
        "epoch": 1,
        "reference_ratio": 0.5,
        "test_titles": 3,
    }
    assert "one title only" in chosen[CELLO].data.tags["mlflow.note.content"]


def test_scores_with_the_players_named_are_metrics_of_their_own(uri, run_folder):
    events = journal(chosen_story())
    (scores,) = (event for event in events if event["event"] == "scores")
    named = {"named_test_ratio": 0.125, "named_si_sdr_gain_db": 9.0}
    scores["final"]["vn"] |= named
    scores["final"]["vc"] |= dict.fromkeys(named)
    assert replay(uri, events, folder=run_folder) == (True, [])
    found = runs(uri)
    assert found[VIOLIN].data.metrics.items() >= {**named, "test_ratio": 0.35, "si_sdr_gain_db": 6.0}.items()
    for name in ("duets", "c0-s1"):
        assert {key: found[name].data.metrics[f"{key}/vn"] for key in named} == named
    assert not named.keys() & found[CELLO].data.metrics.keys()
    assert "with the players named (`--players`): test ratio | 0.125" in found[VIOLIN].data.tags["mlflow.note.content"]
    assert "players named" not in found[CELLO].data.tags["mlflow.note.content"]


@pytest.mark.parametrize(
    ("search", "names"),
    [
        ("tags.stage = 'finalist' and tags.instrument = 'vn'", {VIOLIN}),
        ("tags.stage = 'finalist' and tags.instrument = 'all'", {"c0-s0", "c0-s1"}),
        ("tags.stage = 'finalist' and tags.`chosen.vn` = 'true'", {"c0-s1"}),
        ("tags.stage = 'trial' and tags.state = 'completed'", {"t0000"}),
        ("tags.stage = 'search'", {"duets"}),
    ],
)
def test_filters_find_what_a_person_looks_for(uri, chosen, search, names):
    found = tracker.connect(uri).search_runs([chosen["duets"].info.experiment_id], search)
    assert {run.info.run_name for run in found} == names


def test_a_finalist_has_the_ratios_of_the_weights_it_keeps_what_it_was_chosen_for_and_how_to_choose_it(chosen):
    run = chosen["c0-s1"].data
    assert (run.metrics["final_ratio/vn"], run.metrics["final_ratio_mean"], run.metrics["test_ratio/vn"]) == (
        0.5,
        0.5,
        0.35,
    )
    assert (run.tags["chosen"], run.tags["eliminated"]) == ("violin", "behind on every instrument")
    assert "test_ratio/vc" not in run.metrics
    assert "sepsearch.promote duets/c0-s1 --instrument vn" in run.tags["mlflow.note.content"]


def test_the_kept_ratio_is_that_of_the_best_epoch_not_of_the_last():
    told = Projection()
    worse = [{**member, "val_loss": 2.0, "ratio": 2.0} for member in members(2)]
    events = [
        *until(journal(story()), "final", "c0-s0"),
        *journal(
            [
                epoch_event("final_epoch", "c0-s0", 1),
                epoch_event("final_epoch", "c0-s0", 2, worse),
                ("final_end", {"id": "c0-s0", "state": "completed", "reason": "", "epochs": 2, "weights": "w"}),
            ]
        ),
    ]
    for event in events:
        told.apply(event)
    kept = {key: value for key, value, _, _ in told.work["c0-s0"].metrics if key.startswith("final_ratio")}
    assert kept == {"final_ratio/vn": 0.5, "final_ratio/vc": 0.5, "final_ratio_mean": 0.5}


def test_pictures_and_audio_are_on_the_instruments_run_and_the_page_on_the_searchs(uri, chosen):
    client = tracker.connect(uri)
    paths = {f.path for folder in ("", "audio") for f in client.list_artifacts(chosen[VIOLIN].info.run_id, folder)}
    assert paths == {"spectrograms.png", "audio", *(f"audio/{name}.mp3" for name in ("mixture", "target", "estimate"))}
    assert not client.list_artifacts(chosen[CELLO].info.run_id)
    assert "report.html" in {f.path for f in client.list_artifacts(chosen["duets"].info.run_id)}


def test_a_damaged_sample_costs_a_warning_and_nothing_else(uri, run_folder):
    (run_folder / "samples" / "vn" / "sample.json").write_text("{")
    arrived, warnings = replay(uri, journal(chosen_story()), folder=run_folder)
    assert not arrived
    assert len(warnings) == 1
    assert "sample.json" in warnings[0]
    assert runs(uri)[VIOLIN].info.status == "FINISHED"


def test_a_second_replay_of_final_models_doubles_nothing(uri, chosen, run_folder):
    before = rows(uri)
    assert replay(uri, journal(chosen_story()), folder=run_folder) == (True, [])
    assert rows(uri) == before


def test_an_older_journal_tells_the_chosen_seed_by_its_loss():
    told = Projection()
    for event in journal(story()):
        if event["event"] == "scores":
            event["final"]["vn"]["val_loss"] = 0.5
        told.apply(event)
    assert told.work["c0-s0"].tags["chosen"] == "violin"


def test_a_new_experiment_has_views_that_show_what_they_say_in_their_order(uri, chosen):
    tags = tracker.connect(uri).get_experiment_by_name("sepsearch").tags
    views = [json.loads(text) for key, text in tags.items() if key.startswith("mlflow.sharedViewState.")]
    shown = {}
    for view in views:
        state = json.loads(view["state"])
        order = [f"{state['orderByKey']} ASC"]
        found = tracker.connect(uri).search_runs(
            [chosen["duets"].info.experiment_id], state["searchFilter"], order_by=order
        )
        if not found:  # an instrument that this search has not
            continue
        shown[view["name"]] = {run.info.run_name for run in found}
        assert state["orderByKey"].split("`")[1] in found[0].data.metrics
    assert shown == {
        "Searches": {"duets"},
        "Trials with the full budget": {"t0000"},
        "Finalists and seeds": {"c0-s0", "c0-s1"},
        "Final models": {VIOLIN, CELLO},
        "Violin": {VIOLIN},
        "Cello": {CELLO},
    }


@pytest.fixture
def with_candidate(uri, run_folder):
    """A search in which the other seed is a candidate for the violin, with its own estimate of the clip."""
    tone = np.sin(np.arange(48000) * 0.05).astype(np.float32)
    network = make_network(make_config({"filters": 2}))
    sample = read_sample(run_folder / "samples" / "vn")
    write_sample(
        run_folder / "samples" / "vn",
        network=network,
        front_end=sample.front_end,
        constant=5.0,
        mixture=tone,
        target=tone / 2,
        estimate=tone / 3,
        facts=sample.facts,
        chosen="c0-s1",
        candidates=[CandidateEstimate("c0-s0", network, tone / 4, 2.0)],
    )
    events = journal(chosen_story())
    (scores,) = (event for event in events if event["event"] == "scores")
    row = scores["final"]["vn"]
    other = {**row, "seed": 0, "ratio": 0.312345, "test_ratio": 0.45}
    scores["candidates"] = {"vn": {"c0-s1": row, "c0-s0": other}}
    assert replay(uri, events, folder=run_folder) == (True, [])
    return events, runs(uri)


def test_a_candidate_that_was_not_chosen_has_a_run_with_four_digits_and_its_own_audio(uri, with_candidate, run_folder):
    _, found = with_candidate
    run = found["violin · c0-s0"]
    assert (run.data.tags["stage"], run.data.tags["chosen"], run.data.tags["instrument"]) == ("candidate", "no", "vn")
    assert run.data.metrics.items() >= {"ratio": 0.3123, "test_ratio": 0.45}.items()
    assert "sepsearch.promote duets/c0-s0 --instrument vn" in run.data.tags["mlflow.note.content"]
    client = tracker.connect(uri)
    heard = {}
    for name in (VIOLIN, "violin · c0-s0"):
        path = client.download_artifacts(found[name].info.run_id, "audio/estimate.mp3")
        heard[name] = Path(path).read_bytes()
        assert "spectrograms.png" in {f.path for f in client.list_artifacts(found[name].info.run_id)}
    assert heard["violin · c0-s0"] == (run_folder / "samples" / "vn" / "estimate-c0-s0.mp3").read_bytes()
    assert heard[VIOLIN] != heard["violin · c0-s0"]


def test_all_candidates_of_an_instrument_are_in_its_view_the_best_ratio_first(uri, with_candidate):
    tags = tracker.connect(uri).get_experiment_by_name("sepsearch").tags
    state = json.loads(json.loads(tags["mlflow.sharedViewState.sepsearch-vn"])["state"])
    experiment = with_candidate[1]["duets"].info.experiment_id
    order = [f"{state['orderByKey']} ASC"]
    found = tracker.connect(uri).search_runs([experiment], state["searchFilter"], order_by=order)
    assert [run.info.run_name for run in found] == [VIOLIN, "violin · c0-s0"]


def test_a_models_run_lasts_as_long_as_the_training_of_its_weights(with_candidate):
    events, found = with_candidate
    (begin,) = (event["time"] for event in events if event["event"] == "final" and event["id"] == "c0-s1")
    (end,) = (event["time"] for event in events if event["event"] == "final_end" and event["id"] == "c0-s1")
    info = found[VIOLIN].info
    assert (info.start_time, info.end_time) == (int(begin * 1000), int(end * 1000))


def test_views_of_an_earlier_version_are_renewed(uri, chosen, run_folder):
    client = tracker.connect(uri)
    experiment, key = chosen["duets"].info.experiment_id, "mlflow.sharedViewState.sepsearch-models"
    new = client.get_experiment(experiment).tags[key]
    client.set_experiment_tag(experiment, key, "old")
    assert replay(uri, journal(chosen_story()), folder=run_folder) == (True, [])
    assert client.get_experiment(experiment).tags[key] == new
