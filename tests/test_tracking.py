"""The journal's projection into MLflow: shape, numbers, states, replays, and a server that is away."""

import copy
import math
import shutil
import sqlite3
import threading

import pytest

from sepsearch import projection, tracking
from sepsearch.curves import draw_curves
from sepsearch.tracking import Tracker, tracking_uri, ui_command

CODES = ("vn", "vc")
PARAMS = {"family": "report", "filters": 16, "learning_rate": 0.001}


def members(epoch, seed=0, **changes):
    return [
        {
            "instrument": code, "seed": seed, "train_loss": 0.4 / epoch, "val_loss": 0.5 / epoch, "identity_loss": 1.0,
            "ratio": 0.5 / epoch, "gradient_norm": 1.5, "zero_share": 0.25, "discontinuity": False, **changes,
        }
        for code in CODES
    ]  # fmt: skip


def scores(ratio):
    keys = {"ratio_mean": ratio, "ratio_sd": 0.01, "test_ratio": ratio + 0.1, "si_sdr_gain_db": 6.0}
    return {code: {"ratio": ratio, "identity_loss": 1.0, **keys} for code in CODES}


def story():
    """A search with three trials (the report's, a stopped one, a failed one) and one finalist with two seeds."""
    losses = {"identity": {"vn": 1.0, "vc": 1.0}}
    yield "search", {
        "name": "duets", "run": "abc123", "space": {"filters": [8, 16]},
        "settings": {"trials": 3, "epochs": 2, "retrain": {"seeds": 2}}, "versions": {"torch": "2.13"},
        "dataset": {"source": "demo", "pieces": 4, "clips": 9, "rows": 27, "fingerprint": "f1", "split": {"train": []}},
        "baselines": {"validation": losses}, "caveats": {"vc": "one title only"}, "reference": "t0000",
    }  # fmt: skip
    for id, epochs, state, reason in (
        ("t0000", 2, "completed", ""),
        ("t0001", 1, "stopped", "rung 1"),
        ("t0002", 1, "failed", "NaN: the training loss of vn is nan in epoch 2"),
    ):
        yield "trial", {"id": id, "params": PARAMS}
        for epoch in range(1, epochs + 1):
            yield epoch_event("epoch", id, epoch)
        yield "trial_end", {"id": id, "state": state, "reason": reason, "epochs": epochs}
    yield "finalists", {"configurations": [{"id": "c0", "trial": "t0000", "params": PARAMS, "reference": True}]}
    for seed in (0, 1):
        id = f"c0-s{seed}"
        yield "final", {"id": id, "configuration": "c0", "seed": seed, "params": PARAMS}
        yield epoch_event("final_epoch", id, 1, members(1, seed))
        yield "final_end", {"id": id, "state": "completed", "reason": "", "epochs": 1, "weights": f"models/{id}"}
    yield "scores", {"final": scores(0.25), "reference_final": scores(0.5)}
    yield "registered", {"models": {"vn": "models:/sepsearch-vn/1"}}
    yield "end", {"state": "finished", "seconds": {"prepare": 1.0, "search": 2.0, "retrain": 3.0}}


def epoch_event(kind, id, epoch, of=None):
    of = members(epoch) if of is None else of
    return kind, {
        "id": id, "epoch": epoch, "ratio": of[0]["ratio"], "seconds": 1.0, "examples_per_second": 10.0, "members": of,
    }  # fmt: skip


def journal(story):
    return [{"event": kind, "time": 1000.0 + i, **fields} for i, (kind, fields) in enumerate(story)]


def until(events, kind, id=None):
    """The events up to the first of a kind, that one included."""
    last = next(i for i, e in enumerate(events) if e["event"] == kind and id in (None, e.get("id")))
    return events[: last + 1]


@pytest.fixture
def uri(empty_store, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def replay(uri, events, **options):
    """Send events through a new tracker; returns whether all arrived, and the warnings."""
    warnings = []
    tracker = Tracker(uri, interval=0.05, on_warning=warnings.append, **options)
    for event in events:
        tracker.handle(event)
    return tracker.close(60), warnings


def runs(uri):
    """MLflow's runs by name."""
    client = tracking._connect(uri)
    experiment = client.get_experiment_by_name("sepsearch")
    found = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def rows(uri):
    """Everything that is stored of runs and metrics, to compare."""
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        tables = {name: f"select * from {name}" for name in ("metrics", "params", "runs", "tags", "latest_metrics")}
        return {name: sorted(map(str, database.execute(query))) for name, query in tables.items()}


def sizes(uri):
    """How many rows each table has."""
    return {name: len(lines) for name, lines in rows(uri).items()}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No figures: they take longer than all the rest."""
    monkeypatch.setattr(projection, "draw_curves", lambda *_: iter(()))


@pytest.fixture(scope="session")
def told_store(empty_store, tmp_path_factory):
    """The whole story in MLflow, with figures."""
    folder = tmp_path_factory.mktemp("told")
    shutil.copy(empty_store, folder)
    assert replay(f"sqlite:///{folder / 'mlflow.db'}", journal(story())) == (True, [])
    return folder / "mlflow.db"


@pytest.fixture
def told(told_store, uri):
    """The whole story in MLflow at `uri`; its runs by name."""
    shutil.copy(told_store, uri.removeprefix("sqlite:///"))
    return runs(uri)


def test_a_search_is_a_parent_with_a_child_per_trial_and_per_finalist_and_seed(told):
    parent = told.pop("duets")
    assert set(told) == {"t0000", "t0001", "t0002", "c0-s0", "c0-s1"}
    assert {run.data.tags["mlflow.parentRunId"] for run in told.values()} == {parent.info.run_id}
    assert {run.data.tags["stage"] for run in told.values()} == {"trial", "finalist"}
    assert {name for name, run in told.items() if run.data.tags.get("reference")} == {"t0000", "c0-s0", "c0-s1"}


def test_a_childs_parameters_are_its_configuration_and_the_parents_the_settings(told):
    assert told["t0000"].data.params == {"family": "report", "filters": "16", "learning_rate": "0.001"}
    assert told["duets"].data.params["retrain/seeds"] == "2"
    assert told["duets"].data.params["dataset/clips"] == "9"


def test_metrics_have_the_epoch_as_step_and_the_events_time(uri, told):
    history = tracking._connect(uri).get_metric_history(told["t0000"].info.run_id, "val_loss/vn")
    assert [(m.step, m.value, m.timestamp) for m in history] == [(1, 0.5, 1_002_000), (2, 0.25, 1_003_000)]


def test_best_ratio_counts_only_trials_that_reached_the_full_budget(uri):
    events = journal(story())
    stopped = next(e for e in events if e["event"] == "epoch" and e["id"] == "t0001")
    stopped["ratio"] = 0.01
    replay(uri, events)
    assert runs(uri)["duets"].data.metrics["best_ratio"] == 0.25


def test_the_parent_has_counts_scores_caveats_space_and_curves(uri, told):
    parent = told["duets"]
    metrics = parent.data.metrics
    assert [metrics[f"trials_{state}"] for state in ("completed", "stopped", "failed")] == [1, 1, 1]
    assert (metrics["final_ratio/vn"], metrics["reference_ratio/vn"], metrics["test_ratio/vn"]) == (0.25, 0.5, 0.35)
    assert "one title only" in parent.data.tags["mlflow.note.content"]
    client = tracking._connect(uri)
    assert {f.path for f in client.list_artifacts(parent.info.run_id)} == {"curves", "dataset.yaml", "space.yaml"}
    curves = {f.path for f in client.list_artifacts(parent.info.run_id, "curves")}
    assert curves == {"curves/all.png", "curves/vn.png", "curves/vc.png"}


def test_a_run_begins_and_ends_with_its_events(told):
    info = told["t0001"].info
    assert (info.start_time, info.end_time) == (1_005_000, 1_007_000)


def test_a_stopped_trial_is_finished_and_a_failed_one_failed_and_both_say_why(told):
    stopped, failed = told["t0001"], told["t0002"]
    assert (stopped.info.status, stopped.data.tags["state"], stopped.data.tags["reason"]) == (
        "FINISHED", "stopped", "rung 1",
    )  # fmt: skip
    assert (failed.info.status, failed.data.tags["state"]) == ("FAILED", "failed")
    assert failed.data.tags["reason"].startswith("NaN: the training loss of vn")


def test_numbers_that_are_missing_or_not_finite_are_left_out(uri):
    events = until(journal(story()), "trial")
    bad = members(1, val_loss=math.nan, ratio=None, train_loss=math.inf)
    replay(uri, [*events, {"time": 1002.0, "event": "epoch", **epoch_event("epoch", "t0000", 1, bad)[1]}])
    metrics = runs(uri)["t0000"].data.metrics
    assert {key.partition("/")[0] for key in metrics} == {
        "examples_per_second", "discontinuities", "identity_loss", "gradient_norm", "zero_share",
    }  # fmt: skip


def test_discontinuities_are_counted(uri):
    events = until(journal(story()), "trial")
    jumps = [epoch_event("epoch", "t0000", n, members(n, discontinuity=True))[1] for n in (1, 2)]
    replay(uri, [*events, *({"event": "epoch", "time": 1002.0 + n, **jump} for n, jump in enumerate(jumps))])
    assert runs(uri)["t0000"].data.metrics["discontinuities"] == 4


def test_an_interrupted_search_and_its_open_trials_are_killed(uri):
    events = until(journal(story()), "epoch", "t0001")
    replay(uri, [*events, {"event": "end", "time": 2000.0, "state": "interrupted", "seconds": {}}])
    found = runs(uri)
    assert {name: run.info.status for name, run in found.items()} == {
        "duets": "KILLED", "t0000": "FINISHED", "t0001": "KILLED",
    }  # fmt: skip
    assert found["t0001"].data.tags["state"] == "interrupted"


def test_a_resumed_search_goes_on_in_the_same_runs(uri):
    events = journal(story())
    before = until(events, "trial", "t0001")
    replay(uri, [*before, {"event": "end", "time": 1005.5, "state": "interrupted", "seconds": {}}])
    ids = {name: run.info.run_id for name, run in runs(uri).items()}
    assert replay(uri, [*before, *events[len(before) - 1 :]]) == (True, [])
    found = runs(uri)
    assert len(found) == 6
    assert {name: found[name].info.run_id for name in ids} == ids
    assert (found["duets"].info.status, found["t0001"].data.tags["state"]) == ("FINISHED", "stopped")


def test_replaying_a_journal_doubles_nothing(uri, told):
    before = rows(uri)
    assert replay(uri, journal(story())) == (True, [])
    assert rows(uri) == before


def test_a_journal_whose_end_was_lost_is_completed_by_a_replay(uri, told_store):
    events = journal(story())
    replay(uri, until(events, "epoch", "t0001"))
    replay(uri, events)
    assert sizes(uri) == sizes(f"sqlite:///{told_store}")


class Flaky:
    """A client whose calls fail while `away` is set."""

    def __init__(self, client, away):
        self._client, self._away = client, away

    def __getattr__(self, name):
        def call(*arguments, **options):
            if self._away.is_set():
                raise ConnectionError("connection refused\nand a long trace")
            return getattr(self._client, name)(*arguments, **options)

        return call


def test_a_server_that_is_away_is_told_once_and_gets_everything_once_when_it_is_back(uri, told_store):
    away, warned, warnings = threading.Event(), threading.Event(), []

    def warn(text):
        warnings.append(text)
        warned.set()

    tracker = Tracker(uri, interval=0.01, on_warning=warn, connect=lambda uri: Flaky(tracking._connect(uri), away))
    events = journal(story())
    for event in events[:4]:
        tracker.handle(event)
    assert tracker.flush(60)
    away.set()
    for event in events[4:]:
        tracker.handle(event)
    assert warned.wait(60)
    assert not tracker.flush(0.1)
    away.clear()
    assert tracker.close(60)
    assert len(warnings) == 1
    assert "connection refused" in warnings[0]
    assert "\n" not in warnings[0]
    assert sizes(uri) == sizes(f"sqlite:///{told_store}")


def test_close_gives_up_in_time_and_says_that_something_is_missing(uri):
    def refuse(uri):
        raise ConnectionError("no route to host")

    warnings = []
    tracker = Tracker(uri, interval=0.01, on_warning=warnings.append, connect=refuse)
    tracker.handle(journal(story())[0])
    assert tracker.close(0.3) is False
    assert len(warnings) == 1


def test_a_run_made_by_a_call_whose_answer_was_lost_is_not_made_again(uri):
    class Lossy:
        failed = False

        def __init__(self, client):
            self._client = client

        def __getattr__(self, name):
            return getattr(self._client, name)

        def create_run(self, *arguments, **options):
            run = self._client.create_run(*arguments, **options)
            if not Lossy.failed:
                Lossy.failed = True
                raise ConnectionError("reset by peer")
            return run

    arrived, _ = replay(uri, journal(story()), connect=lambda uri: Lossy(tracking._connect(uri)))
    assert arrived
    assert Lossy.failed
    assert len(runs(uri)) == 6


def test_what_mlflow_refuses_is_dropped_with_one_warning_and_the_rest_arrives(uri):
    events = journal(story())
    next(e for e in events if e.get("id") == "t0001")["params"] = {"a key * MLflow refuses": 1, "another *": 2}
    arrived, warnings = replay(uri, events)
    assert not arrived
    assert len(warnings) == 1
    assert "t0001" in warnings[0]
    assert runs(uri)["c0-s1"].info.status == "FINISHED"


def test_a_damaged_event_is_told_and_the_rest_arrives(uri):
    events = journal(story())
    arrived, warnings = replay(uri, [*events[:2], {"event": "epoch", "time": 1001.5, "id": "t0000"}, *events[2:]])
    assert not arrived
    assert len(warnings) == 1
    assert runs(uri)["t0000"].info.status == "FINISHED"


def test_the_run_of_a_trial_can_be_asked_for_and_an_unknown_one_is_none(uri):
    tracker = Tracker(uri, interval=0.01)
    for event in until(journal(story()), "trial"):
        tracker.handle(event)
    id = tracker.run_id("t0000")
    assert tracker.run_id("t9999") is None
    tracker.close()
    assert runs(uri)["t0000"].info.run_id == id


def test_events_are_left_as_they_were(uri):
    events = journal(story())
    before = copy.deepcopy(events)
    replay(uri, events)
    assert events == before


def test_the_store_is_a_database_here_even_where_an_old_file_store_lies(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").write_text("")
    assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert ui_command() == "mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000"


def test_a_server_named_by_the_environment_is_used_and_is_where_to_look(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert (tracking_uri(), ui_command()) == ("http://tracking:5000", "http://tracking:5000")


def test_a_folder_with_an_odd_name_holds_the_database_and_the_artifacts(empty_store, tmp_path, monkeypatch):
    folder = tmp_path / "a b#c"
    folder.mkdir()
    shutil.copy(empty_store, folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(folder)
    assert replay(None, until(journal(story()), "trial")) == (True, [])
    assert {path.name for path in tmp_path.iterdir()} == {folder.name}
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", "mlartifacts"}
    parent = runs(tracking_uri())["duets"].info.run_id
    assert (folder / "mlartifacts" / "sepsearch" / parent / "artifacts" / "space.yaml").is_file()


def test_artifacts_lie_beside_the_database_and_a_server_chooses_for_itself(tmp_path):
    assert (
        tracking._artifact_location(f"sqlite:///{tmp_path}/mlflow.db", "sepsearch")
        == (tmp_path / "mlartifacts" / "sepsearch").as_uri()
    )
    assert tracking._artifact_location("https://tracking", "sepsearch") is None


def test_curves_show_every_trial_and_finalist_beside_the_identity_loss():
    curves = {"vn": {"t0000": [(1, 0.5), (2, 0.4)], "c0-s0": [(1, 0.3)]}, "vc": {"t0000": [(1, 2.0)]}}
    figures = dict(draw_curves(curves, {"vn": 1.0, "vc": 3.0}, {"t0000"}))
    assert list(figures) == ["all", "vn", "vc"]
    drawn = [[list(line.get_ydata()) for line in panel.lines] for panel in figures["all"].axes]
    assert drawn == [[[0.5, 0.4], [0.3], [1.0, 1.0]], [[2.0], [3.0, 3.0]]]
