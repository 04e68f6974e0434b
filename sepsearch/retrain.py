"""Retraining as plans of a stage: every finalist with every seed, and the models of instruments with few titles once
for every title left out.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sepsearch.finalists import Choice, Finalist, SeedRun, cannot_win
from sepsearch.journal import Event
from sepsearch.places import Place
from sepsearch.plan import INTERRUPTED, Attempts, Ending, Params, remove_checkpoints
from sepsearch.search import EPOCH_FIELDS, Appends


class RunPlan:
    """Runs to the full budget, each with a seed; see `plan.Plan`.

    As with `SearchPlan`, all that it knows follows from the journal's events.

    Args:
        kind: of its events: `kind`, `kind`_epoch, `kind`_end.
        runs: what to train, in this order.
        journal: gets every event.
        folder: where the networks' weights are in the end, a folder per run.
        epochs: the budget.
        retries: how often a run is tried again, from its last checkpoint, after its worker died.
        checkpoints: place of the runs' checkpoints, which are removed when a run ends.
        weights: where workers leave the weights, if that is not `folder`.
    """

    def __init__(
        self,
        kind: str,
        runs: Iterable[SeedRun],
        journal: Appends,
        folder: Path,
        epochs: int,
        *,
        retries: int = 0,
        checkpoints: Place | None = None,
        weights: Place | None = None,
    ):
        self.kind, self.journal, self.folder, self.epochs = kind, journal, folder, epochs
        self._waiting = {run.id: run for run in runs}
        self._own = frozenset(self._waiting)
        self.runs: dict[str, SeedRun] = {}
        self._attempts, self._checkpoints, self._place = Attempts(retries), checkpoints, weights

    def next(self) -> tuple[str, Params] | None:
        """A run to go on with, or the next one."""
        if self._attempts.waiting:
            unit = self._attempts.waiting.pop(0)
        elif self._waiting:
            unit, run = next(iter(self._waiting.items()))
            self._record(
                self.kind, id=unit, configuration=run.finalist.id, seed=run.seed, params=run.finalist.params,
                **({"instrument": run.instrument, "title": run.title} if run.title else {}),
            )  # fmt: skip
        else:
            return None
        run = self.runs[unit]
        only = {"instruments": (unit,)} if run.title else {}
        return unit, {"params": run.finalist.params, "seed": run.seed, **only}

    def finished(self) -> bool:
        """Whether all runs have ended."""
        return not self._waiting and all(run.state for run in self.runs.values())

    def result(self, unit: str, result: Params) -> str | None:
        """Take in an epoch; runs are never stopped."""
        run = self.runs[unit]
        if "failed" in result:
            run.failure = result["failed"]
        elif result.get("epoch", 0) > run.epochs:
            self._record(f"{self.kind}_epoch", id=unit, **{key: result[key] for key in EPOCH_FIELDS})
        return None

    def ended(self, unit: str, ending: Ending) -> None:
        """Settle a run's state, or hand it out again when its worker died."""
        run = self.runs[unit]
        if not run.failure and ending.how == "died" and (attempt := self._attempts.again(unit)):
            self._record("retry", id=unit, reason=ending.reason, epochs=run.epochs, attempt=attempt)
            self._attempts.waiting.append(unit)
            return
        weights, reason = None, ""
        if run.epochs >= self.epochs:
            self._bring(unit)
        if run.epochs >= self.epochs and (self.folder / unit).is_dir():
            state, weights = "completed", str(Path(self.folder.name, unit))
        elif ending.how == "halted" and not run.failure:
            state, reason = "stopped", ending.reason
        else:
            state, reason = "failed", run.failure or self._attempts.failure(unit, ending)
        self._record(f"{self.kind}_end", id=unit, state=state, reason=reason, epochs=run.epochs, weights=weights)
        if reason != INTERRUPTED:
            remove_checkpoints(self._checkpoints, [unit])

    def _bring(self, unit: str) -> None:
        """See that what a worker has left far away is in the folder."""
        if self._place is not None:
            from sepsearch.checkpoints import bring_weights  # torch, which a plan does without

            bring_weights(self._place, unit, self.folder)

    def _record(self, kind: str, **fields: Any) -> None:
        self.journal.append(kind, **fields)
        self._apply({"event": kind, **fields})

    def _apply(self, event: Event) -> None:
        """Change what is known by one event; the only place that does."""
        kind = event["event"]
        if kind == self.kind:
            self.runs[event["id"]] = self._waiting.pop(event["id"])
        elif kind == f"{self.kind}_epoch":
            self.runs[event["id"]].add_epoch(event)
        elif kind == "retry":
            self._attempts.deaths[event["id"]] = event["attempt"]
        elif kind == f"{self.kind}_end":
            run = self.runs[event["id"]]
            run.state, run.failure = event["state"], event["reason"]
            run.weights = self.folder / event["id"] if event["weights"] else None
            if run.weights:
                self._bring(event["id"])
        elif kind == "resume":
            for run in self.runs.values():
                # Weights that are gone are trained again: without them nothing can be made of the run.
                lost = run.weights is not None and not run.weights.is_dir()
                if run.failure == INTERRUPTED or lost:
                    run.state = run.failure = ""
                    run.weights = None

    def restore(self, events: Iterable[Event]) -> None:
        """Take in all events of an earlier process; then `unfinished` are handed out first."""
        for event in events:
            if event.get("id", "") in self._own or event["event"] in ("resume", "eliminated"):
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


class FinalPlan(RunPlan):
    """Finalists × seeds, seed by seed, so that an early end leaves all finalists with as many.

    A finalist that cannot win any more (`cannot_win`) gets no further seed and is not chosen; the report's gets all.

    Args:
        finalists: what to retrain.
        seeds: which seeds, the same for each.
        others: as `RunPlan` takes them.
    """

    def __init__(
        self,
        finalists: Sequence[Finalist],
        seeds: Sequence[int],
        journal: Appends,
        folder: Path,
        epochs: int,
        **others: Any,
    ):
        runs = (SeedRun(f"{f.id}-s{s}", f, s) for s in seeds for f in finalists)
        super().__init__("final", runs, journal, folder, epochs, **others)
        self._all = finalists
        # From the second seed on every run that ends is another look at all the others.
        self._comparisons = (len(finalists) - 1) * len(finalists) * (len(seeds) - 1)
        self._eliminated: set[str] = set()

    @property
    def finalists(self) -> list[Finalist]:
        """Those that can still win."""
        return [finalist for finalist in self._all if finalist.id not in self._eliminated]

    def next(self) -> tuple[str, Params] | None:
        """A run to go on with, or the next one of a finalist that can still win."""
        for id, reason in cannot_win(self.runs.values(), self.finalists, self._comparisons).items():
            if left := sum(run.finalist.id == id for run in self._waiting.values()):
                seeds = sorted(run.seed for run in self.runs.values() if run.finalist.id == id)
                self._record("eliminated", id=id, seeds=seeds, left=left, reason=reason)
        return super().next()

    def _apply(self, event: Event) -> None:
        super()._apply(event)
        if event["event"] == "eliminated":
            self._eliminated.add(event["id"])
            self._waiting = {unit: run for unit, run in self._waiting.items() if run.finalist.id != event["id"]}


class FoldPlan(RunPlan):
    """For instruments with too few titles: their chosen configuration once more for every title left out.

    Args:
        folds: (id, instrument, title that is left out, the instrument's choice).
        others: as `RunPlan` takes them.
    """

    def __init__(
        self,
        folds: Iterable[tuple[str, str, str, Choice]],
        journal: Appends,
        folder: Path,
        epochs: int,
        **others: Any,
    ):
        runs = (
            SeedRun(id, choice.finalist, choice.run.seed, instrument=instrument, title=title)
            for id, instrument, title, choice in folds
        )
        super().__init__("fold", runs, journal, folder, epochs, **others)
