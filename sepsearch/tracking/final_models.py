"""Mapping of the end of a search to MLflow: finalists with what they were chosen for, and a run per instrument.

The run of an instrument, "violin · c0-s1", holds its final model: configuration, ratios, test scores, a picture and
audio to listen to. So `tags.stage = 'finalist' and tags.instrument = 'vn'` finds the violin model of every search, and
with `tags.instrument = 'all'` every finalist and seed. The other finalists' best seeds have such runs of stage
'candidate', with the same clip; of other seeds `final_ratio/vn` of the finalist's run has all that is known.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.runs.state import RunState
from sepsearch.runs.verdict import Verdict, baseline_ratio, judge_models, verdict_sentences
from sepsearch.search.events import EliminatedEvent, JobEndEvent, ScoresEvent
from sepsearch.search.selection import SeedRun
from sepsearch.tracking.descriptions import ModelFacts, audio_number, describe_final, describe_finalist
from sepsearch.tracking.records import Work, flat
from sepsearch.training.metrics import mean_and_sd

AUDIO = ("mixture", "target", "estimate")
DIGITS = 4  # of metrics to choose by; the journal has all
NAMED_SCORES = ("named_test_ratio", "named_si_sdr_gain_db")  # with the players named; older journals lack them


class FinalRuns:
    """Finalists and final models of one search, as MLflow's runs.

    Args:
        run: gives the work of a run, by its id and the time in ms.
        folder: of the run; None if pictures and audio need not be found.
        state: of the run, which has taken in every event before it comes here.
    """

    def __init__(self, run: Callable[[str, int], Work], folder: Path | None, state: RunState):
        self._run, self._folder, self._state = run, folder, state
        self._chosen: dict[str, str] = {}  # instrument → finalist and seed
        self._first: dict[str, str] = {}  # the same, of the first scores: its run is that of the instrument
        self._ended: dict[str, int] = {}  # finalist and seed → time
        self._wanted: dict[str, dict[str, str]] = {}  # instruments whose audio is still to be sent → finalist → run

    def end(self, event: JobEndEvent, now: int) -> None:
        """Numbers to choose by: the ratios of the weights that were kept, and their mean over instruments."""
        self._ended[event["id"]] = now
        if event.get("weights"):
            run, ratios = self._run(event["id"], now), self._ratios(event["id"])
            for code, ratio in ratios.items():
                run.metric(f"final_ratio/{code}", ratio, now)
            run.metric("final_ratio_mean", mean_and_sd(list(ratios.values()))[0], now)
        self._describe(event["id"], now)

    def _ratios(self, id: str) -> dict[str, float]:
        """Instrument → ratio of the weights that are kept."""
        members = self._state.finals[id].members
        return {code: member.ratio for code, member in members.items() if math.isfinite(member.ratio)}

    def eliminated(self, event: EliminatedEvent, now: int) -> None:
        """A finalist that gets no more seeds, because it could not win."""
        for id, run in self._state.finals.items():
            if run.finalist.id == event["id"]:
                self._run(id, now).tags["eliminated"] = event["reason"]

    def scores(self, event: ScoresEvent, now: int) -> None:
        """A run per instrument and candidate, and what each finalist was chosen for."""
        baselines = self._state.search["baselines"].get("validation", {})
        verdicts = {one.instrument: one for one in judge_models(event["final"], baselines)}
        chosen = {code: chosen_run(self._state.finals, code, row) for code, row in event["final"].items()}
        withdrawn = self._withdraw(chosen, now)
        self._chosen = {code: id for code, id in chosen.items() if id}
        self._first = {**self._chosen, **self._first}
        for code, id in self._chosen.items():
            row, run = event["final"][code], self._run(id, now)
            run.tags[f"chosen.{code}"] = "true"
            for key in ("test_ratio", "si_sdr_gain_db", *NAMED_SCORES):
                run.metric(f"{key}/{code}", row.get(key), now)
            reference = event["reference_final"].get(code, {})
            verdict = verdicts[code]
            self._model(self._key(code, id), code, self._state.finals[id], row, reference, verdict)
            self._wanted[code] = {id: self._key(code, id)}
            for other, scores in event.get("candidates", {}).get(code, {}).items():
                if other != id and other in self._state.finals:
                    key = self._wanted[code][other] = self._key(code, other)
                    self._model(key, code, self._state.finals[other], scores, reference, None)
        for id in sorted(set(self._chosen.values())):
            names = [INSTRUMENTS.get(code, code) for code in self._chosen if self._chosen[code] == id]
            self._run(id, now).tags["chosen"] = ", ".join(names)
        for id in sorted(withdrawn | set(self._chosen.values())):
            self._describe(id, now)

    def _key(self, code: str, id: str) -> str:
        """Key of the run of a model: the instrument for the first one that was chosen, else that and its finalist.

        MLflow's parameters cannot be changed, so that another choice, after a run was extended, has a run of its own.
        """
        return code if self._first.get(code) == id else f"{code}/{id}"

    def _withdraw(self, chosen: Mapping[str, str | None], now: int) -> set[str]:
        """Mark the models of earlier scores that are not chosen any more; gives their finalists and seeds."""
        gone = {code: id for code, id in self._chosen.items() if chosen.get(code) != id}
        for code, id in gone.items():
            self._run(self._key(code, id), now).tags |= {"stage": "candidate", "chosen": "no"}
            self._run(id, now).tags |= {f"chosen.{code}": "false", "chosen": ""}
        return set(gone.values())

    def registered(self, models: Mapping[str, str], now: int) -> None:
        """Where an instrument's model is in the registry."""
        for code, model in models.items():
            if code in self._chosen:
                self._run(self._key(code, self._chosen[code]), now).tags["model"] = model

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
            sample = samples[code]
            for job, key in self._wanted.pop(code).items():
                if (own := sample if job == self._chosen[code] else sample.candidates.get(job)) is None:
                    continue
                run = self._run(key, 0)
                run.files["spectrograms.png"] = png(sample_figure(own))
                for name in AUDIO:
                    run.files[f"audio/{name}.mp3"] = own.audio[name].read_bytes()

    def _model(
        self,
        key: str,
        code: str,
        of: SeedRun,
        row: Mapping[str, Any],
        reference: Mapping[str, Any],
        verdict: Verdict | None,
    ) -> None:
        """The run `key` of a model with the weights of the finalist and seed `of`; `verdict`: of the chosen one."""
        # As long as the training that gave it its weights, which MLflow shows as its duration.
        ended = self._ended.get(of.id, self._run(of.id, 0).start)
        run, search = self._run(key, self._run(of.id, ended).start), self._state.search
        run.name = f"{INSTRUMENTS.get(code, code)} · {of.id}"
        run.params |= flat(row.get("params", of.finalist.params))
        caveat = search["caveats"].get(code, "")
        run.tags |= {
            "stage": "finalist" if verdict else "candidate",
            "instrument": code,
            "instrument_name": INSTRUMENTS.get(code, code),
            "unit": of.id,
            "configuration": of.finalist.id,
            "seed": str(of.seed),
            "state": "completed",
            "chosen": "yes" if verdict else "no",
        }
        run.tags |= {"verdict": verdict.kind} if verdict else {}
        run.tags |= {"choice_reason": row["choice_reason"]} if verdict and row.get("choice_reason") else {}
        run.tags |= {"reference": "true"} if of.finalist.reference else {}
        run.tags |= {key: text for key, text in (("caveat", caveat), ("protocol", row.get("protocol"))) if text}
        gain = baseline_ratio(search["baselines"].get("validation", {}), "gain", code)
        epoch = of.members[code].epoch if code in of.members else None
        for name, value in _numbers(row, reference, gain, epoch).items():
            run.metric(name, round(value, DIGITS) if isinstance(value, float) else value, ended)
        words = " ".join(verdict_sentences([verdict])) if verdict else ""
        facts = ModelFacts(bool(verdict), words, gain, caveat)
        run.tags["mlflow.note.content"] = describe_final(search["name"], code, of.id, row, facts)
        run.status = ("FINISHED", ended)

    def _describe(self, id: str, now: int) -> None:
        run, name = self._state.finals[id], self._state.search["name"]
        chosen = [code for code, by in self._chosen.items() if by == id]
        end = "" if run.weights else run.failure or run.state
        self._run(id, now).tags["mlflow.note.content"] = describe_finalist(name, id, self._ratios(id), chosen, end)


def chosen_run(runs: Mapping[str, SeedRun], code: str, row: Mapping[str, Any]) -> str | None:
    """The finalist and seed whose weights an instrument's final model has; in older journals it follows from its loss.

    Args:
        runs: by id.
        code: of the instrument.
        row: of `scores`.final.
    """
    if "configuration" in row:
        named = (row["configuration"], row.get("seed"))
        return next((id for id, run in runs.items() if (run.finalist.id, run.seed) == named), None)
    loss = row.get("val_loss")
    return next((id for id, run in runs.items() if code in run.members and run.members[code].val_loss == loss), None)


def _numbers(
    row: Mapping[str, Any], reference: Mapping[str, Any], gain: float | None, epoch: int | None
) -> dict[str, Any]:
    """The columns of an instrument's run."""
    low, high = row.get("ratio_interval") or (None, None)
    keys = ("ratio", "ratio_mean", "ratio_sd", "test_ratio", "val_loss", "identity_loss", "discontinuities")
    numbers = {key: row.get(key) for key in (*keys, "si_sdr_gain_db", *NAMED_SCORES)}
    numbers |= {
        "ratio_low": low,
        "ratio_high": high,
        "epoch": row.get("epoch", epoch),
        "seeds": len(row.get("seeds", [])),
    }
    numbers |= {"parameters": row.get("parameters"), "examples_per_second": row.get("examples_per_second")}
    numbers |= {"constant_gain_ratio": gain, "reference_ratio": reference.get("ratio")}
    for name, part in {"sdr_gain_db": "gain", "oracle_sdr_gain_db": "oracle_gain"}.items():
        numbers[name] = audio_number(row, part, "sdr_db")
    numbers["oracle_si_sdr_gain_db"] = audio_number(row, "oracle_gain", "si_sdr_db")
    numbers["si_sdr_db"] = audio_number(row, "estimate", "si_sdr_db")
    numbers["test_titles"] = (row.get("audio") or {}).get("titles")
    return numbers
