"""A search from its options to its results: preparation, Ray, stages, journal, clean-up."""

import contextlib
import dataclasses
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.distributed.ray_folder import ray_folder
from sepsearch.monitoring.messages import tell_end, tell_interrupted, tell_resume
from sepsearch.monitoring.notifications import notifying
from sepsearch.pipeline.early_start import EarlyStart, look_at_cluster
from sepsearch.pipeline.execution import get_ready, run_stages
from sepsearch.pipeline.interrupts import stopping_on_interrupt
from sepsearch.pipeline.registration import write_page
from sepsearch.runs.extend import require_new_trials
from sepsearch.runs.folder import publish_run
from sepsearch.runs.results import write_results
from sepsearch.runs.run_folder import RAY_FOLDER, discard_unbegun
from sepsearch.runs.start import Begin, changed_facts, limited_settings, new_journal, resumed_settings
from sepsearch.search.events import FORMAT
from sepsearch.spaces.space import space_text
from sepsearch.utils.errors import StorageFault, UserError
from sepsearch.utils.files import write_atomically
from sepsearch.utils.progress import Progress
from sepsearch.utils.storage import open_storage

if TYPE_CHECKING:
    from rich.console import Console

    from sepsearch.data.prepared import PreparedData
    from sepsearch.pipeline.execution import Ready
    from sepsearch.runs.options import RunOptions
    from sepsearch.runs.record import Settings
    from sepsearch.search.journal import Journal
    from sepsearch.tracking.tracker import Tracker


def run_search(options: "RunOptions", begin: Begin, console: "Console") -> str:
    """Prepare, then search; returns how it ended: "finished", "interrupted" or "failed"."""
    with notifying(options.on_event or (), begin, console) as begin:
        return _search(options, begin, console)


def _search(options: "RunOptions", begin: Begin, console: "Console") -> str:
    from sepsearch.data.recordings import require_recordings
    from sepsearch.preflight.checks import check_folders, check_place
    from sepsearch.preflight.size_range import require_small_enough

    clock = time.monotonic()
    if begin.options["data"] is not None:
        require_recordings(Path(begin.options["data"]))  # before Ray starts, for which all later errors wait
    require_small_enough(begin.space)
    check_folders(begin.folder)
    check_place(begin.storage)
    if begin.options["address"]:
        look_at_cluster(begin)
    else:
        ray_folder()
    with contextlib.closing(EarlyStart(begin)) as start:
        prepared = _prepare(options, begin, console)
        settings = resumed_settings(begin, options.trials) if begin.journal else _settings(options, begin, prepared)
        settings, note = limited_settings(begin, settings)
        require_new_trials(begin, settings.trials, note)
        if note:
            console.print(f"note: {note}", soft_wrap=True, markup=False)
        if begin.sources:
            begin = _warm_start(begin, settings, prepared, console)
        changed = _changes(options, begin, settings, prepared) if begin.journal else {}
        ready = None if begin.past.scored else get_ready(settings, begin, prepared, start, console)
        return _record(begin, ready.settings if ready else settings, prepared, changed, ready, console, clock)


def _record(
    begin: Begin,
    settings: "Settings",
    prepared: "PreparedData",
    changed: dict[str, Any],
    ready: "Ready | None",
    console: "Console",
    clock: float,
) -> str:
    """Open the journal, run the stages and write the end; before this nothing is written."""
    from sepsearch.tracking.tracker import Tracker
    from sepsearch.utils.terminal_console import show_result

    tracker = Tracker(
        on_warning=lambda text: console.print(f"warning: {text}", markup=False, soft_wrap=True), folder=begin.folder
    )
    journal = begin.journal or new_journal(begin)
    state = "failed"
    try:
        if not begin.journal or "space" in changed:
            _keep_space_file(begin)
        with stopping_on_interrupt(begin.stop, console):
            reference = ready.reference if ready else str(begin.past.search.get("reference", ""))
            _begin_journal(journal, begin, settings, prepared, tracker, changed, reference, time.monotonic() - clock)
            tell_resume(begin, settings, console)
            state = run_stages(settings, begin, prepared, journal, ready, begin.stop, tracker, console)
    except BaseException as error:
        state = "interrupted" if isinstance(error, StorageFault) else state
        with contextlib.suppress(UserError):  # a journal that cannot be written is what has ended the run
            _end(journal, begin, tracker, state)
        raise
    results, page = _end(journal, begin, tracker, state)
    if state == "finished":
        _remove_remains(begin)
    show_result(console)
    if state == "interrupted":
        tell_interrupted(begin.folder, console)
    else:
        tell_end(results, begin.folder, prepared.caveats, page, console)
    return state


def _remove_remains(begin: Begin) -> None:
    """Remove what is of use only while a run goes on: Ray Tune's own state, checkpoints, provisional models."""
    from sepsearch.models.saved_model import PROVISIONAL_FOLDER

    for name in (RAY_FOLDER, "checkpoints", PROVISIONAL_FOLDER):
        shutil.rmtree(begin.folder / name, ignore_errors=True)
    (begin.storage / "checkpoints").remove_all()


def _keep_space_file(begin: Begin) -> None:
    """Copy the space file to the run's folder, and to its storage; a space without a file is written as one."""
    content = begin.space_file.read_bytes() if begin.space_file else space_text(begin.space).encode()
    write_atomically(begin.folder / "space.yaml", content)
    if not begin.storage.local:
        begin.storage.write("space.yaml", content)


def _end(journal: "Journal", begin: Begin, tracker: "Tracker", state: str) -> tuple[dict[str, Any], str]:
    """Write the last event, the results and the published files; a run that has not begun leaves no file.

    Returns:
        The content of `results.json`, and MLflow's address of the models; "" where not all of the run is there.
    """
    try:
        if not journal.begun:
            tracker.close()
            return {}, ""
        journal.append({"event": "end", "state": state})
    finally:
        if not begin.journal:
            journal.close()
            if not journal.begun:
                discard_unbegun(begin.folder)
    results = write_results(begin.folder)
    with Progress() as progress:
        stage = "sending the rest of the run to MLflow"
        progress(stage, 0, 1)
        sent = tracker.close()
        progress(stage, 1, 1)
    arrived = sent and all(m["model_uri"].startswith("models:") for m in results["final"].values())
    publish_run(begin.storage, begin.folder)
    return results, tracker.page if arrived else ""


def rebuild_outputs(begin: Begin, console: "Console") -> str:
    """Write the outputs of a finished run again from its journal: results, report, MLflow."""
    from sepsearch.tracking.tracker import Tracker
    from sepsearch.utils.terminal_console import show_result

    tracker = Tracker(
        on_warning=lambda text: console.print(f"warning: {text}", markup=False, soft_wrap=True), folder=begin.folder
    )
    for event in begin.events:
        tracker.handle(event)
    console.print(f"{begin.name} has finished already")
    _remove_remains(begin)
    results = write_results(begin.folder)
    with Progress() as progress:
        problems = write_page(None, begin.folder, progress)
    for problem in problems:
        console.print(f"warning: {problem}", markup=False, soft_wrap=True)
    arrived = tracker.close() and begin.past.registered
    publish_run(begin.storage, begin.folder)
    show_result(console)
    tell_end(results, begin.folder, begin.past.search["caveats"], tracker.page if arrived else "", console)
    return "finished"


def _begin_journal(
    journal: "Journal",
    begin: Begin,
    settings: "Settings",
    prepared: "PreparedData",
    tracker: "Tracker",
    changed: dict[str, Any],
    reference: str,
    seconds: float,
) -> None:
    """Write the first event, of the run or of this process, and send all earlier ones to MLflow."""
    from sepsearch.runs.record import journal_begin

    for event in begin.events:
        tracker.handle(event)
    for listener in (tracker.handle, *begin.listeners):
        journal.listen(listener)
    if begin.journal:
        units = begin.past.unfinished()
        if begin.extension:
            journal.append({**begin.extension, "units": units, "changed": changed})
        else:
            journal.append({"event": "resume", "format": FORMAT, "units": units, "changed": changed})
    else:
        known = {"known": list(begin.known)} if begin.known else {}
        own = {"reference": reference, "seconds": seconds, **known}
        journal_begin(journal, settings, begin.space, prepared, own)


def _changes(options: "RunOptions", begin: Begin, settings: "Settings", prepared: "PreparedData") -> dict[str, Any]:
    from sepsearch.runs.record import search_facts

    return changed_facts(begin, search_facts(settings, begin.space, prepared), options.accept_changes)


def _warm_start(begin: Begin, settings: "Settings", prepared: "PreparedData", console: "Console") -> Begin:
    """The run with the trials of earlier runs that enter its study; raises `UserError` if they are not comparable."""
    from sepsearch.runs.record import search_facts
    from sepsearch.runs.warm_start import known_runs, warm_start_lines

    most = max(len(splits["train"]) for splits in prepared.examples.values())
    known = known_runs(begin.sources, begin.space, search_facts(settings, begin.space, prepared), most)
    for line in warm_start_lines(known, begin.space, settings.trials):
        console.print(line, soft_wrap=True, markup=False)
    return dataclasses.replace(begin, known=known)


def _prepare(options: "RunOptions", begin: Begin, console: "Console") -> "PreparedData":
    """Recordings (the demo ensemble without --data), shards, split, baselines."""
    from sepsearch.data.preparation import prepare
    from sepsearch.data.prepared import gather_data
    from sepsearch.reporting.recordings_report import merge_notes
    from sepsearch.spaces.plugins_in_use import plugin_notes

    before = begin.past.search.get("settings", {})
    storage = open_storage(begin.options["storage"]) if begin.options["storage"] else None
    with Progress() as progress:
        if begin.options["data"] is None:
            from sepsearch.data.demo.rendering import demo_folder

            folder = demo_folder(progress=lambda done, total: progress("rendering the demo ensemble", done, total))
        else:
            folder = Path(begin.options["data"])
        recordings, shards = prepare(folder, begin.space.front_end.resolve(), progress, storage)
    instruments = options.instruments or (tuple(before["instruments"]) if before else None)
    seed = before.get("seed", options.seed or 0)
    prepared = gather_data(
        recordings, shards, instruments, seed, begin.space.split.fractions, begin.space.search.validation_examples
    )
    dataset = prepared.dataset()
    titles = ", ".join(f"{len(names)} {side}" for side, names in dataset["split"].items())
    console.print(
        f"{dataset['pieces']} pieces, {dataset['clips']} clips, {dataset['rows']} rows of {dataset['source']};"
        f" titles: {titles}",
        soft_wrap=True,
        markup=False,
    )
    for note in (
        *plugin_notes(begin.space),
        *merge_notes(recordings.notes),
        *prepared.notes,
        *(f"{code}: {text}" for code, text in prepared.caveats.items()),
    ):
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    return prepared


def _settings(options: "RunOptions", begin: Begin, prepared: "PreparedData") -> "Settings":
    from sepsearch.runs.record import Settings

    most = options.max_epochs or sys.maxsize
    return Settings(
        name=begin.name,
        seed=options.seed or 0,
        trials=options.trials or begin.space.search.trials,
        epochs=min(most, begin.space.search.epochs),
        final_epochs=min(most, begin.space.final.epochs),
        instruments=tuple(prepared.examples),
        options=begin.options,
    )
