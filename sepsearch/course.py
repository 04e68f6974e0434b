"""The course of a run once its material is there: Ray and preflight, then search, finalists, scores and registry."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.errors import UserError
from sepsearch.resuming import Begin
from sepsearch.telling import tell_begin

if TYPE_CHECKING:
    from rich.console import Console

    from sepsearch.journal import Journal
    from sepsearch.material import Material, Settings
    from sepsearch.pipeline import Stages
    from sepsearch.plan import StopSignal, Workers
    from sepsearch.retrain import FinalPlan, FoldPlan
    from sepsearch.screen import Screen
    from sepsearch.tracking import Tracker
    from sepsearch.trial import Task


@dataclass(frozen=True)
class Ready:
    """Ray runs, the shards are in its object store, and preflight has found nothing wrong."""

    workers: "Workers"
    task: "Task"


@contextlib.contextmanager
def getting_ready(settings: "Settings", begin: Begin, material: "Material", console: "Console") -> "Iterator[Ready]":
    """Start Ray or join it, and look at everything that could go wrong; raises `UserError` if something would."""
    from sepsearch.pipeline import search_task
    from sepsearch.preflight import preflight
    from sepsearch.progress import Progress
    from sepsearch.session import ray_session
    from sepsearch.store import StoredData, put_shards

    options, past = settings.options, begin.history
    with ray_session(options["address"]) as session:
        workers = session.workers(options["cpus_per_trial"], options["gpus_per_trial"], options["workers"])
        key = f"{material.shards.fingerprint}/{settings.seed}/{','.join(settings.instruments)}"
        identity = dict(material.baselines["validation"]["identity"])
        identity |= {fold: losses["validation"] for fold, losses in material.fold_identity.items()}
        examples = {**material.examples, **{fold.id: fold.sides for fold in material.folds}}
        stored = StoredData(key, put_shards(material.shards), examples, identity)
        task = search_task(settings, begin.space, material, workers, stored, begin.folder)
        with Progress() as progress:
            forecast = preflight(
                begin.space, settings, task, workers, begin.folder,
                time_budget=options["time_budget"], corners=not past.events, progress=progress,
            )  # fmt: skip
        tell_begin(session, workers.concurrent, settings, begin, console)
        console.print(forecast.line(), markup=False, soft_wrap=True)
        for note in forecast.notes:
            console.print(f"note: {note}", markup=False, soft_wrap=True)
        yield Ready(workers, task)


def run_course(
    settings: "Settings", begin: Begin, material: "Material", journal: "Journal", ready: Ready | None,
    stop: "StopSignal", tracker: "Tracker", console: "Console",
) -> str:  # fmt: skip
    """What is still to do of a run; returns how it ended: "finished", "interrupted" or "failed".

    `ready` is None for a run of which only the registry is left.
    """
    from sepsearch.gauges import Gauges
    from sepsearch.pipeline import Stages
    from sepsearch.screen import Screen

    past = begin.history
    if ready is None:
        return _register(journal, begin, (past.scores or {})["final"], tracker, console)
    gauges, screen = Gauges(settings.epochs), Screen(console, settings.epochs)
    journal.listen(gauges.handle)
    for event in past.events:
        screen.remember(event)
    journal.listen(screen.handle)
    stages = Stages(
        settings, begin.space, material, journal, begin.folder, ready.workers, ready.task, stop,
        lambda: gauges.refresh(time.monotonic()), past, settings.options["retries"],
    )  # fmt: skip
    with contextlib.closing(screen):
        final = _stages(begin, stages, screen, console)
    return "interrupted" if final is None else _register(journal, begin, final, tracker, console)


def _stages(begin: Begin, stages: "Stages", screen: "Screen", console: "Console") -> dict[str, Any] | None:
    """The stages that are still to do; the final models' scores, or None after Ctrl-C."""
    from sepsearch.finalists import Finalist
    from sepsearch.judging import score_models
    from sepsearch.progress import Progress

    journal, settings, stop, past = stages.journal, stages.settings, stages.stop, begin.history
    clock = time.monotonic()
    if past.finalists is None:
        before = past.seconds("search")
        budget = settings.options["time_budget"]
        stop.deadline = clock + max(0.0, budget - before) if budget else None
        screen.begin("search", settings.trials)
        plan = stages.search()
        if stop.reason == "interrupted":
            return None
        stop.end_budget()
        finalists = stages.choose(plan, before + time.monotonic() - clock)
    else:
        finalists = [Finalist(**configuration) for configuration in past.finalists]
    clock = time.monotonic()
    dropped = sum(event["left"] for event in past.events if event["event"] == "eliminated")
    screen.begin("finalists", len(finalists) * stages.space.final.seeds - dropped)
    finals = stages.retrain(finalists)
    folds = None if stop.reason == "interrupted" else _leave_out(stages, finals, screen)
    if folds is None or stop.reason == "interrupted":
        return None
    screen.close()
    for name in ("models", "samples"):  # of a process that was killed while it wrote them
        shutil.rmtree(begin.folder / name, ignore_errors=True)
    with Progress() as progress:
        final, reference = score_models(
            settings, stages.material, finals, folds, begin.folder,
            lambda done, total: progress("listening to the chosen models on the test titles", done, total),
        )  # fmt: skip
    seconds = past.seconds("finalists") + time.monotonic() - clock
    journal.append("scores", final=final, reference_final=reference, seconds=seconds)
    return final


def _leave_out(stages: "Stages", finals: "FinalPlan", screen: "Screen") -> "FoldPlan":
    """Train the models of instruments with too few titles once more for every title left out."""
    from sepsearch.finalists import choose_model

    chosen = {
        fold.instrument: choose_model(finals.runs, fold.instrument, finals.finalists) for fold in stages.material.folds
    }
    folds = [
        (fold.id, fold.instrument, fold.title, choice)
        for fold in stages.material.folds
        if (choice := chosen[fold.instrument])
    ]
    if folds:
        screen.begin("titles left out", len(folds))
    return stages.leave_out(folds)


def _register(journal: "Journal", begin: Begin, final: dict[str, Any], tracker: "Tracker", console: "Console") -> str:
    """Register every model; where the registry is away they stay in the run's folder, and the end says how to go on."""
    from sepsearch.registry import register_models

    if not final:
        console.print("error: no finalist could be trained; the reasons are above and in the journal")
        return "failed"
    run_id = None if begin.history.registered else tracker.run_id()
    folders = {code: begin.folder / "models" / code for code in final}

    def tell(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    models, problems = register_models(folders, run_id, tell=tell) if run_id else ({}, [])
    if models:
        journal.append("registered", models=models)
    for problem in problems if not tracker.away else ():
        console.print(f"warning: {problem}", markup=False)
    write_page(journal, begin.folder, console)
    return "finished"


def write_page(journal: "Journal | None", folder: Path, console: "Console") -> None:
    """The report page; what hinders it hinders nothing else."""
    from sepsearch.report_page import PAGE, write_report

    try:
        write_report(folder)
    except UserError as error:
        console.print(f"warning: no report page: {error}", markup=False, soft_wrap=True)
    else:
        if journal is not None:
            journal.append("report", file=PAGE)
