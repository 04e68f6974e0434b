"""Trials, curves and finalists of a run as pandas data frames: the rows of `sepsearch.runs.tables`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sepsearch.runs.state import RunState
from sepsearch.runs.tables import CURVE_COLUMNS, SEED_COLUMNS, TRIAL_COLUMNS, curve_rows, finite, seed_rows, trial_rows
from sepsearch.search.selection import SeedRun
from sepsearch.training.metrics import mean_and_sd

if TYPE_CHECKING:
    from pandas import DataFrame

# Columns of numbers, in which what does not exist is NaN.
FLOATS = (
    *("ratio", "best_ratio", "seconds", "finished_at", "at", "val_loss", "train_loss", "mean_ratio"),
    *("ratio_mean", "ratio_sd", "test_ratio", "si_sdr_gain_db"),
)
FINALIST_COLUMNS = ("candidate", *SEED_COLUMNS, "ratio_mean", "ratio_sd", "eliminated")


def trials_table(run: RunState) -> "DataFrame":
    """The search's trials, a row each, by id; for columns see `Run.trials`. `run` keeps its history."""
    return _table(trial_rows(run), TRIAL_COLUMNS).set_index("trial")


def curves_table(run: RunState) -> "DataFrame":
    """All epochs of all jobs, a row for every instrument; for columns see `Run.curves`. `run` keeps its history."""
    return _table(curve_rows(run), CURVE_COLUMNS).astype({"seed": "Int64"})


def finalists_table(run: RunState) -> "DataFrame":
    """The finalists' models, a row for every instrument, configuration and seed; for columns see `Run.finalists`."""
    by_seed = {(one.finalist.id, one.seed): one for one in run.finals.values()}
    rows = [{**row, **_more(run, by_seed[row["configuration"], row["seed"]], row)} for row in seed_rows(run)]
    rows.sort(key=lambda row: run.codes.index(row["instrument"]) if row["instrument"] in run.codes else 0)
    return _table(rows, FINALIST_COLUMNS)


def _more(run: RunState, one: SeedRun, row: Mapping[str, Any]) -> dict[str, Any]:
    """What a finalist's row has beside `seed_rows`: its name, the spread over seeds, scores of all that were scored."""
    code = row["instrument"]
    alike = [other for other in run.finals.values() if other.finalist == one.finalist and other.weights]
    mean, sd = mean_and_sd([other.members[code].ratio for other in alike if code in other.members])
    candidates: Mapping[str, Any] = run.scores.get("candidates", {}) if run.scores else {}
    scored = candidates.get(code, {}).get(one.id, row)
    return {
        "candidate": one.id,
        "ratio_mean": finite(mean),
        "ratio_sd": finite(sd),
        "eliminated": run.eliminated.get(one.finalist.id, ""),
        "test_ratio": scored.get("test_ratio"),
        "si_sdr_gain_db": scored.get("si_sdr_gain_db"),
        **{f"params_{name}": value for name, value in one.finalist.params.items()},
    }


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | Mapping[str, str]) -> "DataFrame":
    """Rows as a data frame that has these columns in any case, and behind them those that only some rows have."""
    import pandas

    names = dict.fromkeys([*(name for name in columns if name[-1] != "*"), *(name for row in rows for name in row)])
    table = pandas.DataFrame(rows, columns=[name for name in names if name != "run"])
    floats = [name for name in table if name in FLOATS or name.startswith("ratio_")]
    whole = [name for name in table if name.startswith("params_") and _has_gaps_in_whole(rows, name)]
    return table.astype(dict.fromkeys(floats, float) | dict.fromkeys(whole, "Int64"))


def _has_gaps_in_whole(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether a column of whole numbers has none in some rows; pandas would make floats of the others."""
    return {type(row.get(name)) for row in rows} == {int, type(None)}
