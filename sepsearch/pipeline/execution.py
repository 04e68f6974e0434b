"""A run after its data is prepared: Ray, preflight, search, finalists, scores."""

import contextlib
import dataclasses
import functools
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sepsearch.monitoring.messages import resume_command, tell_begin
from sepsearch.pipeline.registration import register
from sepsearch.runs.options import AUTO
from sepsearch.runs.run_files import scored_files
from sepsearch.runs.start import Begin
from sepsearch.search.events import Event, ScoresEvent
from sepsearch.utils.errors import StorageFault, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from sepsearch.data.prepared import PreparedData
    from sepsearch.distributed.session import Session
    from sepsearch.distributed.trainable import Task
    from sepsearch.distributed.worker_pool import WorkerPool
    from sepsearch.monitoring.console import Screen
    from sepsearch.pipeline.early_start import EarlyStart
    from sepsearch.pipeline.stages import Stages
    from sepsearch.runs.record import Settings
    from sepsearch.runs.state import RunState
    from sepsearch.search.journal import Journal
    from sepsearch.search.protocol import StopSignal, Workers
    from sepsearch.search.retraining import FinalPlan, FoldPlan
    from sepsearch.tracking.tracker import Tracker


GROWTH_SECONDS = 1800.0  # for a cloud to give a machine, and the machine to be set up


@dataclass(frozen=True)
class Ready:
    """A run that can start: Ray runs, the shards are in its object store, preflight has passed.

    `settings` are the run's, with what was measured in place of `auto`; `reference` is the reference network's trial;
    `pool` has the workers of all stages; `show_dashboard` starts Ray's dashboard and says its address. `forecast` is
    preflight's estimate of the search's seconds; None where no corner was tried.
    """

    workers: "Workers"
    task: "Task"
    settings: "Settings"
    reference: str
    pool: "WorkerPool | None" = None
    show_dashboard: Callable[[Callable[[str], None]], None] = lambda say: None
    forecast: float | None = None


def get_ready(
    settings: "Settings", begin: Begin, prepared: "PreparedData", start: "EarlyStart", console: "Console"
) -> Ready:
    """Wait for Ray, and run preflight; raises `UserError` if that finds a problem."""
    from sepsearch.distributed.object_store import store_shards
    from sepsearch.pipeline.stages import search_task
    from sepsearch.preflight.checks import preflight
    from sepsearch.search.trials import reference_trial
    from sepsearch.utils.progress import Progress

    options = settings.options
    automatic = options["gpus_per_trial"] == AUTO
    key = f"{prepared.shards.fingerprint}/{settings.seed}/{','.join(settings.instruments)}"
    with Progress() as progress:
        progress("starting Ray", 0, 1)
        session, workers = start.result()
        progress("starting Ray", 1, 1)
        stored = store_shards(key, prepared.shards, prepared.training_data(), workers, progress)
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
            pool=start.pool(workers),
            progress=progress,
            patience=GROWTH_SECONDS if session.grows else None,
        )
    if session.grows:
        console.print(
            f"the cluster grows on demand: nodes are started for {workers.concurrent} trials at once,"
            f" {workers.cpus:g} CPUs and {workers.gpus:g} GPUs each",
            soft_wrap=True,
        )
    reference = begin.past.search.get("reference") or reference_trial(settings.trials, workers.concurrent)
    tell_begin(session, workers.concurrent, settings, begin, reference, console)
    console.print(forecast.line(), markup=False, soft_wrap=True)
    for note in (*stored.notes, *forecast.notes):
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    seconds = forecast.times.search if forecast.times else None
    return Ready(workers, task, settings, reference, start.pool(workers), start.show_dashboard, seconds)


def _share_gpus(
    session: "Session", workers: "Workers", task: "Task", options: Mapping[str, Any], begin: Begin, console: "Console"
) -> "tuple[Workers, Task]":
    """Measure and print how many trials share a GPU (`--gpus-per-trial auto`); gives workers and task for it."""
    from sepsearch.preflight.corner_configurations import corner_configs, parameter_counts
    from sepsearch.preflight.gpu_sharing import choose_packing
    from sepsearch.preflight.size_range import small_corners

    if not workers.gpus:
        console.print("note: --gpus-per-trial auto: no GPU found, so trials run on CPUs", soft_wrap=True)
        return workers, task
    console.print("measuring how many trials share a GPU")
    corners = corner_configs(begin.space)
    corners, _ = small_corners(begin.space, corners, parameter_counts(corners))
    packing = choose_packing(task, corners, workers, options["workers"])
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
    from sepsearch.pipeline.hand_stops import watch_requests
    from sepsearch.pipeline.stages import Stages
    from sepsearch.runs.state import reduce_events
    from sepsearch.search.journal import read_run
    from sepsearch.search.sampling.known_trials import known_trials

    if ready is None:
        assert begin.past.scored
        return register(journal, begin, begin.past.scored["final"], prepared, tracker, console)
    state = reduce_events(read_run(journal.path))  # its beginning is there already
    say = functools.partial(console.print, markup=False, soft_wrap=True)
    screen, tick = _show(journal, state, ready, console, say)
    hand_stops = watch_requests(begin.storage, stop, state.resumes, say)
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
        tick,
        begin.past_events,
        settings.options["retries"],
        str(state.search["reference"]),
        ready.pool,
        say,
        known_trials(state.known),
        state.former,
        hand_stops,
    )
    with contextlib.closing(screen), contextlib.closing(hand_stops):
        try:
            final = _stages(begin, stages, screen, console)
        except StorageFault as fault:
            raise StorageFault(f"{fault}; to go on then: {resume_command(begin.folder)}") from fault
    return "interrupted" if final is None else register(journal, begin, final, prepared, tracker, console)


def _show(
    journal: "Journal", state: "RunState", ready: Ready, console: "Console", say: Callable[[str], None]
) -> tuple["Screen", Callable[[], None]]:
    """Show what the journal takes in: on the screen, which is returned, as gauges, and by Ray's dashboard.

    Also returns what must be called a few times a second.
    """
    from sepsearch.monitoring.console import Screen
    from sepsearch.monitoring.prometheus import Gauges

    gauges, screen = Gauges(state), Screen(console, state, ready.forecast)
    for listener in (state.handle, gauges.handle, screen.handle, _dashboard_listener(ready, say)):
        journal.listen(listener)

    def tick() -> None:
        gauges.refresh()
        screen.tick()

    return screen, tick


def _dashboard_listener(ready: Ready, say: Callable[[str], None]) -> Callable[[Event], None]:
    """Starts Ray's dashboard after the first epoch."""

    def handle(event: Event) -> None:
        if event["event"] in ("epoch", "final_epoch", "fold_epoch"):
            ready.show_dashboard(say)

    return handle


def _stages(begin: Begin, stages: "Stages", screen: "Screen", console: "Console") -> dict[str, Any] | None:
    """Run the remaining stages; gives the final models' scores, or None after Ctrl-C."""
    from sepsearch.evaluation.final_models import score_models
    from sepsearch.models.saved_model import PROVISIONAL_FOLDER
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
        stop.end_search()
        finalists = stages.choose(plan, before + time.monotonic() - clock)
    else:
        finalists = [Finalist.of(one) for one in past.configurations]
    clock = time.monotonic()
    screen.begin("finalists")
    finals = stages.retrain(finalists)
    folds = None if stop.reason == "interrupted" else _leave_out(stages, finals, screen)
    if folds is None or stop.reason == "interrupted":
        return None
    screen.close()
    stages.close()
    _require_weights(finals, begin)
    if past.lost:
        console.print(f"note: {past.lost}: the final models are chosen and scored again", markup=False, soft_wrap=True)
    for name in ("models", "samples"):  # of a process that was killed while it wrote them
        shutil.rmtree(begin.folder / name, ignore_errors=True)
    with Progress() as progress:
        found = score_models(settings, stages.prepared, finals, folds, begin.folder, progress)
    seconds = past.seconds("finalists") + time.monotonic() - clock
    scores: ScoresEvent = {"event": "scores", **found._asdict(), "seconds": seconds}  # type: ignore[typeddict-item]
    journal.append({**scores, "files": scored_files(begin.folder)})
    shutil.rmtree(begin.folder / PROVISIONAL_FOLDER, ignore_errors=True)
    return found.final


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
    chosen = {fold.instrument: finals.chosen(fold.instrument) for fold in stages.prepared.folds}
    folds = [
        (fold.id, fold.instrument, fold.title, choice)
        for fold in stages.prepared.folds
        if (choice := chosen[fold.instrument])
    ]
    if folds:
        screen.begin("leave-one-title-out", len(folds))
    return stages.leave_out(folds)
