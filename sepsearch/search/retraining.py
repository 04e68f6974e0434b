"""Retraining: finalists with several seeds, and models of instruments with few titles with each title left out."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from sepsearch.search.events import Event, FinalEvent, FoldEvent, JobEndEvent, Params
from sepsearch.search.extension import present_events, remove_weights
from sepsearch.search.protocol import (
    BY_HAND,
    ENVIRONMENT,
    INTERRUPTED,
    Appends,
    Attempts,
    JobOutcome,
    epoch_event,
    remove_checkpoints,
    reopens,
    retry_event,
    stop_event,
)
from sepsearch.search.selection import Choice, Finalist, Rule, SeedRun, cannot_win, choose_model
from sepsearch.search.weights import weights_problem
from sepsearch.utils.files import folder_sha256
from sepsearch.utils.storage import StorageFolder


class RunPlan:
    """Runs to the full budget, each with a seed, a `protocol.Plan`; as with `SearchPlan` the journal has its state.

    Args:
        kind: of its events: `kind`, `kind`_epoch, `kind`_end.
        runs: what to train, in this order.
        journal: gets every event.
        folder: where the networks' weights are in the end, a folder per run.
        epochs: the budget.
        retries: how often a run is tried again, from its last checkpoint, after its worker died.
        checkpoints: storage of the runs' checkpoints, which are removed when a run ends.
        weights: where workers leave the weights, if that is not `folder`.

    Attributes:
        lost: run → what is wrong with its weights, of runs that had finished and are trained again.
    """

    def __init__(
        self,
        kind: Literal["final", "fold"],
        runs: Iterable[SeedRun],
        journal: Appends,
        folder: Path,
        epochs: int,
        *,
        retries: int = 0,
        checkpoints: StorageFolder | None = None,
        weights: StorageFolder | None = None,
    ):
        self.kind, self.journal, self.folder, self.epochs = kind, journal, folder, epochs
        self._waiting = {run.id: run for run in runs}
        self._own = frozenset(self._waiting)
        self.runs: dict[str, SeedRun] = {}
        self._attempts, self._checkpoints, self._storage = Attempts(retries), checkpoints, weights
        self.lost: dict[str, str] = {}
        self._stale: set[str] = set()  # runs whose folders hold weights of another configuration
        self._reported: dict[str, dict[str, str]] = {}  # run → checksums of its weights as its worker wrote them

    def next(self) -> tuple[str, Params] | None:
        """A run to go on with, or the next one."""
        if self._attempts.waiting:
            job = self._attempts.waiting.pop(0)
        elif self._waiting:
            job, run = next(iter(self._waiting.items()))
            if job in self._stale:
                remove_weights(job, self.folder, self._storage)
            self._record(self._begin_event(run))
        else:
            return None
        run = self.runs[job]
        only = {"instruments": (job,)} if run.title else {}
        return job, {"params": run.finalist.params, "seed": run.seed, **only}

    def _begin_event(self, run: SeedRun) -> FinalEvent | FoldEvent:
        of = {"configuration": run.finalist.id, "seed": run.seed, "params": run.finalist.params}
        left_out = {"instrument": run.instrument, "title": run.title} if run.title else {}
        return cast(FinalEvent | FoldEvent, {"event": self.kind, "id": run.id, **of, **left_out})

    def finished(self) -> bool:
        """Whether all runs have ended."""
        return not self._waiting and all(run.state for run in self.runs.values())

    def result(self, job: str, result: Params) -> str | None:
        """Take in an epoch; runs are never stopped."""
        run = self.runs[job]
        if "weights" in result:
            self._reported[job] = dict(result["weights"])
        if "failed" in result:
            run.failure = result["failed"]
        elif result.get("epoch", 0) > run.epochs:
            self._record(epoch_event("final_epoch" if self.kind == "final" else "fold_epoch", job, result))
        # After the last epoch its weights are there, and it returns by itself.
        return BY_HAND if run.by_hand and "epoch" in result and run.epochs < self.epochs else None

    def stop(self, job: str, by: str, request: str) -> str:
        """See `protocol.StoppablePlan`; a run that waits for a worker ends now."""
        run = self.runs.get(job)
        if run is None or run.state:
            return f"{job} has ended: {run.state}" if run else f"{job} has not begun"
        self._record(stop_event(job, by, request))
        if self._attempts.withdraw(job):
            self.ended(job, JobOutcome())
        return ""

    def ended(self, job: str, outcome: JobOutcome) -> None:
        """Record a run's end, or hand it out again when its worker died or its weights are not what it wrote."""
        run = self.runs[job]
        checksums, problem = self._checksums(run) if run.epochs >= self.epochs else (None, "")
        if problem and outcome.how == "returned":
            outcome = JobOutcome("died", problem)
        own_end = run.failure or checksums is not None or (run.by_hand and run.epochs < self.epochs)
        if not own_end and outcome.how == "deferred":
            self._attempts.waiting.append(job)
            return
        if not own_end and outcome.how == "died" and (attempt := self._attempts.again(job, outcome)):
            self._record(retry_event(job, outcome, run.epochs, attempt))
            self._attempts.waiting.append(job)
            return
        state, reason, cause = "failed", run.failure, ""
        if checksums is not None:
            state, reason = "completed", ""
        elif not run.failure and run.by_hand:
            state, reason = "stopped", BY_HAND
        elif not run.failure and outcome.how == "halted":
            state, reason = "stopped", outcome.reason
        elif not run.failure:
            reason, cause = self._attempts.failure(job, outcome), ENVIRONMENT if outcome.how == "died" else ""
        end: JobEndEvent = {
            "event": "final_end" if self.kind == "final" else "fold_end",
            "id": job,
            "epochs": run.epochs,
            "state": state,
            "reason": reason,
            "cause": cause,
            "weights": None if checksums is None else str(Path(self.folder.name, job)),
        }
        self._record(end if checksums is None else {**end, "sha256": checksums})
        if not run.open:
            remove_checkpoints(self._checkpoints, [job])

    def _checksums(self, run: SeedRun) -> tuple[dict[str, str] | None, str]:
        """SHA-256 of the weights that a run has left, by file; or none, and what is wrong with them."""
        reported, folder = self._reported.get(run.id), self.folder / run.id
        if run.id in self.lost and reported is None:
            return None, self.lost[run.id]  # not trained again yet
        self._bring(run.id, reported)
        if problem := weights_problem(folder, reported):
            return None, problem
        return folder_sha256(folder), ""

    def _bring(self, job: str, sha256: Mapping[str, str] | None) -> None:
        """Fetch what a worker has left in the storage to the folder, with these checksums where they are known."""
        if self._storage is not None:
            from sepsearch.training.checkpoint import bring_weights  # torch, which a plan does without

            bring_weights(self._storage, job, self.folder, sha256)

    def _record(self, event: Event) -> None:
        self.journal.append(event)
        self._apply(event)

    def _apply(self, event: Event) -> None:
        """Change the state by one event; nothing else does."""
        match event["event"]:
            case "final" | "fold":
                self.runs[event["id"]] = self._waiting.pop(event["id"])
            case "final_epoch" | "fold_epoch":
                self.runs[event["id"]].add_epoch(event)
            case "retry":
                self._attempts.count(event)
            case "stop":
                self.runs[event["id"]].by_hand = True
            case "final_end" | "fold_end":
                run = self.runs[event["id"]]
                run.end(event, self.folder / run.id)
                run.open = reopens(event)
            case "resume" | "continue":
                runs, jobs = list(self.runs.values()), event["units"]
                again = [run for run in runs if run.open and (run.failure == INTERRUPTED or run.id in jobs)]
                self._attempts.resume(run.id for run in again if run.failure != INTERRUPTED)
                for run in [*again, *(run for run in runs if run.id in self.lost)]:
                    run.state = run.failure = ""
                    run.weights, run.open = None, False

    def restore(self, events: Iterable[Event]) -> None:
        """Take in all events of an earlier process; then `unfinished` are handed out first.

        Runs whose weights are missing or damaged are `lost`: nothing can be made of them, so they are trained again.
        """
        present, self._stale = present_events(events, self._waiting)
        for event in present:
            if event.get("id", "") in self._own or event["event"] in ("resume", "continue", "eliminated"):
                self._apply(event)
        for run in self.runs.values():
            if run.weights:
                self._bring(run.id, run.sha256)
                if problem := weights_problem(run.weights, run.sha256):
                    self.lost[run.id] = problem
        over = [job for job, run in self.runs.items() if run.state and not run.open]
        remove_checkpoints(self._checkpoints, over)

    def unfinished(self) -> dict[str, int]:
        """Runs that have begun and not ended, with the last epoch that is known of each."""
        return {job: run.epochs for job, run in self.runs.items() if not run.state or run.open or job in self.lost}

    def resume(self) -> None:
        """Hand out the unfinished runs again, after the event "resume" was written."""
        unfinished = self.unfinished()
        self._attempts.waiting += unfinished
        self._apply({"event": "resume", "units": unfinished, "changed": {}})
        for job in unfinished:
            if self.runs[job].by_hand and self._attempts.withdraw(job):
                self.ended(job, JobOutcome())

    def give_up(self, reason: str) -> None:
        """End all unfinished jobs: no worker will train them."""
        self._attempts.waiting.clear()
        for job in [job for job, run in self.runs.items() if not run.state]:
            self.ended(job, JobOutcome("halted", reason))


class FinalPlan(RunPlan):
    """Finalists × seeds, seed by seed, so that an early end leaves all finalists with as many; the reference last.

    A finalist that cannot win any more (`cannot_win`) gets no further seed and is not chosen; the reference gets all.
    Its seeds come after all others', as they are for comparison, unless it was the best of the search.

    Args:
        finalists: what to retrain.
        seeds: which seeds, the same for each.
        rule: by which an instrument's model is chosen.
        others: as `RunPlan` takes them.
    """

    def __init__(
        self,
        finalists: Sequence[Finalist],
        seeds: Sequence[int],
        journal: Appends,
        folder: Path,
        epochs: int,
        rule: Rule = "best",
        **others: Any,
    ):
        last = [finalist for finalist in finalists[1:] if finalist.reference]
        first = [finalist for finalist in finalists if finalist not in last]
        runs = (SeedRun(f"{f.id}-s{s}", f, s) for group in (first, last) for s in seeds for f in group)
        super().__init__("final", runs, journal, folder, epochs, **others)
        self._all, self._rule = finalists, rule
        # From the second seed on every run that ends is another look at all the others.
        self._comparisons = (len(finalists) - 1) * len(finalists) * (len(seeds) - 1)
        self._eliminated: set[str] = set()

    @property
    def finalists(self) -> list[Finalist]:
        """Those that can still win."""
        return [finalist for finalist in self._all if finalist.id not in self._eliminated]

    def chosen(self, instrument: str) -> Choice | None:
        """The model of an instrument; None if no run has finished."""
        return choose_model(self.runs, instrument, self.finalists, self._rule)

    def next(self) -> tuple[str, Params] | None:
        """A run to go on with, or the next one of a finalist that can still win."""
        for id, reason in cannot_win(self.runs.values(), self.finalists, self._comparisons, self._rule).items():
            if left := sum(run.finalist.id == id for run in self._waiting.values()):
                seeds = sorted(run.seed for run in self.runs.values() if run.finalist.id == id)
                self._record({"event": "eliminated", "id": id, "seeds": seeds, "left": left, "reason": reason})
        return super().next()

    def _apply(self, event: Event) -> None:
        super()._apply(event)
        if event["event"] == "eliminated":
            self._eliminated.add(event["id"])
            self._waiting = {job: run for job, run in self._waiting.items() if run.finalist.id != event["id"]}


class FoldPlan(RunPlan):
    """For instruments with too few titles: their chosen configuration once more for every title left out.

    Args:
        folds: (id, instrument, title that is left out, the instrument's choice).
        others: as `RunPlan` takes them.
    """

    def __init__(
        self, folds: Iterable[tuple[str, str, str, Choice]], journal: Appends, folder: Path, epochs: int, **others: Any
    ):
        runs = (
            SeedRun(id, choice.finalist, choice.run.seed, instrument=instrument, title=title)
            for id, instrument, title, choice in folds
        )
        super().__init__("fold", runs, journal, folder, epochs, **others)
