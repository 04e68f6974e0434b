"""`python -m sepsearch.run`: recordings and a search space in, the best network for every instrument out."""

import argparse
import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.arguments import parse_arguments
from sepsearch.errors import EXIT_FAILED, EXIT_INTERRUPTED, exit_on_user_error
from sepsearch.files import write_atomically
from sepsearch.resuming import Begin, changed_facts, clear_remains, new_run, resumed_run, resumed_settings
from sepsearch.run_folder import JOURNAL
from sepsearch.telling import tell_begin, tell_end, tell_interrupted, tell_resume

if TYPE_CHECKING:
    from rich.console import Console

    from sepsearch.journal import Journal
    from sepsearch.material import Material, Settings
    from sepsearch.pipeline import Stages
    from sepsearch.plan import StopSignal
    from sepsearch.tracking import Tracker


def main(argv: list[str] | None = None) -> None:
    """Run a search from its command line. Raises `UserError`; exits with 130 after Ctrl-C, 1 without a model."""
    from rich.console import Console

    arguments = parse_arguments(argv)
    # Where nobody looks a table may be as wide as it likes to be.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    begin = resumed_run(arguments) if arguments.resume else new_run(arguments)
    try:
        state = _rebuild(begin, console) if begin.history.finished else _run(arguments, begin, console)
    finally:
        if begin.journal:
            begin.journal.close()
    if state != "finished":
        sys.exit(EXIT_INTERRUPTED if state == "interrupted" else EXIT_FAILED)


def _run(arguments: argparse.Namespace, begin: Begin, console: "Console") -> str:
    """The run itself; returns how it ended: "finished", "interrupted" or "failed"."""
    from sepsearch.journal import Journal
    from sepsearch.plan import StopSignal
    from sepsearch.tracking import Tracker

    clock = time.monotonic()
    material = _prepare(arguments, begin, console)
    settings = resumed_settings(begin, arguments.trials) if begin.journal else _settings(arguments, begin, material)
    changed = _changes(arguments, begin, settings, material) if begin.journal else {}
    tracker = Tracker(on_warning=lambda text: console.print(f"warning: {text}", markup=False))
    journal = begin.journal
    if journal is None:
        clear_remains(begin.folder)
        write_atomically(begin.folder / "space.yaml", begin.space_file.read_bytes())
        journal = Journal(begin.folder / JOURNAL)
    elif "space" in changed:
        write_atomically(begin.folder / "space.yaml", begin.space_file.read_bytes())
    stop = StopSignal()
    state = "failed"
    try:
        with _stopping_on_interrupt(stop, console):
            _begin_journal(journal, begin, settings, material, tracker, changed, time.monotonic() - clock)
            tell_resume(begin, settings, console)
            state = _search(settings, begin, material, journal, stop, tracker, console)
    finally:
        journal.append("end", state=state)
        if not begin.journal:
            journal.close()
        results = write_results(begin.folder)
        arrived = tracker.close()
    if state == "finished":
        # Ray Tune's own state and checkpoints: of use only while the run goes on.
        for name in ("ray", "checkpoints"):
            shutil.rmtree(begin.folder / name, ignore_errors=True)
    if state == "interrupted":
        tell_interrupted(begin.folder, console)
    else:
        tell_end(results, begin.folder, material.caveats, arrived, console)
    return state


def _rebuild(begin: Begin, console: "Console") -> str:
    """Nothing is left to do of a run that has finished; what follows from its journal is made sure of."""
    from sepsearch.tracking import Tracker

    tracker = Tracker(on_warning=lambda text: console.print(f"warning: {text}", markup=False))
    for event in begin.history.events:
        tracker.handle(event)
    console.print(f"{begin.name} has finished already")
    results = write_results(begin.folder)
    tell_end(results, begin.folder, begin.history.search["caveats"], tracker.close(), console)
    return "finished"


def _begin_journal(
    journal: "Journal", begin: Begin, settings: "Settings", material: "Material", tracker: "Tracker",
    changed: dict[str, Any], seconds: float,
) -> None:  # fmt: skip
    """The first event, of the run or of this process; MLflow hears of all that came before it."""
    from sepsearch.material import journal_begin

    for event in begin.history.events:
        tracker.handle(event)
    journal.listen(tracker.handle)
    if begin.journal:
        journal.append("resume", units=begin.history.unfinished(), changed=changed)
    else:
        journal_begin(journal, settings, begin.space, material, seconds)


def _changes(arguments: argparse.Namespace, begin: Begin, settings: "Settings", material: "Material") -> dict[str, Any]:
    from sepsearch.material import search_facts

    return changed_facts(begin, search_facts(settings, begin.space, material), arguments.accept_changes)


def _prepare(arguments: argparse.Namespace, begin: Begin, console: "Console") -> "Material":
    """Recordings (the demo ensemble without --data), shards, split, baselines."""
    from sepsearch.material import gather_material
    from sepsearch.prepare import prepare
    from sepsearch.progress import Progress

    before = begin.history.search.get("settings", {})
    with Progress() as progress:
        if begin.options["data"] is None:
            from sepsearch.demo import demo_folder

            folder = demo_folder(progress=lambda done, total: progress("rendering the demo ensemble", done, total))
        else:
            folder = Path(begin.options["data"])
        recordings, shards = prepare(folder, begin.space.front_end.resolve(), progress)
    instruments = arguments.instruments or (tuple(before["instruments"]) if before else None)
    seed = before.get("seed", arguments.seed or 0)
    material = gather_material(recordings, shards, begin.space, instruments, seed)
    dataset = material.dataset()
    titles = ", ".join(f"{len(names)} {side}" for side, names in dataset["split"].items())
    console.print(
        f"{dataset['pieces']} pieces, {dataset['clips']} clips, {dataset['rows']} rows of {dataset['source']};"
        f" titles: {titles}",
        soft_wrap=True,
    )
    for code, text in material.caveats.items():
        console.print(f"note: {code}: {text}", soft_wrap=True)
    return material


def _settings(arguments: argparse.Namespace, begin: Begin, material: "Material") -> "Settings":
    from sepsearch.material import Settings

    most = arguments.max_epochs or sys.maxsize
    return Settings(
        name=begin.name,
        seed=arguments.seed or 0,
        trials=arguments.trials or begin.space.search.trials,
        epochs=min(most, begin.space.search.epochs),
        final_epochs=min(most, begin.space.final.epochs),
        instruments=tuple(material.examples),
        options=begin.options,
    )


def _search(
    settings: "Settings", begin: Begin, material: "Material", journal: "Journal", stop: "StopSignal",
    tracker: "Tracker", console: "Console",
) -> str:  # fmt: skip
    """Search, finalists, scores, registry; returns how it ended: "finished", "interrupted" or "failed"."""
    from sepsearch.gauges import Gauges
    from sepsearch.pipeline import Stages
    from sepsearch.screen import Screen
    from sepsearch.session import ray_session
    from sepsearch.store import StoredData, put_shards

    past, options = begin.history, settings.options
    if past.scores is not None:  # only the registry is left, if anything
        return _finish(journal, begin, past.scores["final"], tracker, console)
    with ray_session(options["address"]) as session:
        workers = session.workers(options["cpus_per_trial"], options["gpus_per_trial"], options["workers"])
        tell_begin(session, workers.concurrent, settings, begin, console)
        gauges, screen = Gauges(settings.epochs), Screen(console, settings.epochs)
        journal.listen(gauges.handle)
        for event in past.events:
            screen.remember(event)
        journal.listen(screen.handle)
        key = f"{material.shards.fingerprint}/{settings.seed}/{','.join(settings.instruments)}"
        identity = material.baselines["validation"]["identity"]
        stored = StoredData(key, put_shards(material.shards), material.examples, identity)
        stages = Stages(
            settings, begin.space, material, journal, begin.folder, workers, stop, stored,
            lambda: gauges.refresh(time.monotonic()), past, options["retries"],
        )  # fmt: skip
        with contextlib.closing(screen):
            final = _stages(begin, stages, screen, console)
    return "interrupted" if final is None else _finish(journal, begin, final, tracker, console)


def _stages(begin: Begin, stages: "Stages", screen: Any, console: "Console") -> dict[str, Any] | None:
    """The stages that are still to do; the final models' scores, or None after Ctrl-C."""
    from sepsearch.pipeline import score_models
    from sepsearch.retrain import Finalist

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
    screen.begin("finalists", len(finalists) * stages.space.final.seeds)
    final_plan = stages.retrain(finalists)
    if stop.reason == "interrupted":
        return None
    screen.close()
    console.print("scoring the chosen models on the test titles")
    models = begin.folder / "models"
    shutil.rmtree(models, ignore_errors=True)  # of a process that was killed while it wrote them
    final, reference = score_models(settings, stages.material, finalists, final_plan, models)
    seconds = past.seconds("finalists") + time.monotonic() - clock
    journal.append("scores", final=final, reference_final=reference, seconds=seconds)
    return final


def _finish(journal: "Journal", begin: Begin, final: dict[str, Any], tracker: "Tracker", console: "Console") -> str:
    """Register every model; a registry that is away costs a warning, and the models stay in the run's folder."""
    from sepsearch.registry import register_model

    if not final:
        console.print("error: no finalist could be trained; the reasons are above and in the journal")
        return "failed"
    run_id = None if begin.history.registered else tracker.run_id()
    models = {}
    for code in final:
        if run_id is None:
            break
        try:
            models[code] = register_model(begin.folder / "models" / code, run_id)
        except Exception as error:  # whatever a server can answer with
            console.print(f"warning: {code} was not registered: {str(error).splitlines()[0]}", markup=False)
    if models:
        journal.append("registered", models=models)
    return "finished"


def write_results(folder: Path) -> dict[str, Any]:
    """Write `results.json` from the journal of a run's folder, and return its content."""
    from sepsearch.journal import read_run
    from sepsearch.results import build_results

    results = build_results(read_run(folder / JOURNAL))
    write_atomically(folder / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    return results


@contextlib.contextmanager
def _stopping_on_interrupt(stop: "StopSignal", console: "Console") -> Iterator[None]:
    """Ctrl-C ends the run cleanly within seconds; pressed again, at once."""

    def interrupt(number: int, frame: object) -> None:
        if stop.reason == "interrupted":
            raise KeyboardInterrupt
        stop.reason = "interrupted"
        console.print("stopping: ending trials and closing the journal (Ctrl-C again to leave at once)")

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    exit_on_user_error(main)
