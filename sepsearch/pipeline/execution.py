"""A run after its data is prepared: Ray, preflight, search, finalists, scores, registry."""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.monitoring.messages import resume_command, tell_begin
from sepsearch.runs.options import AUTO
from sepsearch.runs.run_files import scored_files
from sepsearch.runs.start import Begin
from sepsearch.search.events import ScoresEvent
from sepsearch.utils.errors import StorageFault, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from sepsearch.data.prepared import PreparedData
    from sepsearch.distributed.session import Session
    from sepsearch.distributed.trainable import Task
    from sepsearch.monitoring.console import Screen
    from sepsearch.pipeline.stages import Stages
    from sepsearch.runs.record import Settings
    from sepsearch.search.journal import Journal
    from sepsearch.search.protocol import StopSignal, Workers
    from sepsearch.search.retraining import FinalPlan, FoldPlan
    from sepsearch.tracking.tracker import Tracker


GROWTH_SECONDS = 1800.0  # for a cloud to give a machine, and the machine to be set up


@dataclass(frozen=True)
class Ready:
    """A run that can start: Ray runs, the shards are in its object store, preflight has passed.

    `settings` are the run's, with what was measured in place of `auto`.
    """

    workers: "Workers"
    task: "Task"
    settings: "Settings"


def look_at_cluster(begin: Begin) -> None:
    """Check that the cluster answers, has room for a trial, and that its nodes see the run's storage.

    Preflight repeats it after the shards are made, which can take long.

    Raises:
        UserError: something would stop the run.
    """
    from sepsearch.distributed.nodes import check_nodes
    from sepsearch.distributed.session import ray_session

    options = begin.options
    automatic = options["gpus_per_trial"] == AUTO
    gpus = None if automatic else options["gpus_per_trial"]
    with ray_session(options["address"]) as session:
        if automatic and session.grows and not session.gpus:
            raise UserError(
                "--gpus-per-trial auto: it is measured on a GPU, and the cluster, which grows on demand, has none yet:"
                " give a number, such as 0.25"
            )
        check_nodes(begin.storage, session.workers(options["cpus_per_trial"], gpus, options["workers"]))


@contextlib.contextmanager
def getting_ready(
    settings: "Settings", begin: Begin, prepared: "PreparedData", console: "Console"
) -> "Iterator[Ready]":
    """Start Ray or connect to it, and run preflight; raises `UserError` if that finds a problem."""
    from sepsearch.distributed.object_store import store_shards
    from sepsearch.distributed.session import ray_session
    from sepsearch.pipeline.stages import search_task
    from sepsearch.preflight.checks import preflight
    from sepsearch.utils.progress import Progress

    options = settings.options
    with ray_session(options["address"]) as session:
        automatic = options["gpus_per_trial"] == AUTO
        # A whole GPU each until it is known how many trials share one.
        gpus = float(session.gpus > 0) if automatic else options["gpus_per_trial"]
        workers = session.workers(options["cpus_per_trial"], gpus, options["workers"])
        key = f"{prepared.shards.fingerprint}/{settings.seed}/{','.join(settings.instruments)}"
        identity = dict(prepared.baselines["validation"]["identity"])
        identity |= {fold: losses["validation"] for fold, losses in prepared.fold_identity.items()}
        examples = {**prepared.examples, **{fold.id: fold.splits for fold in prepared.folds}}
        with Progress() as progress:
            stored = store_shards(key, prepared.shards, examples, identity, workers, progress)
            task = search_task(settings, begin.space, prepared, workers, stored, begin.storage)
            task = dataclasses.replace(task, search=settings.name)
            if automatic:
                workers, task = _share_gpus(session, workers, task, options, begin, console)
                settings = dataclasses.replace(settings, options={**options, "gpus_per_trial": workers.gpus})
            forecast = preflight(
                begin.space,
                settings,
                task,
                workers,
                begin.folder,
                begin.storage,
                time_budget=options["time_budget"],
                corners=not begin.events,
                progress=progress,
                patience=GROWTH_SECONDS if session.grows else None,
            )
        if session.grows:
            console.print(
                f"the cluster grows on demand: nodes are started for {workers.concurrent} trials at once,"
                f" {workers.cpus:g} CPUs and {workers.gpus:g} GPUs each",
                soft_wrap=True,
            )
        tell_begin(session, workers.concurrent, settings, begin, console)
        console.print(forecast.line(), markup=False, soft_wrap=True)
        for note in (*stored.notes, *forecast.notes):
            console.print(f"note: {note}", markup=False, soft_wrap=True)
        yield Ready(workers, task, settings)


def _share_gpus(
    session: "Session", workers: "Workers", task: "Task", options: Mapping[str, Any], begin: Begin, console: "Console"
) -> "tuple[Workers, Task]":
    """Measure and print how many trials share a GPU (`--gpus-per-trial auto`); gives workers and task for it."""
    from sepsearch.preflight.corner_configurations import corner_configs
    from sepsearch.preflight.gpu_sharing import choose_packing

    if not workers.gpus:
        console.print("note: --gpus-per-trial auto: no GPU found, so trials run on CPUs", soft_wrap=True)
        return workers, task
    console.print("measuring how many trials share a GPU")
    packing = choose_packing(task, corner_configs(begin.space), workers, options["workers"])
    console.print(packing.line, markup=False, highlight=False, soft_wrap=True)
    workers = session.workers(options["cpus_per_trial"], packing.gpus_per_trial, options["workers"])
    return workers, dataclasses.replace(task, data=dataclasses.replace(task.data, workers=workers))


def run_stages(
    settings: "Settings",
    begin: Begin,
    prepared: "PreparedData",
    journal: "Journal",
    ready: Ready | None,
    stop: "StopSignal",
    tracker: "Tracker",
    console: "Console",
) -> str:
    """Run the remaining stages; returns how the run ended: "finished", "interrupted" or "failed".

    `ready` is None for a run that has only to register its models.
    """
    from sepsearch.monitoring.console import Screen
    from sepsearch.monitoring.prometheus import Gauges
    from sepsearch.pipeline.stages import Stages
    from sepsearch.runs.state import reduce_events
    from sepsearch.search.journal import read_run

    if ready is None:
        assert begin.past.scored
        return _register(journal, begin, begin.past.scored["final"], prepared, tracker, console)
    state = reduce_events(read_run(journal.path))  # its beginning is there already
    gauges, screen = Gauges(state), Screen(console, state)
    for listener in (state.handle, gauges.handle, screen.handle):
        journal.listen(listener)
    stages = Stages(
        settings,
        begin.space,
        prepared,
        journal,
        begin.folder,
        begin.storage,
        ready.workers,
        ready.task,
        stop,
        gauges.refresh,
        begin.events,
        settings.options["retries"],
        lambda line: console.print(line, markup=False, soft_wrap=True),
    )
    with contextlib.closing(screen):
        try:
            final = _stages(begin, stages, screen, console)
        except StorageFault as fault:
            raise StorageFault(f"{fault}; to go on then: {resume_command(begin.folder)}") from fault
    return "interrupted" if final is None else _register(journal, begin, final, prepared, tracker, console)


def _stages(begin: Begin, stages: "Stages", screen: "Screen", console: "Console") -> dict[str, Any] | None:
    """Run the remaining stages; gives the final models' scores, or None after Ctrl-C."""
    from sepsearch.evaluation.final_models import score_models
    from sepsearch.search.selection import Finalist
    from sepsearch.utils.progress import Progress

    journal, settings, stop, past = stages.journal, stages.settings, stages.stop, begin.past
    clock = time.monotonic()
    if past.configurations is None:
        before = past.seconds("search")
        budget = settings.options["time_budget"]
        stop.deadline = clock + max(0.0, budget - before) if budget else None
        screen.begin("search")
        plan = stages.search()
        if stop.reason == "interrupted":
            return None
        stop.end_budget()
        finalists = stages.choose(plan, before + time.monotonic() - clock)
    else:
        finalists = [Finalist(**configuration) for configuration in past.configurations]
    clock = time.monotonic()
    screen.begin("finalists")
    finals = stages.retrain(finalists)
    folds = None if stop.reason == "interrupted" else _leave_out(stages, finals, screen)
    if folds is None or stop.reason == "interrupted":
        return None
    screen.close()
    _require_weights(finals, begin)
    if past.lost:
        console.print(f"note: {past.lost}: the final models are chosen and scored again", markup=False, soft_wrap=True)
    for name in ("models", "samples"):  # of a process that was killed while it wrote them
        shutil.rmtree(begin.folder / name, ignore_errors=True)
    with Progress() as progress:
        final, reference = score_models(
            settings,
            stages.prepared,
            finals,
            folds,
            begin.folder,
            lambda done, total: progress("scoring the chosen models on the test titles", done, total),
        )
    seconds = past.seconds("finalists") + time.monotonic() - clock
    scores: ScoresEvent = {"event": "scores", "final": final, "reference_final": reference, "seconds": seconds}
    journal.append({**scores, "files": scored_files(begin.folder)})
    return final


def _require_weights(finals: "FinalPlan", begin: Begin) -> None:
    """Raise `UserError` if no finalist has finished, and some can be trained on: scores would close the run."""
    again = [run for run in finals.runs.values() if run.open]
    if again and not any(run.weights for run in finals.runs.values()):
        raise UserError(
            f"no finalist could be trained; the last one: {again[-1].failure}: correct that, then go on:"
            f" {resume_command(begin.folder)}"
        )


def _leave_out(stages: "Stages", finals: "FinalPlan", screen: "Screen") -> "FoldPlan":
    """Train the models of instruments with too few titles once more for every title left out."""
    from sepsearch.search.selection import choose_model

    chosen = {
        fold.instrument: choose_model(finals.runs, fold.instrument, finals.finalists) for fold in stages.prepared.folds
    }
    folds = [
        (fold.id, fold.instrument, fold.title, choice)
        for fold in stages.prepared.folds
        if (choice := chosen[fold.instrument])
    ]
    if folds:
        screen.begin("leave-one-title-out", len(folds))
    return stages.leave_out(folds)


def _register(
    journal: "Journal",
    begin: Begin,
    final: dict[str, Any],
    prepared: "PreparedData",
    tracker: "Tracker",
    console: "Console",
) -> str:
    """Register every model; while the registry is away they stay in the run's folder, for `sepsearch.track`."""
    from sepsearch.tracking.champion import compare_on
    from sepsearch.tracking.registry import register_models
    from sepsearch.utils.progress import Progress, Steps

    if not final:
        console.print("error: no finalist could be trained; the reasons are above and in the journal")
        return "failed"
    run_id = None if begin.past.registered else tracker.run_id()
    folders = {code: begin.folder / "models" / code for code in final}
    if run_id:
        with Progress() as progress:
            stage = "registering the models and comparing them with the champions"
            advance = Steps(lambda done, total: progress(stage, done, total), len(folders))
            done = register_models(folders, run_id, None, advance, compare_on(prepared), begin.past.settled)
        if done.models:
            outcomes = {code: outcome.facts() for code, outcome in done.outcomes.items()}
            journal.append({"event": "registered", "models": done.models, "champions": outcomes})
        for problem in done.problems if not tracker.away else ():
            console.print(f"warning: {problem}", markup=False)
    write_page(journal, begin.folder, console)
    return "finished"


def write_page(journal: "Journal | None", folder: Path, console: "Console") -> None:
    """Write the run report; an error is a warning."""
    from sepsearch.reporting.page import PAGE, write_report

    try:
        write_report(folder)
    except UserError as error:
        console.print(f"warning: no report page: {error}", markup=False, soft_wrap=True)
    else:
        if journal is not None:
            journal.append({"event": "report", "file": PAGE})
