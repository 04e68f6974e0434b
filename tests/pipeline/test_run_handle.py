"""Runs as Python objects, read from journals: state, tables with their columns, models, report."""

import math

import pytest
from event_fixtures import interrupted_story, journal, story, until, write_run
from fake_s3 import fake_s3
from hostile import fuzz_journal
from report_story import whole_story
from separation_fixtures import save

import sepsearch as ss
from sepsearch.search.journal import Journal
from sepsearch.utils.errors import UserError


@pytest.fixture
def duets(tmp_path):
    """A finished run of the report's story, opened."""
    write_run(tmp_path / "duets", journal(whole_story()))
    return ss.open_run("duets", runs=tmp_path)


def test_trials_are_a_table_with_a_row_each(duets):
    trials = duets.trials
    assert trials.index.tolist() == ["t0000", "t0001", "t0002", "t0003", "t0004"]
    assert trials.state.tolist() == ["completed", "completed", "completed", "stopped", "failed"]
    assert trials.ratio.iloc[:4].tolist() == [0.6, 0.5, 0.4, 0.85]
    assert math.isnan(trials.ratio["t0004"])
    assert trials.ratio_vn["t0003"] == 0.5
    assert trials.reference.tolist() == [True, False, False, False, False]
    assert (trials.params_filters["t0001"], trials.params_learning_rate["t0002"]) == (8, 3e-3)
    assert (trials.epochs.dtype.kind, trials.ratio_vc.dtype.kind) == ("i", "f")


def test_curves_have_a_row_for_every_epoch_and_instrument(duets):
    curves = duets.curves
    assert len(curves) == 2 * (4 + 4 + 4 + 1) + 2 * 4 * 4
    one = curves[(curves.job == "t0001") & (curves.instrument == "vc")]
    assert one.epoch.tolist() == [1, 2, 3, 4]
    assert one.val_loss.tolist() == [0.5, 0.25, 0.5 / 3, 0.125]
    assert one.mean_ratio.tolist() == [0.8, 0.7, 0.6, 0.5]
    assert set(one.stage) == {"search"}
    finals = curves[curves.stage == "finalists"]
    assert set(zip(finals.job, finals.configuration, finals.seed, strict=True)) == {
        *(("c0-s1", "c0", 1), ("c0-s2", "c0", 2), ("c1-s1", "c1", 1), ("c1-s2", "c1", 2))
    }
    assert finals[finals.discontinuity][["job", "epoch"]].drop_duplicates().values.tolist() == [["c1-s2", 3]]


def test_finalists_have_a_row_for_every_instrument_configuration_and_seed(tmp_path):
    events = journal(story())
    for event in events:
        if event["event"] == "final_end":
            event["weights"] = event["id"]
        if event["event"] == "scores":
            for row in event["final"].values():
                row |= {"configuration": "c0", "seed": 1}
            event["candidates"] = {"vn": {"c0-s1": {"test_ratio": 0.35, "si_sdr_gain_db": 6.0}}}
    write_run(tmp_path / "x", events)
    finalists = ss.open_run("x", runs=tmp_path).finalists
    assert list(zip(finalists.instrument, finalists.candidate, strict=True)) == [
        *(("vn", "c0-s0"), ("vn", "c0-s1"), ("vc", "c0-s0"), ("vc", "c0-s1"))
    ]
    assert finalists.chosen.tolist() == [False, True, False, True]
    assert finalists.ratio.tolist() == [0.5] * 4
    assert (finalists.ratio_mean[0], finalists.ratio_sd[0]) == (0.5, 0.0)
    assert finalists.si_sdr_gain_db.tolist()[1:] == [6.0, pytest.approx(math.nan, nan_ok=True), 6.0]
    assert finalists.test_ratio[1] == 0.35
    assert finalists.params_filters.tolist() == [16] * 4


def test_whole_numbers_of_a_configuration_stay_whole_where_another_family_has_none(tmp_path):
    events = journal(story())
    for event in events:
        if event["event"] == "trial":
            event["params"] = {"channels": 8, "l2": 0.5} if event["id"] == "t0001" else {"filters": 16}
    write_run(tmp_path / "x", events)
    trials = ss.open_run("x", runs=tmp_path).trials
    assert str(trials.params_channels.tolist()) == "[<NA>, 8, <NA>]"
    assert trials.params_l2.dtype.kind == "f"


@pytest.mark.parametrize("table", ["trials", "curves", "finalists"])
def test_a_run_that_has_only_begun_has_tables_without_rows_and_with_columns(table, tmp_path):
    write_run(tmp_path / "x", journal(story())[:1])
    run = ss.open_run("x", runs=tmp_path)
    assert len(getattr(run, table)) == 0
    assert {"trials": "ratio", "curves": "val_loss", "finalists": "candidate"}[table] in getattr(run, table).columns
    assert run.results["final"] == {}
    assert run.verdicts == {}


def test_epochs_that_a_resumed_run_did_again_are_in_the_curves_once(tmp_path):
    write_run(tmp_path / "x", journal(interrupted_story()))
    curves = ss.open_run("x", runs=tmp_path).curves
    assert curves[curves.instrument == "vn"].groupby("job").epoch.apply(list).to_dict() == {
        "t0000": [1, 2, 3],
        "t0001": [1, 2],
    }


def test_the_documentation_of_a_table_names_every_column_that_it_has(duets):
    for name in ("trials", "curves", "finalists"):
        text = getattr(ss.Run, name).__doc__
        table = getattr(duets, name)
        fixed = [column for column in table.reset_index() if not column.startswith(("params_", "ratio_v", "index"))]
        assert [column for column in fixed if f"`{column}`" not in text] == []


def test_a_run_is_followed_while_it_is_written(tmp_path):
    events = journal(story())
    file = Journal(tmp_path / "x" / "journal.jsonl")
    for event in until(events, "epoch", "t0001"):
        file.append(event)
    run = ss.open_run("x", runs=tmp_path)
    assert (run.state, len(run.trials)) == ("running", 2)
    assert run.trials.state["t0001"] == "running"
    for event in events[len(until(events, "epoch", "t0001")) :]:
        file.append(event)
    file.close()
    assert (run.state, len(run.trials)) == ("finished", 3)


@pytest.mark.parametrize(
    ("events", "state"),
    [(interrupted_story(), "killed"), (list(interrupted_story())[:8], "interrupted"), (story(), "finished")],
)
def test_the_state_is_how_the_run_ended_or_that_its_process_is_gone(events, state, tmp_path):
    write_run(tmp_path / "x", journal(events))
    assert ss.open_run("x", runs=tmp_path).state == state


def test_a_run_shows_its_verdicts(duets):
    assert list(duets.verdicts) == ["vn", "vc"]
    assert duets.verdicts["vn"].kind == "volume knob"
    assert repr(duets).startswith("<run duets: finished, 5 of 5 trials, best ratio 0.400 (t0002).")
    page = duets._repr_html_()
    assert "<th>violin</th><td>volume knob</td><td>-2.5</td><td>0.400</td>" in page
    assert duets.results["finalists"][0]["id"] == "c0"


def test_names_in_a_run_are_text_on_its_page(tmp_path):
    events = journal(story())
    events[0]["name"] = "<script>"
    write_run(tmp_path / "x", events)
    assert "<script>" not in ss.open_run("x", runs=tmp_path)._repr_html_()


def test_the_best_model_is_the_final_one_or_a_provisional_one(tmp_path):
    write_run(tmp_path / "x", journal(story()))
    run = ss.open_run("x", runs=tmp_path)
    with pytest.raises(UserError, match="x: no model there"):
        run.best("violin")
    save(tmp_path / "x/models-provisional/vn", "vn", 1)
    provisional = run.best("violin")
    save(tmp_path / "x/models/vn", "vn", 2)
    final = run.best("vn")
    weights = [next(iter(model.network.parameters())).flatten()[0].item() for model in (provisional, final)]
    assert weights[0] != weights[1]
    with pytest.raises(UserError, match="x: no model of vc there, expected some of vn"):
        run.best("cello")


def test_a_report_is_written_to_the_runs_folder(duets, tmp_path):
    path = duets.report()
    assert path == tmp_path / "duets" / "report.html"
    assert "<html" in path.read_text()


def test_a_missing_run_is_refused_with_those_that_are_there(duets, tmp_path):
    with pytest.raises(UserError, match=r"^run trios: no such run in .*, expected one of: duets$"):
        ss.open_run("trios", runs=tmp_path)


def test_a_run_in_a_bucket_is_read_there_and_brought_here_for_its_models_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    model = save(tmp_path / "model", "vn")
    with fake_s3() as server:
        lines = fuzz_journal.write_lines(fuzz_journal.make_story(1)).splitlines(keepends=True)
        far = "bucket/runs/far/"
        server.objects |= {f"{far}journal/{number:09d}.jsonl": line for number, line in enumerate(lines[:-1])}
        server.objects |= {f"{far}models/vn/{path.name}": path.read_bytes() for path in model.iterdir()}
        where = f"s3://bucket/runs?scheme=http&region=eu&endpoint_override={server.address.removeprefix('http://')}"
        run = ss.open_run("far", runs=tmp_path / "runs", storage=where)
        before = len(run.trials)
        server.objects[f"{far}journal/{len(lines) - 1:09d}.jsonl"] = lines[-1]
        assert run.state == "finished"
        assert before == len(run.trials) > 0
        assert not (tmp_path / "runs").exists()
        assert run.best("vn").instrument == "vn"
        assert (tmp_path / "runs/far/models/vn/model.json").exists()
