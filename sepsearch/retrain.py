"""Finalists: the best configurations and the report's, each retrained with several seeds; the choice among them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepsearch.journal import Event
from sepsearch.metrics import mean_and_sd
from sepsearch.plan import INTERRUPTED, Attempts, Ending, Params, remove_checkpoints
from sepsearch.search import EPOCH_FIELDS, Appends, Trial


@dataclass(frozen=True)
class Finalist:
    """A configuration to retrain: the trial it comes from, and whether it is the reference (the report's)."""

    id: str
    trial: str
    params: Params
    reference: bool


def choose_finalists(best: Sequence[Trial], reference: Trial) -> list[Finalist]:
    """The best trials' configurations and the reference's, each configuration once."""
    chosen: list[Trial] = []
    for trial in [*best, reference]:
        if all(trial.params != other.params for other in chosen):
            chosen.append(trial)
    return [
        Finalist(f"c{number}", trial.id, trial.params, trial.params == reference.params)
        for number, trial in enumerate(chosen)
    ]


@dataclass
class MemberRun:
    """One instrument of one finalist and seed: its best epoch so far, and how often its loss jumped."""

    val_loss: float = math.inf
    ratio: float = math.inf
    epoch: int = 0
    discontinuities: int = 0


@dataclass
class SeedRun:
    """A finalist trained with one seed; `weights` is the folder of its networks once it has finished.

    `state` is empty while it runs, `failure` why it ended without weights.
    """

    id: str
    finalist: Finalist
    seed: int
    epochs: int = 0
    members: dict[str, MemberRun] = field(default_factory=dict)
    weights: Path | None = None
    state: str = ""
    failure: str = ""

    def add_epoch(self, event: Event) -> None:
        """Take in an epoch's numbers."""
        self.epochs = event["epoch"]
        for numbers in event["members"]:
            member = self.members.setdefault(numbers["instrument"], MemberRun())
            member.discontinuities += numbers["discontinuity"]
            if numbers["val_loss"] is not None and numbers["val_loss"] < member.val_loss:
                member.val_loss, member.ratio, member.epoch = numbers["val_loss"], numbers["ratio"], self.epochs


class FinalPlan:
    """Finalists × seeds; see `plan.Plan`. Seed by seed, so that an early end leaves all finalists with as many.

    As with `SearchPlan`, all that it knows follows from the journal's events.

    Args:
        finalists: what to retrain.
        seeds: which seeds, the same for each.
        journal: gets every event.
        folder: where workers keep the networks' weights, a folder per run.
        epochs: the budget.
        retries: how often a run is tried again, from its last checkpoint, after its worker died.
        checkpoints: folder of the runs' checkpoints, which are removed when a run ends.
    """

    def __init__(
        self,
        finalists: Sequence[Finalist],
        seeds: Sequence[int],
        journal: Appends,
        folder: Path,
        epochs: int,
        *,
        retries: int = 0,
        checkpoints: Path | None = None,
    ):
        self.journal, self.folder, self.epochs = journal, folder, epochs
        self._waiting = {run.id: run for run in (SeedRun(f"{f.id}-s{s}", f, s) for s in seeds for f in finalists)}
        self.runs: dict[str, SeedRun] = {}
        self._attempts, self._checkpoints = Attempts(retries), checkpoints

    def next(self) -> tuple[str, Params] | None:
        """A run to go on with, or the next finalist and seed."""
        if self._attempts.waiting:
            unit = self._attempts.waiting.pop(0)
        elif self._waiting:
            unit, run = next(iter(self._waiting.items()))
            params = run.finalist.params
            self._record("final", id=unit, configuration=run.finalist.id, seed=run.seed, params=params)
        else:
            return None
        run = self.runs[unit]
        return unit, {"params": run.finalist.params, "seed": run.seed}

    def finished(self) -> bool:
        """Whether all runs have ended."""
        return not self._waiting and all(run.state for run in self.runs.values())

    def result(self, unit: str, result: Params) -> str | None:
        """Take in an epoch; finalists are never stopped."""
        run = self.runs[unit]
        if "failed" in result:
            run.failure = result["failed"]
        elif result.get("epoch", 0) > run.epochs:
            self._record("final_epoch", id=unit, **{key: result[key] for key in EPOCH_FIELDS})
        return None

    def ended(self, unit: str, ending: Ending) -> None:
        """Settle a run's state, or hand it out again when its worker died."""
        run = self.runs[unit]
        if not run.failure and ending.how == "died" and (attempt := self._attempts.again(unit)):
            self._record("retry", id=unit, reason=ending.reason, epochs=run.epochs, attempt=attempt)
            self._attempts.waiting.append(unit)
            return
        weights, reason = None, ""
        if run.epochs >= self.epochs and (self.folder / unit).is_dir():
            state, weights = "completed", str(Path(self.folder.name, unit))
        elif ending.how == "halted" and not run.failure:
            state, reason = "stopped", ending.reason
        else:
            state, reason = "failed", run.failure or self._attempts.failure(unit, ending)
        self._record("final_end", id=unit, state=state, reason=reason, epochs=run.epochs, weights=weights)
        if reason != INTERRUPTED:
            remove_checkpoints(self._checkpoints, [unit])

    def _record(self, kind: str, **fields: Any) -> None:
        self.journal.append(kind, **fields)
        self._apply({"event": kind, **fields})

    def _apply(self, event: Event) -> None:
        """Change what is known by one event; the only place that does."""
        kind = event["event"]
        if kind == "final":
            self.runs[event["id"]] = self._waiting.pop(event["id"])
        elif kind == "final_epoch":
            self.runs[event["id"]].add_epoch(event)
        elif kind == "retry":
            self._attempts.deaths[event["id"]] = event["attempt"]
        elif kind == "final_end":
            run = self.runs[event["id"]]
            run.state, run.failure = event["state"], event["reason"]
            run.weights = self.folder / event["id"] if event["weights"] else None
        elif kind == "resume":
            for run in self.runs.values():
                # Weights that are gone are trained again: without them nothing can be made of the run.
                lost = run.weights is not None and not run.weights.is_dir()
                if run.failure == INTERRUPTED or lost:
                    run.state = run.failure = ""
                    run.weights = None

    def restore(self, events: Iterable[Event]) -> None:
        """Take in all events of an earlier process; then `unfinished` are handed out first."""
        own = set(self._waiting)
        for event in events:
            if event.get("id", "") in own or event["event"] == "resume":
                self._apply(event)
        over = [unit for unit, run in self.runs.items() if run.state and run.failure != INTERRUPTED]
        remove_checkpoints(self._checkpoints, over)

    def unfinished(self) -> dict[str, int]:
        """Runs that have begun and not ended, with the last epoch that is known of each."""
        return {
            unit: run.epochs
            for unit, run in self.runs.items()
            if not run.state or run.failure == INTERRUPTED or (run.weights and not run.weights.is_dir())
        }

    def resume(self) -> None:
        """Hand out the unfinished runs again, after the event "resume" was written."""
        self._attempts.waiting += self.unfinished()
        self._apply({"event": "resume"})

    def give_up(self, reason: str) -> None:
        """End what is still unfinished, because nobody will train it."""
        self._attempts.waiting.clear()
        for unit in [unit for unit, run in self.runs.items() if not run.state]:
            self.ended(unit, Ending("halted", reason))


@dataclass(frozen=True)
class Choice:
    """The model of one instrument: a seed of the configuration with the best mean over seeds, with that mean and sd.

    `seeds` are those that finished; `discontinuities` counts jumps of the loss over them.
    """

    run: SeedRun
    seeds: tuple[int, ...]
    ratio_mean: float
    ratio_sd: float
    discontinuities: int

    @property
    def finalist(self) -> Finalist:
        """The configuration."""
        return self.run.finalist


def choose_model(runs: Mapping[str, SeedRun], instrument: str, finalists: Sequence[Finalist]) -> Choice | None:
    """Choose on validation data: the configuration by its mean over seeds (not by its luckiest), then its best seed.

    A seed whose loss jumped is not chosen unless all of them did. None if no run of these finalists finished.
    """
    choices = []
    for finalist in finalists:
        finished = [run for run in runs.values() if run.finalist == finalist and run.weights]
        if not finished:
            continue
        mean, sd = mean_and_sd([run.members[instrument].ratio for run in finished])
        smooth = [run for run in finished if not run.members[instrument].discontinuities] or finished
        best = min(smooth, key=lambda run: run.members[instrument].val_loss)
        jumps = sum(run.members[instrument].discontinuities for run in finished)
        choices.append(Choice(best, tuple(sorted(run.seed for run in finished)), mean, sd, jumps))
    return min(choices, key=lambda choice: choice.ratio_mean, default=None)
