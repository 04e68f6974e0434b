"""`results.json`, which follows from the journal alone."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from sepsearch.models.size import known_parameters
from sepsearch.runs.job import Job
from sepsearch.runs.run_folder import JOURNAL
from sepsearch.runs.state import RunState, reduce_events
from sepsearch.runs.verdict import Verdict, judge_models
from sepsearch.search.events import FinalistRecord, KnownRun
from sepsearch.search.journal import read_run
from sepsearch.training.metrics import mean_and_sd, mean_interval
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import write_atomically

LEFT_OUT = "leave one title out"  # how instruments with too few titles are scored

# Model loss / identity loss as Iyer 2021 prints them (section 5), tuned on test data and split without shuffling:
# a figure to name, not one that was reached under the same conditions.
REFERENCE_RATIOS = {
    "vn": 0.437,
    "va": 0.674,
    "vc": 0.434,
    "db": 0.273,
    "fl": 0.427,
    "ob": 0.369,
    "cl": 0.868,
    "sax": 0.506,
    "bn": 0.454,
    "tpt": 0.417,
    "hn": 0.326,
    "tbn": 0.422,
    "tba": 0.260,
}


def build_results(run: RunState) -> dict[str, Any]:
    """The content of `results.json` at any state of a run.

    Numbers that do not exist are null. `baselines` are those of the validation split. `champions` has per instrument
    what became of the registry's alias: name, version, before, now, why. `stopped`: rule and reason of a search that
    has ended before its last trial.

    Raises:
        UserError: an event lacks what results are made of; it was made by hand.
    """
    try:
        return _build(run)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        problem = f"an event does not hold what results are made of ({type(error).__name__})"
        raise UserError(f"journal: {problem}, expected what a run writes: restore the file") from error


def write_results(folder: Path) -> dict[str, Any]:
    """Write `results.json` from the journal of a run's folder, and return its content."""
    results = build_results(reduce_events(read_run(folder / JOURNAL)))
    write_atomically(folder / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    return results


def _build(run: RunState) -> dict[str, Any]:
    search, scores, final = run.search, run.scores, {}
    seconds: dict[str, float] = {}
    if search:
        seconds["prepare"] = search["seconds"]
    if run.search_seconds is not None:
        seconds["search"] = run.search_seconds
    if scores:
        seconds["retrain"] = scores["seconds"]
        final = {
            code: {**row, **({"model_uri": run.models[code]} if code in run.models else {})}
            for code, row in scores["final"].items()
        }
    dataset = search["dataset"] if search else {}
    trials = run.jobs_of("search")
    return {
        "name": search["name"] if search else "",
        "fingerprint": dataset["fingerprint"] if search else "",
        "space": search["space"] if search else {},
        "dataset": {key: dataset[key] for key in ("source", "pieces", "clips", "rows", "split")} if search else {},
        "baselines": search["baselines"]["validation"] if search else {},
        "trials": [_trial(job) for job in trials.values()],
        "reference": search["reference"] if search else None,
        "known": [_known(one) for one in run.known],
        "stopped": {"rule": run.stopped["rule"], "reason": run.stopped["reason"]} if run.stopped else None,
        "finalists": [_finalist(run, one, final) for one in run.configurations or ()],
        "final": final,
        "reference_final": scores["reference_final"] if scores else {},
        "candidates": scores.get("candidates", {}) if scores else {},
        "verdicts": {one.instrument: {"verdict": one.kind, "reason": one.reason} for one in _verdicts(final, search)},
        "champions": run.champions,
        "seconds": seconds,
    }


def _verdicts(final: Mapping[str, Any], search: Mapping[str, Any]) -> list[Verdict]:
    return judge_models(final, search["baselines"]["validation"]) if final else []


def _known(run: KnownRun) -> dict[str, Any]:
    """An earlier run whose completed trials the sampler's study began with, and how many of them."""
    counts: dict[str, Any] = {key: run[key] for key in ("completed", "outside", "repeated", "reference")}
    return {"name": run["name"], "run": run["run"], "place": run["place"], "entered": len(run["trials"]), **counts}


def _trial(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "params": job.params,
        "state": job.state,
        "reason": job.reason,
        "epochs": job.epochs,
        "ratio": job.ratio,
        "ratios": job.ratios,
        "parameters": job.size,
        "examples_per_second": job.speed,
        **({"dead": list(job.dead)} if job.dead else {}),
    }


def _finalist(run: RunState, configuration: FinalistRecord, final: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `finalists`; ratios are means over instruments."""
    of = [one for one in run.finals.values() if one.finalist.id == configuration["id"]]
    runs = [one for one in of if one.state == "completed" and one.members]
    # An instrument with nothing to separate in its validation examples has no ratio.
    bests = [mean_and_sd([member.ratio for member in one.members.values()])[0] for one in runs]
    bests = [ratio for ratio in bests if math.isfinite(ratio)]
    mean, sd = mean_and_sd(bests)
    trial = run.jobs.get(configuration["trial"])
    # The same number of epochs: what is left of the difference is luck, of which the search picked the best.
    again = [ratio for one in runs if trial and (ratio := one.ratios.get(trial.epochs)) is not None]
    repeated = fmean(again) if again and len(again) == len(runs) else None
    search = trial.ratio if trial else None
    return {
        **configuration,
        "parameters": configuration.get("parameters") or known_parameters(configuration["params"]),
        "infeasible": configuration.get("infeasible", ""),
        "eliminated": run.eliminated.get(configuration["id"], ""),
        "seeds": sorted(one.seed for one in runs),
        "ratio_mean": mean if bests else None,
        "ratio_sd": sd if bests else None,
        "ratio_interval": mean_interval(bests),
        "examples_per_second": max((one.speed for one in runs if one.speed is not None), default=None),
        "search_ratio": search,
        "search_epochs": trial.epochs if trial else None,
        "retrained_ratio": repeated,
        "curse": None if repeated is None or search is None else repeated - search,
        "discontinuities": sum(m.discontinuities for one in runs for m in one.members.values()),
        "chosen": [code for code, row in final.items() if row.get("configuration") == configuration["id"]],
    }


def has_named_scores(final: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether any final model was scored with the players named; runs of earlier versions have none."""
    keys = ("named_test_ratio", "named_si_sdr_gain_db")
    return any(row.get(key) is not None for row in final.values() for key in keys)
