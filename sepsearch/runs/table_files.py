"""Tables of runs as files for other programs: CSV or Parquet, written whole or not at all."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sepsearch.runs.state import RunState
from sepsearch.runs.tables import CURVE_COLUMNS, SEED_COLUMNS, TRIAL_COLUMNS, Row, curve_rows, seed_rows, trial_rows
from sepsearch.utils.files import write_atomically

FORMATS = ("csv", "parquet")
TABLES = {
    "trials": (trial_rows, TRIAL_COLUMNS),
    "curves": (curve_rows, CURVE_COLUMNS),
    "seeds": (seed_rows, SEED_COLUMNS),
}


def write_tables(runs: Iterable[RunState], folder: Path, format: str) -> list[Path]:
    """Write the trials, curves and seeds of runs, each kind into one file; files of these names are replaced.

    Args:
        runs: reduced with `history`.
        folder: for `trials`, `curves` and `seeds`, with the format as suffix; made if it is missing.
        format: one of FORMATS. In CSV text is UTF-8, a missing value empty, a truth value `true` or `false`.

    Returns:
        The files, in that order.

    Raises:
        UserError: a file cannot be written.
    """
    runs, encode = list(runs), _csv if format == "csv" else _parquet
    contents = {
        folder / f"{name}.{format}": encode(columns_of([row for run in runs for row in rows_of(run)], documented))
        for name, (rows_of, documented) in TABLES.items()
    }
    for path, content in contents.items():
        write_atomically(path, content)
    return list(contents)


Columns = dict[str, list[Any]]


def columns_of(rows: Sequence[Row], names: Iterable[str] = ()) -> Columns:
    """Values by column, each column of one type: bool, int, float or str, with None for missing values.

    Whole numbers beside others become floats; a column of several types, and lists, become JSON text.

    Args:
        rows: with the columns that they have.
        names: columns that are there without rows, too, but those that end with `*`.
    """
    names = dict.fromkeys([*(name for name in names if name[-1] != "*"), *(name for row in rows for name in row)])
    return {name: _one_type([row.get(name) for row in rows]) for name in names}


def _one_type(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    if len(kinds) > 1 or kinds - {bool, int, float, str}:
        return [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return values


def _csv(columns: Columns) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(map(_cell, values) for values in columns.values()), strict=True))
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parquet(columns: Columns) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # A column without any value has a type that few programs read.
    arrays = [pa.array(of, None if any(v is not None for v in of) else pa.string()) for of in columns.values()]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays, names=list(columns)), sink)
    return bytes(sink.getvalue().to_pybytes())
