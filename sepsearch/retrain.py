"""Finalists: the best configurations and the report's, each retrained with several seeds; the choice among them."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sepsearch.journal import Journal
from sepsearch.metrics import mean_and_sd
from sepsearch.plan import Params
from sepsearch.search import EPOCH_FIELDS, Trial


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
    """A finalist trained with one seed; `weights` is the folder of its networks once it has finished."""

    id: str
    finalist: Finalist
    seed: int
    epochs: int = 0
    members: dict[str, MemberRun] = field(default_factory=dict)
    weights: Path | None = None
    failure: str = ""


class FinalPlan:
    """Finalists × seeds; see `plan.Plan`. Seed by seed, so that an early end leaves all finalists with as many.

    Args:
        finalists: what to retrain.
        seeds: which seeds, the same for each.
        journal: gets every event.
        folder: where the networks' weights are kept, a folder per run.
        epochs: the budget.
    """

    def __init__(
        self, finalists: Sequence[Finalist], seeds: Sequence[int], journal: Journal, folder: Path, epochs: int
    ):
        self.journal, self.folder, self.epochs = journal, folder, epochs
        self._waiting = [SeedRun(f"{f.id}-s{seed}", f, seed) for seed in seeds for f in finalists]
        self.runs: dict[str, SeedRun] = {}

    def next(self) -> tuple[str, Params] | None:
        """The next finalist and seed."""
        if not self._waiting:
            return None
        run = self._waiting.pop(0)
        self.runs[run.id] = run
        params = run.finalist.params
        self.journal.append("final", id=run.id, configuration=run.finalist.id, seed=run.seed, params=params)
        return run.id, {"params": params, "seed": run.seed}

    def result(self, unit: str, result: Params) -> str | None:
        """Take in an epoch; finalists are never stopped."""
        run = self.runs[unit]
        if "failed" in result:
            run.failure = result["failed"]
        elif result.get("epoch", 0) > run.epochs:
            self.journal.append("final_epoch", id=unit, **{key: result[key] for key in EPOCH_FIELDS})
            run.epochs = result["epoch"]
            for numbers in result["members"]:
                member = run.members.setdefault(numbers["instrument"], MemberRun())
                member.discontinuities += numbers["discontinuity"]
                if numbers["val_loss"] < member.val_loss:
                    member.val_loss, member.ratio, member.epoch = numbers["val_loss"], numbers["ratio"], run.epochs
        return None

    def ended(self, unit: str, problem: str | None, checkpoint: Path | None) -> None:
        """Keep the weights of a run that reached its last epoch."""
        run = self.runs[unit]
        if run.epochs >= self.epochs and checkpoint is not None:
            run.weights = self.folder / unit
            shutil.copytree(checkpoint, run.weights, ignore=shutil.ignore_patterns(".*"))
        elif not run.failure:
            run.failure = problem or "ended before its last epoch"
        outside = problem in ("time budget", "interrupted")
        state = "completed" if run.weights else "stopped" if outside else "failed"
        weights = str(run.weights.relative_to(self.folder.parent)) if run.weights else None
        self.journal.append("final_end", id=unit, state=state, reason=run.failure, epochs=run.epochs, weights=weights)


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
