"""The command line: the whole way on a miniature folder, the same numbers twice, mistakes, Ctrl-C."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_spaces import small_space

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.run import main
from sepsearch.runs.options import parse_arguments
from sepsearch.search.journal import read_journal
from sepsearch.utils.errors import UserError

SPACE = small_space(
    "trials: 3, epochs: 2, examples_per_epoch: 32, validation_examples: 16, startup_trials: 2",
    "seeds: 2, epochs: 2",
    filters="[4, 16]",
)
RESULT_KEYS = {
    "name",
    "fingerprint",
    "space",
    "dataset",
    "baselines",
    "trials",
    "reference",
    "known",
    "stopped",
    "finalists",
    "final",
    "reference_final",
    "candidates",
    "verdicts",
    "champions",
    "seconds",
}
FINAL_KEYS = {
    "params",
    "seeds",
    "identity_loss",
    "val_loss",
    "ratio",
    "ratio_mean",
    "ratio_sd",
    "test_ratio",
    "si_sdr_gain_db",
    "mixture_similarity_db",
    "named_test_ratio",
    "named_si_sdr_gain_db",
    "discontinuities",
    "model_uri",
    "configuration",
    "seed",
    "epoch",
    "ratio_interval",
    "parameters",
    "examples_per_second",
    "choice_reason",
    "protocol",
    "audio",
}


def command(folder: Path, tree: Path, *more: str) -> list[str]:
    (folder / "space.yaml").write_text(SPACE)
    options = ["--space", "space.yaml", "--data", str(tree), "--instruments", "vn,vc", "--name", "x", *more]
    return [sys.executable, "-m", "sepsearch.run", *options]


def clean_environment() -> dict[str, str]:
    """The environment without what other tests in this process have set up for themselves."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "TUNE_", "MLFLOW_"))}


def search(folder: Path, tree: Path, *more: str) -> tuple[subprocess.CompletedProcess, dict]:
    done = subprocess.run(
        command(folder, tree, *more),
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    results = folder / "runs" / "x" / "results.json"
    return done, json.loads(results.read_text()) if results.exists() else {}


@pytest.fixture(scope="module")
def finished(tree, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess, dict]:
    folder = tmp_path_factory.mktemp("run")
    return folder, *search(folder, tree, "--seed", "1", "--workers", "1", "--gpus-per-trial", "auto")


def test_auto_without_gpus_says_so_and_what_it_came_to_is_kept_for_a_resume(finished):
    folder, done, _ = finished
    assert "--gpus-per-trial auto: no GPU found, so trials run on CPUs" in done.stdout
    begun = next(read_journal(folder / "runs" / "x" / "journal.jsonl"))
    assert begun["settings"]["options"]["gpus_per_trial"] == 0.0


def test_a_finished_run_has_results_in_exactly_the_promised_shape(finished):
    _, done, results = finished
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(results) == RESULT_KEYS
    assert set(results["dataset"]) == {"source", "pieces", "clips", "rows", "split"}
    assert set(results["dataset"]["split"]) == {"train", "validation", "test"}
    assert set(results["baselines"]) == {"identity", "zero", "gain", "oracle"}
    assert {key for trial in results["trials"] for key in trial} == {
        "id",
        "params",
        "state",
        "reason",
        "epochs",
        "ratio",
        "ratios",
        "parameters",
        "examples_per_second",
    }
    assert set(results["final"]) == set(results["reference_final"]) == {"vn", "vc"}
    for table in (results["final"], results["reference_final"]):
        assert all(set(row) == FINAL_KEYS and row["seeds"] == [2, 3] for row in table.values())
    assert set(results["seconds"]) == {"prepare", "search", "retrain"}


def test_the_first_trial_that_waits_for_a_worker_is_the_reports_network_and_named_the_reference(finished):
    _, _, results = finished
    second = results["trials"][1]
    assert results["reference"] == second["id"] == "t0001"
    params = second["params"]
    assert (params["filters"], params["activation"], params["head"]) == (16, "elu", "relu")
    assert len(results["trials"]) == 3


def test_the_screen_says_where_everything_is(finished):
    _, done, _ = finished
    for words in (
        "Ray dashboard: http://127.0.0.1:",
        "Final models of x",
        "sepsearch.ui",
        "sepsearch.separate",
        "results.json",
    ):
        assert words in done.stdout


def test_nothing_noisy_reaches_the_terminal(finished):
    _, done, _ = finished
    assert "Warning" not in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_models_are_registered_those_that_beat_the_baselines_are_champions_and_load_from_there(finished):
    import mlflow

    from sepsearch.models.saved_model import load_model
    from sepsearch.tracking.registry import resolve_model

    folder, done, results = finished
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    lines = [line for line in done.stdout.splitlines() if "champion" in line]
    for code, row in results["final"].items():
        assert row["model_uri"] == f"models:/sepsearch-{code}/1"
        losses = {name: results["baselines"][name][code] for name in ("identity", "gain")}
        good = row["ratio"] < min(1, losses["gain"] / losses["identity"])
        assert client.get_registered_model(f"sepsearch-{code}").aliases == ({"champion": 1} if good else {})
        assert results["champions"][code]["now"] == ("1" if good else None)
        (line,) = [one for one in lines if INSTRUMENTS[code] in one]
        assert ("no champion" not in line) == good
    _, card = load_model(resolve_model("models:/sepsearch-vn/1", uri))
    assert card.scores["ratio"] == results["final"]["vn"]["ratio"]


def test_mlflow_has_a_parent_with_a_child_per_trial_and_per_finalist_and_seed(finished):
    import mlflow

    folder, _, results = finished
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "sepsearch"]
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.info.run_name for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id}
    assert len(parents) == 1
    assert children >= {trial["id"] for trial in results["trials"]} | {"c0-s2", "c0-s3"}
    child = next(run for run in runs if run.info.run_name == "t0000")
    assert {"ratio", "val_loss/vn", "identity_loss/vn"} <= set(child.data.metrics)


def test_the_same_seed_and_one_worker_give_the_same_trials_and_losses(finished, tree, empty_store, tmp_path):
    _, _, first = finished
    shutil.copy(empty_store, tmp_path)
    _, second = search(tmp_path, tree, "--seed", "1", "--workers", "1")
    assert all(trial["examples_per_second"] > 0 for trial in (*first["trials"], *second["trials"]))
    # No two runs are equally fast.
    alike = [[{**trial, "examples_per_second": None} for trial in run["trials"]] for run in (first, second)]
    assert alike[0] == alike[1]
    losses = [{c: (row["val_loss"], row["test_ratio"]) for c, row in r["final"].items()} for r in (first, second)]
    assert losses[0] == losses[1]


def test_ctrl_c_closes_the_journal_marks_mlflows_runs_killed_and_prints_how_to_go_on(tree, empty_store, tmp_path):
    import mlflow

    shutil.copy(empty_store, tmp_path)
    line = command(tmp_path, tree, "--trials", "60")
    process = subprocess.Popen(
        line, cwd=tmp_path, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    journal = tmp_path / "runs" / "x" / "journal.jsonl"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (journal.exists() and '"trial_end"' in journal.read_text()):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "-m sepsearch.run --resume x" in output
    assert "Traceback" not in errors
    events = list(read_journal(journal))
    assert (events[-1]["event"], events[-1]["state"]) == ("end", "interrupted")
    ended = {e["id"] for e in events if e["event"] == "trial_end"}
    last = {e["id"]: e["event"] for e in events if e["event"] in ("paused", "promoted")}
    paused = {trial for trial, event in last.items() if event == "paused"} - ended
    assert {e["id"] for e in events if e["event"] == "trial"} == ended | paused
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    statuses = {
        run.info.run_name: run.info.status
        for run in client.search_runs([e.experiment_id for e in client.search_experiments()])
    }
    assert statuses["x"] == "KILLED"
    assert "RUNNING" not in statuses.values()
    cut_off = {e["id"] for e in events if e["event"] == "trial_end" and e["reason"] == "interrupted"}
    assert {statuses[trial] for trial in cut_off | paused} == {"KILLED"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--instruments", "vn,vx"], "--instruments: unknown instrument 'vx'"),
        (["--instruments", "tba"], "'tba' does not play in these recordings"),
        (["--name", "../x"], "--name '../x': expected letters"),
        (["--data", "nowhere"], "nowhere"),
        (["--space", "nowhere.yaml"], "no such space file"),
        (["--resume", "y", "--name", "y"], "--resume y: no such run"),
        (["--resume", "../y", "--name", "../y"], "--resume '../y': expected letters"),
        (["--resume", "y"], "the run of --resume is y: leave --name out"),
        (["--accept-changes"], "--accept-changes: expected with --resume"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_leaves_nothing_behind(
    options, expected, tree, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    arguments = command(tmp_path, tree)[3:]
    with pytest.raises(UserError) as caught:
        main([*arguments, *options])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_is_not_there_is_named_before_ray_starts(tmp_path, monkeypatch):
    def start(begin: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sepsearch.pipeline.driver.EarlyStart", start)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        main(command(tmp_path, tmp_path / "nowhere")[3:])


def test_a_run_name_that_exists_is_refused(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "results.json").write_text("{}")
    with pytest.raises(UserError, match="a run of this name exists"):
        main(command(tmp_path, tree)[3:])


def resume_finished(folder: Path, option: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "sepsearch.run", "--resume", "x", option]
    return subprocess.run(
        line, cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=300, check=True
    )


@pytest.fixture(scope="module")
def resumed(finished) -> subprocess.CompletedProcess[str]:
    """The finished run, whose results are lost, resumed with --json."""
    folder, _, _ = finished
    (folder / "runs" / "x" / "results.json").unlink()
    return resume_finished(folder, "--json")


def test_a_finished_run_is_resumed_to_the_same_results_without_training(finished, resumed):
    folder, _, results = finished
    assert "x has finished already" in resumed.stderr
    assert json.loads((folder / "runs" / "x" / "results.json").read_text()) == results


def test_with_json_the_results_are_on_standard_output_and_all_lines_on_standard_error(finished, resumed):
    _, _, results = finished
    assert json.loads(resumed.stdout) == results
    assert "Final models of x" in resumed.stderr


def test_quiet_prints_the_result_alone(finished):
    folder, _, _ = finished
    done = resume_finished(folder, "--quiet")
    assert done.stderr == ""
    assert "Final models of x" in done.stdout
    assert "has finished already" not in done.stdout


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400)])
def test_a_time_budget_is_given_in_seconds_minutes_or_hours(text, seconds):
    assert parse_arguments(["--time-budget", text]).time_budget == seconds


@pytest.mark.parametrize(
    "options", [["--time-budget", "soon"], ["--trials", "0"], ["--cpus-per-trial", "-1"], ["--typo"]]
)
def test_a_value_that_makes_no_sense_exits_with_2(options, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_arguments(options)
    assert caught.value.code == 2
