"""Rows of trials, curves and finalists from a run's state."""

import pytest
from event_fixtures import interrupted_story, journal, story
from report_story import whole_story

from sepsearch.runs.state import reduce_events
from sepsearch.runs.tables import CURVE_COLUMNS, SEED_COLUMNS, TRIAL_COLUMNS, curve_rows, seed_rows, trial_rows


def state(events):
    return reduce_events(journal(events), history=True)


def plain(columns):
    """Names of columns that stand for themselves."""
    return [name for name in columns if not name.endswith("*")]


def test_trials_have_a_row_each_with_the_documented_columns():
    rows = trial_rows(state(whole_story()))
    assert [row["trial"] for row in rows] == ["t0000", "t0001", "t0002", "t0003", "t0004"]
    names = list(rows[0])
    assert names[: len(plain(TRIAL_COLUMNS))] == plain(TRIAL_COLUMNS)
    assert {name.partition("_")[0] for name in names[len(plain(TRIAL_COLUMNS)) :]} == {"ratio", "params"}
    assert all(list(row) == names for row in rows)


def test_a_trial_row_has_its_end_and_its_best_epoch():
    row = {row["trial"]: row for row in trial_rows(state(whole_story()))}["t0002"]
    assert (row["state"], row["epochs"], row["ratio"], row["best_ratio"]) == ("completed", 4, 0.4, 0.4)
    assert (row["reference"], row["params_filters"]) == (False, 16)
    assert row["ratio_vn"] == row["ratio_vc"] == pytest.approx(0.125)


def test_a_failed_trial_without_epochs_has_no_numbers():
    row = trial_rows(state(whole_story()))[-1]
    assert (row["state"], row["ratio"], row["best_ratio"], row["finished_at"]) == ("failed", None, None, None)


def test_curves_have_a_row_for_every_epoch_and_instrument():
    run = state(story())
    rows = curve_rows(run)
    assert all(list(row) == list(CURVE_COLUMNS) for row in rows)
    assert [(row["epoch"], row["instrument"]) for row in rows if row["job"] == "t0000"] == [
        (1, "vn"),
        (1, "vc"),
        (2, "vn"),
        (2, "vc"),
    ]
    assert {row["stage"] for row in rows} == {"search", "finalists"}
    first = rows[0]
    assert (first["ratio"], first["val_loss"], first["train_loss"], first["mean_ratio"]) == (0.5, 0.5, 0.4, 0.5)


def test_seconds_of_a_curve_leave_out_the_pause_before_a_resumed_process():
    events = journal(interrupted_story())
    resumed = next(i for i, event in enumerate(events) if event["event"] == "resume")
    for event in events[resumed:]:
        event["time"] += 86_400.0
        event["elapsed"] -= events[resumed - 1]["elapsed"]
    rows = curve_rows(reduce_events(events, history=True))
    at = [row["at"] for row in rows if row["job"] == "t0000" and row["instrument"] == "vn"]
    assert at == sorted(at)
    assert at[-1] < 100


def test_curves_without_history_have_no_rows():
    assert curve_rows(reduce_events(journal(story()))) == []


def test_finalists_have_a_row_for_every_instrument_and_seed_and_name_the_chosen_one():
    rows = seed_rows(state(whole_story()))
    assert all(list(row) == list(SEED_COLUMNS) for row in rows)
    assert len(rows) == 2 * 2 * 2
    chosen = [row for row in rows if row["chosen"]]
    assert [(row["instrument"], row["configuration"], row["seed"]) for row in chosen] == [
        ("vn", "c0", 1),
        ("vc", "c0", 1),
    ]
    assert chosen[0]["test_ratio"] == pytest.approx(0.5)
    assert all(row["test_ratio"] is None for row in rows if not row["chosen"])


def test_a_ratio_that_is_not_finite_is_none():
    events = journal(story())
    events[2]["ratio"] = float("nan")
    assert curve_rows(reduce_events(events, history=True))[0]["mean_ratio"] is None
