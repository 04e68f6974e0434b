"""Trials, curves and seeds as CSV and Parquet."""

import csv

import pyarrow.parquet as pq
import pytest
from compared_runs import finished_run
from event_fixtures import journal

from sepsearch.runs.state import reduce_events
from sepsearch.runs.table_files import columns_of, write_tables
from sepsearch.runs.tables import CURVE_COLUMNS, SEED_COLUMNS
from sepsearch.utils.errors import UserError


@pytest.fixture
def runs():
    return [reduce_events(journal(finished_run(name)), history=True) for name in ("alpha", "beta")]


def test_csv_has_the_rows_of_all_runs_in_three_files(runs, tmp_path):
    paths = write_tables(runs, tmp_path / "tables", "csv")
    assert [path.name for path in paths] == ["trials.csv", "curves.csv", "seeds.csv"]
    with paths[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["trial"]) for row in rows[2:4]] == [("alpha", "t0002"), ("beta", "t0000")]
    assert (rows[0]["reference"], rows[0]["exempt"], rows[0]["reason"]) == ("true", "false", "")
    assert float(rows[1]["ratio"]) == 0.6


def test_parquet_has_typed_columns_and_nulls(runs, tmp_path):
    curves = pq.read_table(write_tables(runs, tmp_path, "parquet")[1])
    assert curves.column_names == list(CURVE_COLUMNS)
    types = {name: str(curves.schema.field(name).type) for name in ("run", "epoch", "seed", "ratio", "discontinuity")}
    assert types == {"run": "string", "epoch": "int64", "seed": "int64", "ratio": "double", "discontinuity": "bool"}
    assert curves.column("seed").null_count > 0


def test_a_parameter_that_only_one_run_has_is_missing_in_the_others():
    assert columns_of([{"a": 1}, {"a": 2, "b": "x"}]) == {"a": [1, 2], "b": [None, "x"]}


def test_a_column_has_one_type():
    rows = [{"a": 1, "b": 1, "c": [3, 5]}, {"a": 0.5, "b": "auto", "c": None}]
    assert columns_of(rows) == {"a": [1.0, 0.5], "b": ["1", "auto"], "c": ["[3, 5]", None]}


def test_a_run_without_finalists_has_readable_tables(tmp_path):
    events = journal(finished_run("alpha"))[:1]
    for format in ("csv", "parquet"):
        paths = write_tables([reduce_events(events, history=True)], tmp_path, format)
        assert all(path.exists() for path in paths)
    seeds = pq.read_table(tmp_path / "seeds.parquet")
    assert (seeds.num_rows, seeds.column_names) == (0, list(SEED_COLUMNS))


def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(runs, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        write_tables(runs, tmp_path / "file" / "tables", "csv")
