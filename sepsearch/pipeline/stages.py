"""The stages of one search that need Ray: trials, finalists, titles left out."""

import dataclasses
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sepsearch.data.prepared import PreparedData
from sepsearch.distributed.storage_wait import StorageWait
from sepsearch.evaluation.provisional_models import write_provisional_models
from sepsearch.models.families import registered_families
from sepsearch.models.saved_model import PROVISIONAL_FOLDER
from sepsearch.runs.record import Settings
from sepsearch.runs.run_folder import RAY_FOLDER
from sepsearch.search.events import Event, FinalistRecord
from sepsearch.search.extension import with_former_ids
from sepsearch.search.journal import Journal
from sepsearch.search.retraining import FinalPlan, FoldPlan, RunPlan
from sepsearch.search.sampling.feasibility import shortage
from sepsearch.search.sampling.known_trials import KnownTrial
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan
from sepsearch.search.search_end import end_rules
from sepsearch.search.selection import Choice, Finalist, choose_finalists
from sepsearch.search.stopping.methods import make_rule
from sepsearch.search.trials import Trial, best_trials, small_trials
from sepsearch.spaces.space import Space
from sepsearch.utils.errors import UserError, one_line, storage_fault
from sepsearch.utils.storage import StorageFolder

if TYPE_CHECKING:
    from sepsearch.distributed.object_store import StoredData
    from sepsearch.distributed.trainable import Task
    from sepsearch.distributed.worker_pool import WorkerPool
    from sepsearch.pipeline.hand_stops import HandStops
    from sepsearch.search.protocol import StopSignal, Workers

PROBE = "probe"  # a file beside the checkpoints, to see whether they can be written


def search_task(
    settings: Settings,
    space: Space,
    prepared: PreparedData,
    workers: "Workers",
    stored: "StoredData",
    storage: StorageFolder,
) -> "Task":
    """What all workers of a search have in common; `storage` is the run's."""
    from sepsearch.distributed.trainable import Task

    most = max(len(sides["train"]) for sides in prepared.examples.values())
    return Task(
        data=stored,
        instruments=settings.instruments,
        epochs=settings.epochs,
        examples_per_epoch=min(space.search.examples_per_epoch, most),
        threads=max(1, int(workers.cpus)),
        gpu=workers.gpus > 0,
        checkpoints=storage / "checkpoints",
        families=registered_families(space.families),
    )


@dataclass(frozen=True)
class Stages:
    """The stages that need Ray, with what they share.

    Args:
        folder: of the run.
        storage: of the run, as all nodes see it.
        task: of the search's workers (`search_task`).
        tick: called a few times a second while a stage runs.
        past: events of earlier processes of the run.
        retries: how often a job is tried again after its worker died.
        reference: id of the reference network's trial.
        pool: workers that stay from stage to stage; every stage starts its own without it.
        say: prints a line.
        known: completed trials of other runs, which the sampler's study begins with.
        former: all configurations that have been finalists of this run, before it was extended.
        hand_stops: handles requests to stop jobs; none are handled without it.
    """

    settings: Settings
    space: Space
    prepared: PreparedData
    journal: Journal
    folder: Path
    storage: StorageFolder
    workers: "Workers"
    task: "Task"
    stop: "StopSignal"
    tick: Callable[[], None]
    past: Sequence[Event]
    retries: int
    reference: str
    pool: "WorkerPool | None" = None
    say: Callable[[str], None] = lambda line: None
    known: Sequence[KnownTrial] = ()
    former: Sequence[FinalistRecord] = ()
    hand_stops: "HandStops | None" = None

    def _train(self, **changes: Any) -> Callable[[dict[str, Any]], None]:
        """What a worker runs for one job, with the stage's task bound to it."""
        from ray import tune

        from sepsearch.distributed.trainable import MARK, train_job

        task = dataclasses.replace(self.task, mark=secrets.token_hex(8), **changes)
        if task.checkpoints:
            with storage_fault():
                task.checkpoints.write(MARK, task.mark.encode())
        return tune.with_parameters(train_job, task=task)

    def search(self, **changes: Any) -> SearchPlan:
        """Run the trials, or what is left of them; `changes` replace fields of the workers' task."""
        settings, search = self.settings, self.space.search
        study, name, seed = self.folder / "study.log", settings.name, settings.seed
        sampler = Sampler(self.space, study, name, seed, reference=self.reference, known=self.known)
        plan = SearchPlan(
            sampler,
            make_rule(search, settings.epochs),
            self.journal,
            settings.trials,
            settings.epochs,
            settings.seed,
            retries=self.retries,
            exempt_fraction=search.spared_share,
            checkpoints=self.task.checkpoints,
            reference=self.reference,
            improved=self._keep_provisional,
            end_rules=end_rules(self.space, sampler, settings.seed),
        )
        try:
            self._run("search", plan, self._train(**changes))
        finally:
            sampler.close("interrupted")
        if line := shortage(plan, settings.trials, self.stop.reason):
            self.say(f"note: {line}")
        return plan

    def _keep_provisional(self, trial: Trial) -> None:
        """Make the provisional models of a trial that is the best so far; what goes wrong there is a warning."""
        from sepsearch.distributed.trainable import checkpoint_identity
        from sepsearch.training.checkpoint import load_checkpoint

        assert self.task.checkpoints is not None
        config = {"id": trial.id, "params": trial.params, "seed": self.settings.seed}
        place, name = self.folder / PROVISIONAL_FOLDER, self.settings.name
        try:
            checkpoint = load_checkpoint(self.task.checkpoints, *checkpoint_identity(config, self.task))
            if checkpoint is None:
                return
            first = not place.exists()
            write_provisional_models(self.folder, name, self.prepared, trial.id, trial.params, checkpoint)
        except (UserError, OSError) as error:
            self.say(f"warning: no provisional models of {trial.id}: {one_line(error)}")
        else:
            if first:
                self.say(f"provisional models, of the best trial so far, until the finalists are trained: {place}")

    def _run(self, name: str, plan: SearchPlan | RunPlan, train: Callable[[dict[str, Any]], None]) -> None:
        from sepsearch.distributed.tune_runner import run_stage

        if self.past:
            plan.restore(self.past)
            plan.resume()
        for job, problem in plan.lost.items() if isinstance(plan, RunPlan) else ():
            self.say(f"note: {problem}: {job} is trained again")
        if not plan.finished():
            wait = StorageWait(self._probe_storage, lambda line: self.say(f"warning: {line}"))

            def tick() -> None:
                self.tick()
                if self.hand_stops:
                    self.hand_stops.apply(plan)

            if self.pool:
                self.pool.run(plan, train, self.stop, tick, wait)
            else:
                run_stage(name, plan, train, self.workers, self.folder / RAY_FOLDER, self.stop, tick, wait)

    def _probe_storage(self, size: int) -> None:
        """Write, read and remove a file where the checkpoints are; raises `StorageFault` if that fails."""
        storage, content = self.task.checkpoints or self.storage, secrets.token_bytes(size)
        with storage_fault(size):
            storage.write(PROBE, content)
            if storage.read(PROBE) != content:
                raise UserError(f"{storage / PROBE}: was written and reads otherwise: is the storage sound?")
            storage.remove(PROBE)

    def choose(self, plan: SearchPlan, seconds: float) -> list[Finalist]:
        """The finalists of a search that is over; raises `UserError` if it had no time for its first trial."""
        if self.reference not in plan.trials:
            raise UserError(
                "the search was over before its first trial began, by the time budget or by hand: give it more with"
                " --time-budget, or start a new run"
            )
        candidates = small_trials if self.space.final.choose == "smallest_within_sd" else best_trials
        best = candidates(list(plan.trials.values()), self.space.final.configurations)
        finalists = with_former_ids(choose_finalists(best, plan.trials[self.reference]), self.former)
        configurations = [cast(FinalistRecord, dataclasses.asdict(finalist)) for finalist in finalists]
        self.journal.append({"event": "finalists", "configurations": configurations, "seconds": seconds})
        return finalists

    def retrain(self, finalists: list[Finalist], **changes: Any) -> FinalPlan:
        """Train every finalist with every seed, or what is left of that; none of them is the search's own seed."""
        seeds = [self.settings.seed + 1 + number for number in range(self.space.final.seeds)]
        epochs, folder = self.settings.final_epochs, self.folder / "finalists"
        rule, shared = self.space.final.choose, self._shared("finalists")
        plan = FinalPlan(finalists, seeds, self.journal, folder, epochs, rule, **shared)
        self._run("finalists", plan, self._train(epochs=epochs, weights=self.storage / "finalists", **changes))
        return plan

    def close(self) -> None:
        """End the workers that stay from stage to stage."""
        if self.pool:
            self.pool.close()

    def _shared(self, weights: str) -> dict[str, Any]:
        """Arguments of both retraining plans; `weights` is the name of the weights' folder in the storage."""
        checkpoints = self.task.checkpoints
        return {"retries": self.retries, "checkpoints": checkpoints, "weights": self.storage / weights}

    def leave_out(self, folds: list[tuple[str, str, str, Choice]], **changes: Any) -> FoldPlan:
        """Train (id, instrument, title left out, choice) each, or what is left of that."""
        epochs, folder = self.settings.final_epochs, self.folder / "folds"
        plan = FoldPlan(folds, self.journal, folder, epochs, **self._shared("folds"))
        self._run("folds", plan, self._train(epochs=epochs, weights=self.storage / "folds", **changes))
        return plan
