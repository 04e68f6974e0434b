"""What MLflow gets of the end of a search: finalists with what they were chosen for, and a run per instrument.

The run of an instrument, named by its code, holds its final model: configuration, ratios, test scores, a picture and
audio to listen to. So `tags.stage = 'finalist' and tags.instrument = 'vn'` finds the violin model of every search, and
with `tags.instrument = 'all'` every finalist and seed. A run per finalist, seed and instrument would be hundreds, and
say nothing that `final_ratio/vn` of the finalist's run does not.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.search.events import Event
from sepsearch.tracking.descriptions import audio_number, describe_final, describe_finalist
from sepsearch.tracking.records import Work, flat
from sepsearch.training.metrics import mean_and_sd

AUDIO = ("mixture", "target", "estimate")


@dataclass
class _Unit:
    """A finalist and seed: of every instrument the best epoch so far, (validation loss, ratio, epoch)."""

    configuration: str
    seed: int
    params: Mapping[str, Any]
    best: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    end: str = ""  # why it has no weights

    @property
    def ratios(self) -> dict[str, float]:
        """Instrument → ratio of the weights that are kept."""
        return {code: ratio for code, (_, ratio, _) in self.best.items()}


class FinalRuns:
    """Finalists and final models of one search, as MLflow's runs.

    Args:
        run: gives the work of a run, by its id and the time in ms.
        folder: of the run; None if pictures and audio need not be found.
    """

    def __init__(self, run: Callable[[str, int], Work], folder: Path | None):
        self._run, self._folder = run, folder
        self.units: dict[str, _Unit] = {}
        self.chosen: dict[str, str] = {}  # instrument → unit
        self.reference: set[str] = set()  # configurations
        self._eliminated: dict[str, str] = {}  # configuration → reason
        self._wanted: dict[str, int] = {}  # instruments whose audio is still to be sent → time

    def begin(self, event: Event) -> None:
        """A finalist and seed begins."""
        self.units[event["id"]] = _Unit(event["configuration"], event["seed"], event["params"])

    def epoch(self, event: Event) -> None:
        """Keep the best epoch of every instrument: those are the weights that are saved."""
        unit = self.units.get(event["id"])
        if unit is None:
            return
        for member in event["members"]:
            loss, ratio = member.get("val_loss"), member.get("ratio")
            known = unit.best.get(member["instrument"], (math.inf, math.inf, 0))
            if loss is not None and ratio is not None and loss < known[0]:
                unit.best[member["instrument"]] = (loss, ratio, event["epoch"])

    def end(self, event: Event, now: int, name: str) -> None:
        """Numbers to choose by: the ratios of the weights that were kept, and their mean over instruments."""
        unit = self.units.get(event["id"])
        if unit is None:
            return
        unit.end = "" if event.get("weights") else event.get("reason") or event["state"]
        if not unit.end:
            run = self._run(event["id"], now)
            for code, ratio in unit.ratios.items():
                run.metric(f"final_ratio/{code}", ratio, now)
            run.metric("final_ratio_mean", mean_and_sd(list(unit.ratios.values()))[0], now)
        self._describe(event["id"], now, name)

    def eliminated(self, event: Event, now: int) -> None:
        """A finalist that gets no more seeds, because it could not win."""
        self._eliminated[event["id"]] = event.get("reason") or "could not win any more"
        for id, unit in self.units.items():
            if unit.configuration == event["id"]:
                self._run(id, now).tags["eliminated"] = self._eliminated[event["id"]]

    def scores(self, event: Event, search: Event, now: int) -> None:
        """A run per instrument, and what each finalist was chosen for."""
        self.chosen = {code: unit for code, row in event["final"].items() if (unit := self._unit_of(code, row))}
        for code, unit in self.chosen.items():
            row, run = event["final"][code], self._run(unit, now)
            run.tags[f"chosen.{code}"] = "true"
            for key in ("test_ratio", "si_sdr_gain_db"):
                run.metric(f"{key}/{code}", row.get(key), now)
            self._final(code, unit, row, event["reference_final"].get(code, {}), search, now)
            self._wanted[code] = now
        for unit in sorted(set(self.chosen.values())):
            self._run(unit, now).tags["chosen"] = ", ".join(c for c in self.chosen if self.chosen[c] == unit)
            self._describe(unit, now, search["name"])

    def registered(self, models: Mapping[str, str], now: int) -> None:
        """Where an instrument's model is in the registry."""
        for code, model in models.items():
            if code in self.chosen:
                self._run(code, now).tags["model"] = model

    def add_samples(self) -> None:
        """Add pictures and audio of the final models, as soon as they are in the run's folder.

        Raises:
            UserError: they are damaged.
        """
        if self._folder is None or not self._wanted:
            return
        from sepsearch.evaluation.audio_samples import read_samples
        from sepsearch.reporting.style import png, sample_figure

        samples = read_samples(self._folder)
        for code in sorted(self._wanted.keys() & samples.keys()):
            run = self._run(code, self._wanted.pop(code))
            run.files["spectrograms.png"] = png(sample_figure(samples[code]))
            for name in AUDIO:
                run.files[f"audio/{name}.mp3"] = (self._folder / "samples" / code / f"{name}.mp3").read_bytes()

    def _unit_of(self, code: str, row: Mapping[str, Any]) -> str | None:
        """The finalist and seed whose weights an instrument's model has; older journals tell it by its loss alone."""
        if "configuration" in row:
            named = (row["configuration"], row.get("seed"))
            return next((id for id, unit in self.units.items() if (unit.configuration, unit.seed) == named), None)
        loss = row.get("val_loss")
        return next(
            (id for id, u in self.units.items() if loss is not None and u.best.get(code, (None,))[0] == loss), None
        )

    def _final(
        self, code: str, unit: str, row: Mapping[str, Any], reference: Mapping[str, Any], search: Event, now: int
    ) -> None:
        """The run of an instrument's final model."""
        run, of = self._run(code, now), self.units[unit]
        run.params |= flat(row.get("params", of.params))
        caveat = search["caveats"].get(code, "")
        run.tags |= {
            "stage": "finalist", "instrument": code, "instrument_name": INSTRUMENTS.get(code, code), "unit": unit,
            "configuration": of.configuration, "seed": str(of.seed), "state": "completed",
        }  # fmt: skip
        run.tags |= {"reference": "true"} if of.configuration in self.reference else {}
        run.tags |= {key: text for key, text in (("caveat", caveat), ("protocol", row.get("protocol"))) if text}
        gain = _ratio(search["baselines"].get("validation", {}), "gain", code)
        for key, value in _numbers(row, reference, gain, of.best.get(code, (0, 0, None))[2]).items():
            run.metric(key, value, now)
        run.tags["mlflow.note.content"] = describe_final(search["name"], code, unit, row, gain, caveat)
        run.status = ("FINISHED", now)

    def _describe(self, id: str, now: int, name: str) -> None:
        unit = self.units[id]
        chosen = [code for code, by in self.chosen.items() if by == id]
        self._run(id, now).tags["mlflow.note.content"] = describe_finalist(name, id, unit.ratios, chosen, unit.end)


def _ratio(losses: Mapping[str, Any], baseline: str, code: str) -> float | None:
    """Loss of a baseline / identity loss."""
    identity, loss = (losses.get(name, {}).get(code) for name in ("identity", baseline))
    return loss / identity if identity and loss is not None else None


def _numbers(
    row: Mapping[str, Any], reference: Mapping[str, Any], gain: float | None, epoch: int | None
) -> dict[str, Any]:
    """The columns of an instrument's run."""
    low, high = row.get("ratio_interval") or (None, None)
    keys = ("ratio", "ratio_mean", "ratio_sd", "test_ratio", "val_loss", "identity_loss", "discontinuities")
    numbers = {key: row.get(key) for key in keys} | {"si_sdr_gain_db": row.get("si_sdr_gain_db")}
    numbers |= {
        "ratio_low": low,
        "ratio_high": high,
        "epoch": row.get("epoch", epoch),
        "seeds": len(row.get("seeds", [])),
    }
    numbers |= {"constant_gain_ratio": gain, "reference_ratio": reference.get("ratio")}
    for name, part in {"sdr_gain_db": "gain", "oracle_sdr_gain_db": "oracle_gain"}.items():
        numbers[name] = audio_number(row, part, "sdr_db")
    numbers["oracle_si_sdr_gain_db"] = audio_number(row, "oracle_gain", "si_sdr_db")
    numbers["si_sdr_db"] = audio_number(row, "estimate", "si_sdr_db")
    numbers["test_titles"] = (row.get("audio") or {}).get("titles")
    return numbers
