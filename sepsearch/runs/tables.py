"""Rows of a run as plain tables: its trials, its learning curves, its finalists by instrument and seed.

Every function returns a list of dictionaries with the same keys in the same order; numbers that do not exist are None.
`*_COLUMNS` say what the columns are; a name that ends with `*` stands for one column for each instrument or parameter.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from sepsearch.runs.job import Job
from sepsearch.runs.state import RunState

Row = dict[str, Any]

TRIAL_COLUMNS = {
    "run": "name of the run",
    "trial": "id of the trial, in the order in which they began",
    "reference": "whether it trains the reference network",
    "state": "running, completed, stopped or failed",
    "reason": "why it was stopped or failed",
    "epochs": "epochs done",
    "ratio": "validation loss / identity loss after its last epoch, mean over instruments",
    "best_ratio": "the smallest of its epochs' ratios",
    "seconds": "how long its epochs took together",
    "finished_at": "seconds of the search when its last epoch was done, without pauses of an interrupted run",
    "exempt": "whether it ran on where early stopping would have ended it (spared_share)",
    "dead": "codes of instruments whose network puts out nothing but zeros, separated by spaces",
    "ratio_*": "ratio of one instrument after the last epoch, such as ratio_vn",
    "params_*": "value of one parameter, such as params_filters; None where the trial has no such parameter",
}
CURVE_COLUMNS = {
    "run": "name of the run",
    "stage": "search, finalists or leave-one-title-out",
    "job": "id of the trial, or of the finalist and seed, such as c0-s1",
    "configuration": "id of the finalist's configuration; empty in the search",
    "seed": "seed of the finalist; None in the search",
    "epoch": "from 1 on",
    "seconds": "how long the epoch took",
    "at": "seconds of work on the stage when the epoch was done, without pauses of an interrupted run",
    "instrument": "code",
    "ratio": "validation loss / identity loss of the instrument",
    "val_loss": "validation loss of the instrument",
    "train_loss": "training loss of the instrument",
    "discontinuity": "whether the validation loss jumped at this epoch",
    "mean_ratio": "mean of `ratio` over the job's instruments at this epoch",
}
SEED_COLUMNS = {
    "run": "name of the run",
    "instrument": "code",
    "configuration": "id of the finalist's configuration, such as c0",
    "trial": "id of the trial that it comes from",
    "reference": "whether it is the reference network",
    "seed": "seed of this training",
    "state": "running, completed, stopped or failed",
    "epochs": "epochs done",
    "epoch": "the best one, by the instrument's validation loss",
    "val_loss": "validation loss at that epoch",
    "ratio": "validation loss / identity loss at that epoch",
    "discontinuities": "how often the validation loss jumped",
    "chosen": "whether this network is the instrument's final model",
    "test_ratio": "of the final model on test titles; None for others",
    "si_sdr_gain_db": "SI-SDR gain of the final model on test titles in dB; None for others",
}


def trial_rows(run: RunState) -> list[Row]:
    """The run's trials, one row each; columns as in TRIAL_COLUMNS.

    Args:
        run: reduced with `history`; without it `best_ratio`, `seconds` and `finished_at` are None.
    """
    jobs = list(run.jobs_of("search").values())
    params = dict.fromkeys(name for job in jobs for name in job.params)
    return [_trial_row(run, job, params) for job in jobs]


def _trial_row(run: RunState, job: Job, params: Iterable[str]) -> Row:
    ratios = [ratio for one in job.history if (ratio := finite(one.ratio)) is not None]
    return {
        "run": run.name,
        "trial": job.id,
        "reference": job.id == run.search.get("reference"),
        "state": job.state,
        "reason": job.reason,
        "epochs": job.epochs,
        "ratio": finite(job.ratio),
        "best_ratio": min(ratios, default=None),
        "seconds": sum(one.seconds for one in job.history) if job.history else None,
        "finished_at": job.history[-1].at if job.history else None,
        "exempt": job.spared,
        "dead": " ".join(job.dead),
        **{f"ratio_{code}": finite(job.ratios.get(code)) for code in run.codes},
        **{f"params_{name}": job.params.get(name) for name in params},
    }


def curve_rows(run: RunState) -> list[Row]:
    """Every epoch of every job, one row for each instrument; columns as in CURVE_COLUMNS.

    Args:
        run: reduced with `history`; without it there are no rows.
    """
    return [
        {
            "run": run.name,
            "stage": job.stage,
            "job": job.id,
            "configuration": job.configuration,
            "seed": job.seed,
            "epoch": one.epoch,
            "seconds": one.seconds,
            "at": one.at,
            "instrument": code,
            "ratio": finite(one.ratios.get(code)),
            "val_loss": finite(one.losses.get(code)),
            "train_loss": finite(one.train_losses.get(code)),
            "discontinuity": code in one.jumps,
            "mean_ratio": finite(one.ratio),
        }
        for job in run.jobs.values()
        for one in job.history
        for code in one.losses
    ]


def seed_rows(run: RunState) -> list[Row]:
    """The finalists, one row for each instrument, configuration and seed; columns as in SEED_COLUMNS."""
    final: Mapping[str, Mapping[str, Any]] = run.scores["final"] if run.scores else {}
    rows = []
    for one in run.finals.values():
        for code, member in one.members.items():
            scored = final.get(code, {})
            chosen = (scored.get("configuration"), scored.get("seed")) == (one.finalist.id, one.seed)
            rows.append(
                {
                    "run": run.name,
                    "instrument": code,
                    "configuration": one.finalist.id,
                    "trial": one.finalist.trial,
                    "reference": one.finalist.reference,
                    "seed": one.seed,
                    "state": run.jobs[one.id].state,
                    "epochs": one.epochs,
                    "epoch": member.epoch or None,
                    "val_loss": finite(member.val_loss),
                    "ratio": finite(member.ratio),
                    "discontinuities": member.discontinuities,
                    "chosen": chosen,
                    "test_ratio": finite(scored.get("test_ratio")) if chosen else None,
                    "si_sdr_gain_db": finite(scored.get("si_sdr_gain_db")) if chosen else None,
                }
            )
    return rows


def finite(value: float | None) -> float | None:
    """The value, or None where it is not a finite number."""
    return None if value is None or not math.isfinite(value) else value
