"""The journal's projection into MLflow: shape, numbers, states, replays, and a server that is away."""

import copy
import math
import shutil
import threading

import pytest
from event_fixtures import epoch_event, interrupted_story, journal, members, runs, steps, story, until
from mlflow_store import replay, rows

from sepsearch.reporting.curves import draw_curves
from sepsearch.tracking import mapping, writer
from sepsearch.tracking import tracker as tracker_module
from sepsearch.tracking.tracker import Tracker, tracking_uri, ui_command


@pytest.fixture
def uri(empty_store, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def sizes(uri):
    """How many rows each table has."""
    return {name: len(lines) for name, lines in rows(uri).items()}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No figures: they take longer than all the rest."""
    monkeypatch.setattr(mapping, "draw_curves", lambda *_: iter(()))
    monkeypatch.setattr(mapping, "size_points", lambda *_: [])


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
    history = tracker_module.connect(uri).get_metric_history(told["t0000"].info.run_id, "val_loss/vn")
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
    client = tracker_module.connect(uri)
    paths = {f.path for f in client.list_artifacts(parent.info.run_id)}
    assert paths == {"curves", "size", "dataset.yaml", "space.yaml"}
    pictures = {f.path for f in client.list_artifacts(parent.info.run_id, "size")}
    assert pictures == {"size/ratio_by_parameters.png", "size/ratio_by_speed.png"}
    curves = {f.path for f in client.list_artifacts(parent.info.run_id, "curves")}
    assert curves == {"curves/all.png", "curves/vn.png", "curves/vc.png"}


def test_a_run_begins_and_ends_with_its_events(told):
    info = told["t0001"].info
    assert (info.start_time, info.end_time) == (1_005_000, 1_007_000)


def test_a_stopped_trial_is_finished_and_a_failed_one_failed_and_both_say_why(told):
    stopped, failed = told["t0001"], told["t0002"]
    assert (stopped.info.status, stopped.data.tags["state"], stopped.data.tags["reason"]) == (
        "FINISHED",
        "stopped",
        "rung 1",
    )
    assert (failed.info.status, failed.data.tags["state"]) == ("FAILED", "failed")
    assert failed.data.tags["reason"].startswith("NaN: the training loss of vn")


def test_numbers_that_are_missing_or_not_finite_are_left_out(uri):
    events = until(journal(story()), "trial")
    bad = members(1, val_loss=math.nan, ratio=None, train_loss=math.inf)
    replay(uri, [*events, {"time": 1002.0, "event": "epoch", **epoch_event("epoch", "t0000", 1, bad)[1]}])
    metrics = runs(uri)["t0000"].data.metrics
    assert {key.partition("/")[0] for key in metrics} == {
        "parameters",
        "examples_per_second",
        "discontinuities",
        "identity_loss",
        "gradient_norm",
        "zero_share",
    }


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
        "duets": "KILLED",
        "t0000": "FINISHED",
        "t0001": "KILLED",
    }
    assert found["t0001"].data.tags["state"] == "interrupted"


def tell(uri, events, *ends):
    """Send a journal's events through as many trackers as there are `ends`: each replays all and goes on to its own."""
    for end in ends:
        arrived, warnings = replay(uri, events[:end])
        assert (arrived, warnings) == (True, [])


def resumes(events):
    """Where a new process takes over."""
    return [number for number, event in enumerate(events) if event["event"] == "resume"]


def test_a_resumed_search_goes_on_in_the_same_runs(uri):
    events = journal(interrupted_story())
    first, second = resumes(events)
    tell(uri, events, first)
    before = runs(uri)
    assert {name: run.info.status for name, run in before.items()} == dict.fromkeys(
        ("duets", "t0000", "t0001"), "KILLED"
    )
    tell(uri, events, first + 1, second)
    assert {name: run.info.run_id for name, run in runs(uri).items()} == {n: r.info.run_id for n, r in before.items()}
    assert {name: run.info.status for name, run in runs(uri).items()} == {
        "duets": "RUNNING",
        "t0000": "FINISHED",
        "t0001": "RUNNING",
    }
    tell(uri, events, len(events))
    found = runs(uri)
    assert len(found) == 3
    assert (found["t0001"].info.status, found["t0001"].data.tags["state"]) == ("FINISHED", "stopped")
    assert found["duets"].data.tags["resumed"] == "2"


def test_a_unit_that_goes_on_has_no_end_until_it_has_its_own(uri):
    events = journal(interrupted_story())
    tell(uri, events, resumes(events)[0] + 1)
    tags = runs(uri)["t0001"].data.tags
    assert (tags["state"], tags["reason"], tags["epochs"]) == ("running", "", "0")


def test_metrics_of_a_resumed_search_are_those_of_the_journal_each_once(uri):
    events = journal(interrupted_story())
    tell(uri, events, *resumes(events), len(events))
    for id in ("t0000", "t0001"):
        history = tracker_module.connect(uri).get_metric_history(runs(uri)[id].info.run_id, "val_loss/vc")
        assert [metric.step for metric in history] == steps(events, id)


def test_a_trial_that_was_interrupted_and_goes_on_is_counted_once(uri):
    events = journal(interrupted_story())
    tell(uri, events, *resumes(events), len(events))
    parent = runs(uri)["duets"]
    assert [parent.data.metrics[f"trials_{state}"] for state in ("completed", "stopped", "failed")] == [1, 1, 0]
    history = tracker_module.connect(uri).get_metric_history(parent.info.run_id, "trials_stopped")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0), (2, 1)]


def test_an_end_that_a_resume_takes_back_is_counted_no_longer(uri):
    events = until(journal(story()), "trial_end", "t0001")
    resumed = [
        {"event": "resume", "time": 1010.0, "units": {"t0001": 1}, "changed": {}},
        {"event": "trial_end", "time": 1011.0, "id": "t0001", "state": "completed", "reason": "", "epochs": 2},
    ]
    tell(uri, [*events, *resumed], len(events) + 2)
    metrics = runs(uri)["duets"].data.metrics
    assert [metrics[f"trials_{state}"] for state in ("completed", "stopped", "failed")] == [2, 0, 0]


def test_what_changed_at_a_resume_is_told_beside_what_it_was(uri):
    events = journal(interrupted_story())
    tell(uri, events, len(events))
    parent = runs(uri)["duets"].data
    assert (parent.params["epochs"], parent.params["trials"]) == ("2", "3")
    changed = {key: value for key, value in parent.tags.items() if key.startswith("changed/")}
    assert changed == {"changed/epochs": "3", "changed/trials": "2"}
    assert "up to 3 epochs" in parent.tags["mlflow.note.content"]
    assert "one title only" not in parent.tags["mlflow.note.content"]


def test_a_resume_names_no_unit_that_never_began(uri):
    events = until(journal(story()), "trial")
    arrived, warnings = replay(uri, [*events, {"event": "resume", "time": 1.0, "units": {"t7": 0}, "changed": {}}])
    assert not arrived
    assert "t7" in warnings[0]
    assert set(runs(uri)) == {"duets", "t0000"}


def test_a_retried_and_a_spared_trial_say_so_and_run_on(uri):
    events = journal(interrupted_story())
    tell(uri, events, len(until(events, "spared")))
    run = runs(uri)["t0001"]
    assert (run.data.tags["retries"], run.data.tags["last_retry"]) == ("1", "worker died")
    assert run.data.tags["spared"] == "1"
    assert run.info.status == "RUNNING"


def test_models_registered_after_the_end_leave_the_run_ended(uri):
    events = journal(story())
    late = {"event": "registered", "time": 3000.0, "models": {"vc": "models:/sepsearch-vc/4"}}
    tell(uri, [*events, late], len(events) + 1)
    parent = runs(uri)["duets"]
    assert (parent.info.status, parent.info.end_time) == ("FINISHED", events[-1]["time"] * 1000)
    note = parent.data.tags["mlflow.note.content"]
    assert "models:/sepsearch-vn/1" in note
    assert "models:/sepsearch-vc/4" in note


def test_the_parent_says_how_long_each_stage_took(told):
    metrics = told["duets"].data.metrics
    assert [metrics[f"seconds/{stage}"] for stage in ("prepare", "search", "retrain")] == [1.0, 2.0, 3.0]


def test_replaying_a_journal_doubles_nothing(uri, told):
    before = rows(uri)
    assert replay(uri, journal(story())) == (True, [])
    assert rows(uri) == before


def test_an_epoch_that_is_missing_in_the_middle_is_filled_in(uri, told_store):
    events = journal(story())
    first = next(e for e in events if e["event"] == "epoch" and e["id"] == "t0000")
    replay(uri, [e for e in events if e is not first])
    replay(uri, events)
    assert sizes(uri) == sizes(f"sqlite:///{told_store}")


def test_a_clock_that_was_set_back_loses_no_metrics(uri):
    events = journal(interrupted_story())
    back = [{**event, "time": event["time"] - 500 * (number >= 9)} for number, event in enumerate(events)]
    tell(uri, back, 9, len(back))
    history = tracker_module.connect(uri).get_metric_history(runs(uri)["t0000"].info.run_id, "ratio")
    assert sorted(metric.step for metric in history) == [1, 2, 3]


def test_a_call_never_divides_the_metrics_of_an_epoch(uri, monkeypatch):
    monkeypatch.setattr(writer, "METRICS_PER_CALL", 20)
    calls = []

    class Counting:
        def __init__(self, client):
            self._client = client

        def __getattr__(self, name):
            return getattr(self._client, name)

        def log_batch(self, run_id, metrics, *more, **options):
            calls.append((run_id, {metric.step for metric in metrics}))
            return self._client.log_batch(run_id, metrics, *more, **options)

    events = [*until(journal(story()), "trial"), *journal(epoch_event("epoch", "t0000", n) for n in range(1, 6))]
    replay(uri, events, connect=lambda uri: Counting(tracker_module.connect(uri)))
    trial = runs(uri)["t0000"].info.run_id
    assert sorted(step for id, written in calls for step in written if id == trial) == [0, 1, 2, 3, 4, 5]  # 0: its size


def test_of_two_runs_with_one_key_the_fuller_one_stays(uri, told):
    client = tracker_module.connect(uri)
    run = told["t0001"]
    double = client.create_run(run.info.experiment_id, run.info.start_time, run.data.tags, "t0001")
    tell(uri, journal(story()), len(journal(story())))
    found = runs(uri)
    assert len(found) == 6
    assert found["t0001"].info.run_id == run.info.run_id
    assert client.get_run(double.info.run_id).info.lifecycle_stage == "deleted"


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

    tracker = Tracker(uri, interval=0.01, on_warning=warn, connect=lambda uri: Flaky(tracker_module.connect(uri), away))
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


def test_events_are_taken_while_a_call_hangs(uri):
    entered, release, left = threading.Event(), threading.Event(), threading.Event()

    def hang(uri):
        entered.set()
        release.wait(60)
        left.set()
        raise ConnectionError("timed out")

    tracker = Tracker(uri, interval=0.01, on_warning=lambda text: None, connect=hang)
    events = journal(story())
    tracker.handle(events[0])
    assert entered.wait(60)
    for event in events[1:]:
        tracker.handle(event)
    assert not tracker.flush(0.1)
    assert not left.is_set()
    release.set()
    assert left.wait(60)
    tracker.close(0)


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

    arrived, _ = replay(uri, journal(story()), connect=lambda uri: Lossy(tracker_module.connect(uri)))
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


def test_two_processes_that_write_the_same_search_make_each_run_once(uri, tmp_path):
    events = journal(story())
    begun = until(events, "trial_end", "t0000")
    first = Tracker(uri, interval=0.01, folder=tmp_path / "run")
    (tmp_path / "run").mkdir()
    for event in begun:
        first.handle(event)
    assert first.flush(60)
    assert replay(uri, events, folder=tmp_path / "run") == (True, [])
    for event in events[len(begun) :]:
        first.handle(event)
    assert first.close(60)
    assert len(runs(uri)) == 6


def test_a_folder_that_cannot_be_locked_is_no_hindrance(uri, tmp_path):
    assert replay(uri, until(journal(story()), "trial"), folder=tmp_path / "nowhere") == (True, [])
    assert set(runs(uri)) == {"duets", "t0000"}


def test_artifacts_that_cannot_be_kept_cost_one_warning_and_nothing_else(uri, monkeypatch):
    def closed(*arguments):
        raise PermissionError(13, "Permission denied", "/srv/artifacts")

    monkeypatch.setattr("mlflow.MlflowClient.log_stream", closed)
    arrived, warnings = replay(uri, journal(story()))
    assert not arrived
    assert len(warnings) == 1
    assert "/srv/artifacts" in warnings[0]
    assert {run.info.status for run in runs(uri).values()} == {"FINISHED", "FAILED"}


def test_a_password_in_the_address_is_told_to_nobody(monkeypatch):
    def refuse(uri):
        raise ConnectionError(f"no route to {uri}")

    warnings = []
    tracker = Tracker("http://me:secret@tracking:5000", interval=0.01, on_warning=warnings.append, connect=refuse)
    tracker.handle(journal(story())[0])
    assert not tracker.close(0.3)
    assert "http://tracking:5000" in warnings[0]
    assert "secret" not in warnings[0]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@tracking:5000")
    assert ui_command() == "http://tracking:5000"


def test_no_call_is_repeated_by_the_http_client_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    tracker_module.import_mlflow()
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES

    assert MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 0


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
    assert ui_command().endswith("python -m sepsearch.ui")


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
        tracker_module._artifact_location(f"sqlite:///{tmp_path}/mlflow.db", "sepsearch")
        == (tmp_path / "mlartifacts" / "sepsearch").as_uri()
    )
    assert tracker_module._artifact_location("https://tracking", "sepsearch") is None


def test_curves_show_every_trial_and_finalist_beside_the_identity_loss():
    curves = {"vn": {"t0000": [(1, 0.5), (2, 0.4)], "c0-s0": [(1, 0.3)]}, "vc": {"t0000": [(1, 2.0)]}}
    figures = dict(draw_curves(curves, {"vn": 1.0, "vc": 3.0}, {"t0000"}))
    assert list(figures) == ["all", "vn", "vc"]
    drawn = [[list(line.get_ydata()) for line in panel.lines] for panel in figures["all"].axes]
    assert drawn == [[[0.5, 0.4], [0.3], [1.0, 1.0]], [[2.0], [3.0, 3.0]]]
