"""`python -m sepsearch.run`: recordings and a search space in, the best network for every instrument out."""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.arguments import parse_arguments
from sepsearch.config import Space, load_space
from sepsearch.errors import EXIT_FAILED, EXIT_INTERRUPTED, UserError, exit_on_user_error
from sepsearch.files import write_atomically

if TYPE_CHECKING:
    from rich.console import Console

    from sepsearch.journal import Journal
    from sepsearch.pipeline import Material, Settings, Stages
    from sepsearch.plan import StopSignal
    from sepsearch.session import Session
    from sepsearch.tracking import Tracker


def main(argv: list[str] | None = None) -> None:
    """Run a search from its command line. Raises `UserError`; exits with 130 after Ctrl-C, 1 without a model."""
    from rich.console import Console

    arguments = parse_arguments(argv)
    # Where nobody looks a table may be as wide as it likes to be.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    if arguments.resume:
        raise UserError(
            f"--resume {arguments.resume}: this version cannot resume yet; its journal keeps all that will be needed"
        )
    if arguments.space is None:
        raise UserError("--space is missing, expected a search space: --space search_spaces/detector.yaml")
    space = load_space(arguments.space)
    name = _run_name(arguments)
    folder = arguments.runs / name
    if folder.exists():
        raise UserError(f"{folder}: a run of this name exists, expected a new name: choose another --name")
    state = _run(arguments, space, name, folder, console)
    if state != "finished":
        sys.exit(EXIT_INTERRUPTED if state == "interrupted" else EXIT_FAILED)


def _run(arguments: argparse.Namespace, space: Space, name: str, folder: Path, console: "Console") -> str:
    """The run itself; returns how it ended: "finished", "interrupted" or "failed"."""
    begin = time.monotonic()
    material = _prepare(arguments, space, console)
    settings = _settings(arguments, space, name, material)
    write_atomically(folder / "space.yaml", arguments.space.read_bytes())

    from sepsearch.journal import Journal
    from sepsearch.pipeline import journal_begin
    from sepsearch.plan import StopSignal
    from sepsearch.tracking import Tracker

    tracker = Tracker(on_warning=lambda text: console.print(f"warning: {text}", markup=False))
    journal = Journal(folder / "journal.jsonl")
    journal.listen(tracker.handle)
    stop = StopSignal()
    state = "failed"
    try:
        with _stopping_on_interrupt(stop, console):
            journal_begin(journal, settings, space, material, time.monotonic() - begin)
            state = _search(arguments, settings, space, material, journal, folder, stop, tracker, console)
    finally:
        journal.append("end", state=state)
        journal.close()
        write_results(folder)
        if not tracker.close():
            console.print("warning: not all of the journal is in MLflow", markup=False)
    if state == "finished":
        # Ray Tune's own state, and checkpoints that `finalists` holds: of use only while the run goes on.
        shutil.rmtree(folder / "ray", ignore_errors=True)
    _tell_end(state, folder, material, name, console)
    return state


def _prepare(arguments: argparse.Namespace, space: Space, console: "Console") -> "Material":
    """Recordings (the demo ensemble without --data), shards, split, baselines."""
    from sepsearch.pipeline import gather_material
    from sepsearch.prepare import prepare
    from sepsearch.progress import Progress

    with Progress() as progress:
        folder = arguments.data
        if folder is None:
            from sepsearch.demo import demo_folder

            folder = demo_folder(progress=lambda done, total: progress("rendering the demo ensemble", done, total))
        recordings, shards = prepare(folder, space.front_end.resolve(), progress)
    material = gather_material(recordings, shards, space, arguments.instruments, arguments.seed)
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


def _settings(arguments: argparse.Namespace, space: Space, name: str, material: "Material") -> "Settings":
    from sepsearch.pipeline import Settings

    most = arguments.max_epochs or sys.maxsize
    return Settings(
        name=name,
        seed=arguments.seed,
        trials=arguments.trials or space.search.trials,
        epochs=min(most, space.search.epochs),
        final_epochs=min(most, space.final.epochs),
        instruments=tuple(material.examples),
    )


def _search(
    arguments: argparse.Namespace, settings: "Settings", space: Space, material: "Material", journal: "Journal",
    folder: Path, stop: "StopSignal", tracker: "Tracker", console: "Console",
) -> str:  # fmt: skip
    """Search, finalists, scores, registry; returns how it ended: "finished", "interrupted" or "failed"."""
    from sepsearch.gauges import Gauges
    from sepsearch.pipeline import Stages
    from sepsearch.screen import Screen
    from sepsearch.session import ray_session
    from sepsearch.store import StoredData, put_shards

    with ray_session(arguments.address) as session:
        workers = session.workers(arguments.cpus_per_trial, arguments.gpus_per_trial, arguments.workers)
        _tell_begin(session, workers.concurrent, settings, console)
        gauges, screen = Gauges(settings.epochs), Screen(console, settings.epochs)
        journal.listen(gauges.handle)
        journal.listen(screen.handle)
        key = f"{material.shards.fingerprint}/{settings.seed}/{','.join(settings.instruments)}"
        identity = material.baselines["validation"]["identity"]
        stored = StoredData(key, put_shards(material.shards), material.examples, identity)
        stages = Stages(
            settings, space, material, journal, folder, workers, stop, stored, lambda: gauges.refresh(time.monotonic())
        )
        with contextlib.closing(screen):
            return _stages(arguments, stages, tracker, screen, console)


def _stages(
    arguments: argparse.Namespace, stages: "Stages", tracker: "Tracker", screen: Any, console: "Console"
) -> str:
    from sepsearch.pipeline import score_models

    journal, settings, stop = stages.journal, stages.settings, stages.stop
    begin = time.monotonic()
    stop.deadline = begin + arguments.time_budget if arguments.time_budget else None
    screen.begin("search", settings.trials)
    plan = stages.search()
    if stop.reason == "interrupted":
        return "interrupted"
    stop.end_budget()
    finalists = stages.choose(plan, time.monotonic() - begin)
    begin = time.monotonic()
    screen.begin("finalists", len(finalists) * stages.space.final.seeds)
    final_plan = stages.retrain(finalists)
    if stop.reason == "interrupted":
        return "interrupted"
    screen.close()
    console.print("scoring the chosen models on the test titles")
    final, reference = score_models(settings, stages.material, finalists, final_plan, stages.folder / "models")
    journal.append("scores", final=final, reference_final=reference, seconds=time.monotonic() - begin)
    if not final:
        console.print("error: no finalist could be trained; the reasons are above and in the journal")
        return "failed"
    _register(journal, final, tracker, console)
    return "finished"


def _register(journal: "Journal", final: dict[str, Any], tracker: "Tracker", console: "Console") -> None:
    """Register every model; a registry that is away costs a warning, and the models stay in the run's folder."""
    from sepsearch.registry import register_model

    models = {}
    run_id = tracker.run_id()
    if run_id is None:
        console.print("warning: MLflow does not answer: the models are in the run's folder, not in the registry")
        return
    for code, score in final.items():
        try:
            models[code] = register_model(Path(score["model_uri"]), run_id)
        except Exception as error:  # whatever a server can answer with
            console.print(f"warning: {code} was not registered: {str(error).splitlines()[0]}", markup=False)
    if models:
        journal.append("registered", models=models)


def write_results(folder: Path) -> dict[str, Any]:
    """Write `results.json` from the journal of a run's folder, and return its content."""
    from sepsearch.journal import read_run
    from sepsearch.results import build_results

    results = build_results(read_run(folder / "journal.jsonl"))
    write_atomically(folder / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    return results


def _tell_begin(session: "Session", concurrent: int, settings: "Settings", console: "Console") -> None:
    if session.dashboard:
        console.print(
            f"Ray dashboard: {session.dashboard} (asks once for a token: {program('ray')} get-auth-token)",
            soft_wrap=True,
        )
    codes = ", ".join(settings.instruments)
    console.print(
        f"{settings.trials} trials of at most {settings.epochs} epochs, {concurrent} at once, over {codes};"
        " t0000 is the report's network",
        soft_wrap=True,
    )


def _tell_end(state: str, folder: Path, material: "Material", name: str, console: "Console") -> None:
    from sepsearch.results import final_table
    from sepsearch.tracking import ui_command

    if state == "interrupted":
        console.print(f"interrupted; to go on: {program('python')} -m sepsearch.run --resume {name}", soft_wrap=True)
        return
    results = json.loads((folder / "results.json").read_text())
    if results["final"]:
        console.print(final_table(results, material.caveats))
    console.print(f"results: {folder / 'results.json'}; models: {folder / 'models'}", soft_wrap=True)
    ui = ui_command().replace("mlflow ", f"{program('mlflow')} ", 1)
    console.print(f"runs, curves and models: {ui}", soft_wrap=True)
    if results["final"]:
        code = next(iter(results["final"]))
        line = f"{program('python')} -m sepsearch.separate mix.wav --instrument {code} -o {code}.wav"
        console.print(f"separate: {line}", soft_wrap=True)


def program(name: str) -> str:
    """What to type for a program installed beside this Python: its path, unless the environment is active."""
    folder = Path(sys.executable).parent
    if os.environ.get("VIRTUAL_ENV") or not (folder / name).exists():
        return name
    return str((folder / name).relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder / name)


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


def _run_name(arguments: argparse.Namespace) -> str:
    name = arguments.name or f"{arguments.space.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UserError(
            f"--name {name!r}: expected letters, digits, '.', '_' and '-', at most 100, not beginning with '.'"
        )
    return str(name)


if __name__ == "__main__":
    exit_on_user_error(main)
