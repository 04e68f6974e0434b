"""`results.json`, and the table of final models on the screen: both follow from the journal alone."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.models.size import known_parameters
from sepsearch.runs.job import Job
from sepsearch.runs.run_folder import JOURNAL
from sepsearch.runs.state import RunState, reduce_events
from sepsearch.runs.verdict import VOLUME, WORKS, Verdict, decibels, judge_models
from sepsearch.search.events import FinalistRecord, KnownRun
from sepsearch.search.journal import read_run
from sepsearch.training.metrics import mean_and_sd, mean_interval
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import write_atomically
from sepsearch.utils.formatting import number

if TYPE_CHECKING:
    from rich.table import Table

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


def final_table(results: Mapping[str, Any], caveats: Mapping[str, str]) -> "Table":
    """Instrument, SI-SDR gain, ratio mean ± sd over seeds, test ratio, two opponents, losses; the best gain first."""
    from rich import box
    from rich.table import Table

    title = f"Final models of {results['name']}"
    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE, pad_edge=False)
    table.add_column("instrument", no_wrap=True)
    headings = ("SI-SDR\ngain, dB", "oracle's\ngain, dB", "ratio ± sd", "test\nratio", "constant\ngain")
    for heading in (*headings, "reference\nnetwork", "as\nprinted", "identity\nloss", "model\nloss"):
        table.add_column(heading, justify="right")
    for verdict in judge_models(results["final"], results["baselines"]):
        code = verdict.instrument
        final, reference = results["final"][code], results["reference_final"].get(code, {})
        jumps = f" {final['discontinuities']}↯" if final["discontinuities"] else ""
        baselines = {name: losses[code] for name, losses in results["baselines"].items()}
        table.add_row(
            f"{verdict.name}{'*' if code in caveats else ''}",
            decibels(final["si_sdr_gain_db"]),
            number(_oracle_gain(final), 1),
            f"{number(final['ratio_mean'])} ± {number(final['ratio_sd'])}{jumps}",
            number(final["test_ratio"]),
            number(baselines["gain"] / baselines["identity"] if baselines["identity"] else None),
            f"{number(reference.get('ratio_mean'))} ± {number(reference.get('ratio_sd'))}",
            number(REFERENCE_RATIOS[code]),
            number(final["identity_loss"], 4),
            number(final["val_loss"], 4),
            style="green" if verdict.kind == WORKS else "dim" if verdict.kind == VOLUME else "",
        )
    table.caption = "\n".join(_notes(results, caveats))
    return table


def has_named_scores(final: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether any final model was scored with the players named; runs of earlier versions have none."""
    keys = ("named_test_ratio", "named_si_sdr_gain_db")
    return any(row.get(key) is not None for row in final.values() for key in keys)


def named_table(results: Mapping[str, Any]) -> "Table | None":
    """Test ratio and SI-SDR gain, plain and with the players named; None where nothing was scored so.

    A table of its own: the final table is as wide as a terminal, and none of its other columns compares with these.
    """
    from rich import box
    from rich.table import Table

    if not has_named_scores(results["final"]):
        return None
    title = "With the players named (separate --players)"
    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE, pad_edge=False)
    table.add_column("instrument", no_wrap=True)
    for heading in ("test\nratio", "players\nnamed", "SI-SDR\ngain, dB", "players\nnamed"):
        table.add_column(heading, justify="right")
    for code, final in results["final"].items():
        gains = (final["si_sdr_gain_db"], final.get("named_si_sdr_gain_db"))
        ratios = (final["test_ratio"], final.get("named_test_ratio"))
        numbers = [number(ratio) for ratio in ratios] + [decibels(gain) for gain in gains]
        table.add_row(INSTRUMENTS[code], *numbers)
    table.caption = (
        "players named: masks are divided by their sum over\n"
        "the instruments that play. A dash: one of them has no\n"
        "final model, or one that has seen the clips. Nothing\n"
        "is chosen by these."
    )
    return table


def _oracle_gain(final: Mapping[str, Any]) -> float | None:
    gain: float | None = final.get("audio", {}).get("oracle_gain", {}).get("si_sdr_db")
    return gain


def _notes(results: Mapping[str, Any], caveats: Mapping[str, str]) -> Iterator[str]:
    """How the final table must be read."""
    rows: Sequence[Mapping[str, Any]] = list(results["final"].values())
    yield "ratio: loss / identity loss on validation titles, mean and sd over seeds; below 1 beats doing nothing."
    yield "constant gain, reference network (Iyer 2021): their ratios here. as printed: Iyer's, tuned on test data."
    gains = [row["si_sdr_gain_db"] for row in rows if row["si_sdr_gain_db"] is not None]
    if gains:
        oracle = [gain for row in rows if (gain := _oracle_gain(row)) is not None]
        beside = f"; of the oracle mask, {number(median(oracle), 1)} dB" if oracle else ""
        yield f"SI-SDR gain on test titles, median over instruments: {number(median(gains), 1)} dB{beside}."
    for finalist in results.get("finalists", ()):
        if finalist["curse"] is not None:
            best = f"{finalist['id']} ({finalist['trial']}): {number(finalist['search_ratio'])} in the search"
            yield f"{best}, {number(finalist['retrained_ratio'])} retrained for as long."
    if any(row["discontinuities"] for row in rows):
        yield "↯: how often a loss jumped."
    out = [code for code, row in results["final"].items() if row.get("protocol") == LEFT_OUT]
    if out:
        yield f"test ratio and gain of {', '.join(map(_name, out))}: one title left out of training at a time."
    for code, row in results["final"].items():
        if reason := row.get("choice_reason"):
            yield f"{_name(code)}: {reason}."
    for code, text in caveats.items():
        yield f"* {_name(code)}: {text}"


def _name(code: str) -> str:
    return INSTRUMENTS.get(code, code)
