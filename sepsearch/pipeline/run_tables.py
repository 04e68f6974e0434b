"""Trials, curves and finalists of a run as pandas data frames."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sepsearch.runs.job import Job
from sepsearch.runs.state import RunState
from sepsearch.training.metrics import mean_and_sd

if TYPE_CHECKING:
    from pandas import DataFrame

    from sepsearch.search.selection import SeedRun

TRIAL_COLUMNS = (
    "id",
    "state",
    "reason",
    "epochs",
    "ratio",
    "seconds",
    "reference",
    "spared",
    "retries",
    "jumps",
    "dead",
)
CURVE_NUMBERS = ("ratio", "train_loss", "val_loss", "identity_loss", "gradient_norm", "zero_share")
CURVE_COLUMNS = (
    *("stage", "id", "configuration", "seed", "epoch", "instrument"),
    *CURVE_NUMBERS,
    *("discontinuity", "mean_ratio", "seconds", "examples_per_second"),
)
FINALIST_COLUMNS = (
    *("instrument", "candidate", "configuration", "seed", "trial", "reference", "state", "epoch", "val_loss", "ratio"),
    *("discontinuities", "ratio_mean", "ratio_sd", "chosen", "eliminated", "test_ratio", "si_sdr_gain_db"),
)


def trials_table(run: RunState) -> "DataFrame":
    """The search's trials, a row each; for columns see `Run.trials`. `run` keeps its history."""
    rows = [_trial(run, job) for job in run.jobs_of("search").values()]
    return _table(rows, TRIAL_COLUMNS).set_index("id")


def _trial(run: RunState, job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": job.state,
        "reason": job.reason,
        "epochs": job.epochs,
        "ratio": _number(job.ratio),
        "seconds": sum(epoch.seconds for epoch in job.history),
        "reference": job.id == run.search.get("reference"),
        "spared": job.spared,
        "retries": len(job.retries),
        "jumps": job.jumps,
        "dead": ",".join(job.dead),
        **{f"ratio_{code}": _number(ratio) for code, ratio in job.ratios.items()},
        **_params(job.params),
    }


def curves_table(run: RunState) -> "DataFrame":
    """All epochs of all jobs, a row for every instrument; for columns see `Run.curves`. `run` keeps its history."""
    table = _table([row for job in run.jobs.values() for row in _curve(job)], CURVE_COLUMNS)
    return table.astype({"seed": "Int64"})


def _curve(job: Job) -> Iterator[dict[str, Any]]:
    for epoch in job.history:
        for member in epoch.members:
            numbers: Mapping[str, Any] = {**member}
            seed = job.seed if job.seed is not None else numbers.get("seed")
            yield {
                "stage": job.stage,
                "id": job.id,
                "configuration": job.configuration or job.id,
                "seed": seed,
                "epoch": epoch.epoch,
                "instrument": numbers["instrument"],
                **{name: _number(numbers.get(name)) for name in CURVE_NUMBERS},
                "discontinuity": bool(numbers.get("discontinuity")),
                "mean_ratio": _number(epoch.ratio),
                "seconds": epoch.seconds,
                "examples_per_second": epoch.examples_per_second or math.nan,
            }


def finalists_table(run: RunState) -> "DataFrame":
    """The finalists' models, a row for every instrument and seed; for columns see `Run.finalists`."""
    rows = [row for one in run.finals.values() for row in _finalist(run, one)]
    rows.sort(key=lambda row: run.codes.index(row["instrument"]) if row["instrument"] in run.codes else 0)
    return _table(rows, FINALIST_COLUMNS)


def _finalist(run: RunState, one: "SeedRun") -> Iterator[dict[str, Any]]:
    final: Mapping[str, Any] = run.scores["final"] if run.scores else {}
    candidates: Mapping[str, Any] = run.scores.get("candidates", {}) if run.scores else {}
    alike = [other for other in run.finals.values() if other.finalist == one.finalist and other.weights]
    for code, member in one.members.items():
        row = final.get(code, {})
        chosen = (row.get("configuration"), row.get("seed")) == (one.finalist.id, one.seed)
        scored = candidates.get(code, {}).get(one.id, row if chosen else {})
        mean, sd = mean_and_sd([other.members[code].ratio for other in alike if code in other.members])
        yield {
            "instrument": code,
            "candidate": one.id,
            "configuration": one.finalist.id,
            "seed": one.seed,
            "trial": one.finalist.trial,
            "reference": one.finalist.reference,
            "state": one.state or "running",
            "epoch": member.epoch,
            "val_loss": _number(member.val_loss),
            "ratio": _number(member.ratio),
            "discontinuities": member.discontinuities,
            "ratio_mean": mean,
            "ratio_sd": sd,
            "chosen": chosen,
            "eliminated": run.eliminated.get(one.finalist.id, ""),
            "test_ratio": _number(scored.get("test_ratio")),
            "si_sdr_gain_db": _number(scored.get("si_sdr_gain_db")),
            **_params(one.finalist.params),
        }


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> "DataFrame":
    """Rows as a data frame that has these columns in any case, and behind them the others in the order of rows."""
    import pandas

    others = dict.fromkeys(name for row in rows for name in row if name not in columns)
    return pandas.DataFrame(rows, columns=[*columns, *sorted(others, key=lambda name: name.startswith("params_"))])


def _params(params: Mapping[str, Any]) -> dict[str, Any]:
    return {f"params_{name}": value for name, value in params.items()}


def _number(value: float | None) -> float:
    """A number for a column of floats: NaN for none."""
    return math.nan if value is None or math.isinf(value) else value
