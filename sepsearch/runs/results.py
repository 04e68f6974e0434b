"""`results.json` and the table on the screen, both made from the journal's events alone."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.runs.run_folder import JOURNAL
from sepsearch.search.journal import read_run
from sepsearch.search.selection import Finalist, SeedRun
from sepsearch.training.metrics import mean_and_sd, mean_interval
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import write_atomically
from sepsearch.utils.formatting import number

if TYPE_CHECKING:
    from rich.table import Table

Event = dict[str, Any]

LEFT_OUT = "leave one title out"  # how instruments with too few titles are scored

# Model loss / identity loss as the report prints them (section 5), tuned on its test data and split without shuffling:
# a figure to name, not one that was reached under the same conditions.
REPORT_RATIOS = {
    "vn": 0.437, "va": 0.674, "vc": 0.434, "db": 0.273, "fl": 0.427, "ob": 0.369, "cl": 0.868,
    "sax": 0.506, "bn": 0.454, "tpt": 0.417, "hn": 0.326, "tbn": 0.422, "tba": 0.260,
}  # fmt: skip


def build_results(events: Iterable[Event]) -> dict[str, Any]:
    """The content of `results.json`: what is known so far, for a journal at any point.

    Numbers that do not exist are null. `baselines` are those of the validation side. `champions` says per instrument
    what became of the registry's alias: name, version, before, now, why.

    Raises:
        UserError: an event lacks what results are made of; only a person can have written such a one.
    """
    try:
        return _build(events)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        problem = f"an event does not hold what results are made of ({type(error).__name__})"
        raise UserError(f"journal: {problem}, expected what a run writes: restore the file") from error


def write_results(folder: Path) -> dict[str, Any]:
    """Write `results.json` from the journal of a run's folder, and return its content."""
    results = build_results(read_run(folder / JOURNAL))
    write_atomically(folder / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    return results


def _build(events: Iterable[Event]) -> dict[str, Any]:
    results: dict[str, Any] = {
        "name": "", "fingerprint": "", "space": {}, "dataset": {}, "baselines": {}, "trials": [],
        "reference": None, "finalists": [], "final": {}, "reference_final": {}, "champions": {},
        "seconds": {},
    }  # fmt: skip
    trials: dict[str, dict[str, Any]] = {}
    retrained = Retrained()
    search: Event = {}
    for event in events:
        retrained.add(event)
        match event["event"]:
            case "search" | "resume":
                search |= event.get("changed", event)
                dataset = search["dataset"]
                results |= {key: search[key] for key in ("name", "space", "reference")}
                results["fingerprint"] = dataset["fingerprint"]
                results["dataset"] = {key: dataset[key] for key in ("source", "pieces", "clips", "rows", "split")}
                results["baselines"] = search["baselines"]["validation"]
                results["seconds"]["prepare"] = search["seconds"]
                for trial in trials.values():
                    if trial["reason"] == "interrupted" or trial["id"] in event.get("units", ()):
                        trial |= {"state": "running", "reason": ""}
            case "trial":
                trials[event["id"]] = {
                    "id": event["id"], "params": event["params"], "state": "running", "reason": "",
                    "epochs": 0, "ratio": None, "ratios": {},
                }  # fmt: skip
            case "epoch":
                ratios = {member["instrument"]: member["ratio"] for member in event["members"]}
                trials[event["id"]] |= {"epochs": event["epoch"], "ratio": event["ratio"], "ratios": ratios}
            case "trial_end":
                trials[event["id"]] |= {key: event[key] for key in ("state", "reason", "epochs")}
            case "finalists":
                results["seconds"]["search"] = event["seconds"]
            case "scores":
                results |= {key: event[key] for key in ("final", "reference_final")}
                results["seconds"]["retrain"] = event["seconds"]
            case "registered":
                for code, uri in event["models"].items():
                    results["final"][code] = {**results["final"][code], "model_uri": uri}
                results["champions"] |= event.get("champions", {})
    results["trials"] = list(trials.values())
    results["finalists"] = retrained.table(trials, results["final"])
    return results


class Retrained:
    """The finalists as the journal tells of them: over their seeds, and beside what the search thought of them."""

    def __init__(self) -> None:
        self.configurations: list[dict[str, Any]] = []
        self.eliminated: dict[str, str] = {}
        self.runs: dict[str, SeedRun] = {}
        self.ratios: dict[str, dict[int, float]] = {}  # run → epoch → ratio
        self.completed: set[str] = set()

    def add(self, event: Event) -> None:
        """Take in an event of any kind."""
        match event["event"]:
            case "finalists":
                self.configurations = event["configurations"]
            case "final":
                finalist = Finalist(event["configuration"], "", event["params"], False)
                self.runs[event["id"]] = SeedRun(event["id"], finalist, event["seed"])
            case "final_epoch":
                self.runs[event["id"]].add_epoch(event)
                self.ratios.setdefault(event["id"], {})[event["epoch"]] = event["ratio"]
            case "final_end" if event["state"] == "completed":
                self.completed.add(event["id"])
            case "final_end":  # trained again, as its weights were lost
                self.completed.discard(event["id"])
            case "eliminated":
                self.eliminated[event["id"]] = event["reason"]

    def table(self, trials: Mapping[str, Mapping[str, Any]], final: Mapping[str, Any]) -> list[dict[str, Any]]:
        """`finalists` of `results.json`; ratios are means over instruments."""
        return [self._row(configuration, trials, final) for configuration in self.configurations]

    def _row(
        self, configuration: Mapping[str, Any], trials: Mapping[str, Mapping[str, Any]], final: Mapping[str, Any]
    ) -> dict[str, Any]:
        runs = [
            run
            for run in self.runs.values()
            if run.finalist.id == configuration["id"] and run.id in self.completed and run.members
        ]
        # An instrument with nothing to separate in its validation examples has no ratio.
        bests = [mean_and_sd([member.ratio for member in run.members.values()])[0] for run in runs]
        bests = [ratio for ratio in bests if math.isfinite(ratio)]
        mean, sd = mean_and_sd(bests)
        trial = trials.get(configuration["trial"], {})
        # The same number of epochs: what is left of the difference is luck, of which the search picked the best.
        epoch = trial.get("epochs", 0)
        again = [ratios[epoch] for run in runs if epoch in (ratios := self.ratios[run.id])]
        repeated = fmean(again) if again and len(again) == len(runs) else None
        search = trial.get("ratio")
        return {
            **configuration,
            "eliminated": self.eliminated.get(configuration["id"], ""),
            "seeds": sorted(run.seed for run in runs),
            "ratio_mean": mean if bests else None,
            "ratio_sd": sd if bests else None,
            "ratio_interval": mean_interval(bests),
            "search_ratio": search,
            "search_epochs": trial.get("epochs"),
            "retrained_ratio": repeated,
            "curse": None if repeated is None or search is None else repeated - search,
            "discontinuities": sum(m.discontinuities for run in runs for m in run.members.values()),
            "chosen": [code for code, row in final.items() if row.get("configuration") == configuration["id"]],
        }


def final_table(results: Mapping[str, Any], caveats: Mapping[str, str]) -> "Table":
    """Instrument, identity loss, model loss, ratio mean ± sd over seeds, test ratio, SI-SDR gain, and two opponents."""
    from rich import box
    from rich.table import Table

    title = f"Final models of {results['name']}"
    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE, pad_edge=False)
    table.add_column("instrument", no_wrap=True)
    headings = ("identity\nloss", "model\nloss", "ratio ± sd", "test\nratio", "SI-SDR\ngain, dB", "oracle's\ngain, dB")
    for heading in (*headings, "constant\ngain", "report's\nnetwork", "as\nprinted"):
        table.add_column(heading, justify="right")
    for code, final in results["final"].items():
        reference = results["reference_final"].get(code, {})
        jumps = f" {final['discontinuities']}↯" if final["discontinuities"] else ""
        baselines = {name: losses[code] for name, losses in results["baselines"].items()}
        table.add_row(
            f"{code:3} {INSTRUMENTS[code]}{'*' if code in caveats else ''}",
            number(final["identity_loss"], 4),
            number(final["val_loss"], 4),
            f"{number(final['ratio_mean'])} ± {number(final['ratio_sd'])}{jumps}",
            number(final["test_ratio"]),
            number(final["si_sdr_gain_db"], 1),
            number(_oracle_gain(final), 1),
            number(baselines["gain"] / baselines["identity"] if baselines["identity"] else None),
            f"{number(reference.get('ratio_mean'))} ± {number(reference.get('ratio_sd'))}",
            number(REPORT_RATIOS[code]),
        )
    table.caption = "\n".join(_notes(results, caveats))
    return table


def _oracle_gain(final: Mapping[str, Any]) -> float | None:
    gain: float | None = final.get("audio", {}).get("oracle_gain", {}).get("si_sdr_db")
    return gain


def _notes(results: Mapping[str, Any], caveats: Mapping[str, str]) -> Iterator[str]:
    """How the final table must be read."""
    rows: Sequence[Mapping[str, Any]] = list(results["final"].values())
    yield "ratio: loss / identity loss on validation titles, mean and sd over seeds; below 1 beats doing nothing."
    yield "constant gain, report's network: their ratios here. as printed: the report's, tuned on its test data."
    gains = [row["si_sdr_gain_db"] for row in rows if row["si_sdr_gain_db"] is not None]
    if gains:
        oracle = [gain for row in rows if (gain := _oracle_gain(row)) is not None]
        beside = f"; of the mask that knows the voice, {number(median(oracle), 1)} dB" if oracle else ""
        yield f"SI-SDR gain on test titles, median over instruments: {number(median(gains), 1)} dB{beside}."
    for finalist in results.get("finalists", ()):
        if finalist["curse"] is not None:
            best = f"{finalist['id']} ({finalist['trial']}): {number(finalist['search_ratio'])} in the search"
            yield f"{best}, {number(finalist['retrained_ratio'])} retrained for as long."
    if any(row["discontinuities"] for row in rows):
        yield "↯: how often a loss jumped."
    out = [code for code, row in results["final"].items() if row.get("protocol") == LEFT_OUT]
    if out:
        yield f"test ratio and gain of {', '.join(out)}: one title left out of training at a time."
    for code, text in caveats.items():
        yield f"* {code}: {text}"
