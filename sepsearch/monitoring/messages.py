"""Messages of a run at its beginning and its end, with the commands to type next."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.tracking.descriptions import champion_line
from sepsearch.utils.programs import program

if TYPE_CHECKING:
    from rich.console import Console

    from sepsearch.distributed.session import Session
    from sepsearch.runs.record import Settings
    from sepsearch.runs.start import Begin


def resume_command(folder: Path) -> str:
    """Command that resumes the run of this folder."""
    return f"{program('python')} -m sepsearch.run --resume {_named(folder)}"


def track_command(folder: Path) -> str:
    """Command that writes the run of this folder into MLflow."""
    return f"{program('python')} -m sepsearch.track {_named(folder)}"


def token_command() -> str:
    """Command that prints the token of Ray's dashboard."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return (f"RAY_AUTH_TOKEN_PATH={shlex.quote(path)} " if path else "") + f"{program('ray')} get-auth-token"


def _named(folder: Path) -> str:
    return folder.name if folder.parent == Path("runs") else f"{folder.name} --runs {folder.parent}"


def tell_begin(session: "Session", concurrent: int, settings: "Settings", begin: "Begin", console: "Console") -> None:
    """Print the dashboard's address, the size of the search, and the command that resumes it."""
    if session.dashboard:
        console.print(f"Ray dashboard: {session.dashboard} (asks once for a token: {token_command()})", soft_wrap=True)
    codes = ", ".join(settings.instruments)
    console.print(
        f"{settings.trials} trials of at most {settings.epochs} epochs, {concurrent} at once, over {codes};"
        " t0000 is the reference network",
        soft_wrap=True,
    )
    console.print(f"to go on after an interruption or a crash: {resume_command(begin.folder)}", soft_wrap=True)


def tell_resume(begin: "Begin", settings: "Settings", console: "Console") -> None:
    """Print where a resumed run stands; nothing for a new one."""
    if not begin.journal:
        return
    for note in begin.notes:
        console.print(f"note: {note}", soft_wrap=True)
    unfinished = begin.past.unfinished()
    parts = [f"{begin.past.begun['search']} of {settings.trials} trials have begun"]
    if begin.past.configurations is not None:
        parts = ["the search is over"]
    if unfinished:
        parts.append("go on: " + ", ".join(f"{job} after epoch {epoch}" for job, epoch in unfinished.items()))
    console.print(f"resuming {begin.name}: {'; '.join(parts)}", soft_wrap=True)


def tell_interrupted(folder: Path, console: "Console") -> None:
    """Print the command that resumes an interrupted run."""
    console.print(f"interrupted; to go on: {resume_command(folder)}", soft_wrap=True)


def tell_end(
    results: Mapping[str, Any], folder: Path, caveats: Mapping[str, str], arrived: bool, console: "Console"
) -> None:
    """Print the final table, where results are, and the next commands. `arrived`: all of it is in MLflow."""
    from sepsearch.runs.results import final_table
    from sepsearch.tracking.tracker import ui_command

    if results["final"]:
        console.print(final_table(results, caveats))
    console.print(f"results: {folder / 'results.json'}; models: {folder / 'models'}", soft_wrap=True)
    if (folder / "report.html").exists():
        console.print(f"curves, sounds, why these models won: {folder / 'report.html'}", soft_wrap=True)
    if arrived:
        ui = ui_command().replace("mlflow ", f"{program('mlflow')} ", 1)
        console.print(f"runs, curves and models: {ui}", soft_wrap=True)
    else:
        line = f"not all of this run is in MLflow; once it answers: {track_command(folder)}"
        console.print(line, soft_wrap=True)
    for code, outcome in results["champions"].items():
        console.print(champion_line(code, outcome), soft_wrap=True, markup=False)
    if results["final"]:
        code = next(iter(results["final"]))
        outcome = results["champions"].get(code, {})
        # Without --model it takes the champion, and this run's model need not have become that.
        model = "" if outcome.get("now") == outcome.get("version") else f" --model {shlex.quote(str(folder))}"
        line = f"{program('python')} -m sepsearch.separate mix.wav --instrument {code}{model} -o {code}.wav"
        console.print(f"separate: {line}", soft_wrap=True)
