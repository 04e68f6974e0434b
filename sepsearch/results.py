"""`results.json` and the table on the screen, both made from the journal's events alone."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sepsearch.errors import UserError
from sepsearch.instruments import INSTRUMENTS

if TYPE_CHECKING:
    from rich.table import Table

Event = dict[str, Any]

# Model loss / identity loss as the report prints them (section 5), tuned on its test data and split without shuffling:
# a figure to name, not one that was reached under the same conditions.
REPORT_RATIOS = {
    "vn": 0.437, "va": 0.674, "vc": 0.434, "db": 0.273, "fl": 0.427, "ob": 0.369, "cl": 0.868,
    "sax": 0.506, "bn": 0.454, "tpt": 0.417, "hn": 0.326, "tbn": 0.422, "tba": 0.260,
}  # fmt: skip


def build_results(events: Iterable[Event]) -> dict[str, Any]:
    """The content of `results.json`: what is known so far, for a journal at any point.

    Numbers that do not exist are null. `baselines` are those of the validation side.

    Raises:
        UserError: an event lacks what results are made of; only a person can have written such a one.
    """
    try:
        return _build(events)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        problem = f"an event does not hold what results are made of ({type(error).__name__})"
        raise UserError(f"journal: {problem}, expected what a run writes: restore the file") from error


def _build(events: Iterable[Event]) -> dict[str, Any]:
    results: dict[str, Any] = {
        "name": "", "fingerprint": "", "space": {}, "dataset": {}, "baselines": {}, "trials": [],
        "reference": None, "final": {}, "reference_final": {}, "seconds": {},
    }  # fmt: skip
    trials: dict[str, dict[str, Any]] = {}
    search: Event = {}
    for event in events:
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
                    if trial["reason"] == "interrupted":
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
    results["trials"] = list(trials.values())
    return results


def final_table(results: Mapping[str, Any], caveats: Mapping[str, str]) -> "Table":
    """Instrument, identity loss, model loss, ratio mean ± sd over seeds, test ratio, SI-SDR gain, and two opponents."""
    from rich import box
    from rich.table import Table

    title = f"Final models of {results['name']}"
    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE, pad_edge=False)
    table.add_column("instrument", no_wrap=True)
    headings = ("identity\nloss", "model\nloss", "ratio ± sd", "test\nratio", "SI-SDR\ngain, dB", "constant\ngain")
    for heading in (*headings, "report's\nnetwork", "as\nprinted"):
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
            number(baselines["gain"] / baselines["identity"] if baselines["identity"] else None),
            f"{number(reference.get('ratio_mean'))} ± {number(reference.get('ratio_sd'))}",
            number(REPORT_RATIOS[code]),
        )
    notes = [
        "ratio: loss / identity loss on validation titles, mean and sd over seeds; below 1 beats doing nothing.",
        "constant gain, report's network: their ratios here. as printed: the report's, tuned on its test data.",
    ]
    if any(final["discontinuities"] for final in results["final"].values()):
        notes.append("↯: how often a loss jumped.")
    notes += [f"* {code}: {text}" for code, text in caveats.items()]
    table.caption = "\n".join(notes)
    return table


def number(value: float | None, digits: int = 3) -> str:
    """A number for people; a dash for none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
