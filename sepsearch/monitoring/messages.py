"""Messages of a run at its beginning and its end, with the commands to type next."""

import functools
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.data.instruments import INSTRUMENTS, file_name
from sepsearch.tracking.descriptions import champion_lines
from sepsearch.utils.formatting import counted
from sepsearch.utils.output import OUTPUT
from sepsearch.utils.programs import program

if TYPE_CHECKING:
    from rich.console import Console

    from sepsearch.distributed.session import Session
    from sepsearch.runs.record import Settings
    from sepsearch.runs.start import Begin

MOST_NAMES = 5  # instruments that a line names


def resume_command(folder: Path) -> str:
    """Command that resumes the run of this folder, or what to call in Python."""
    if OUTPUT.python:
        where = "" if folder.parent == Path("runs") else f", runs={str(folder.parent)!r}"
        return f"sepsearch.resume({folder.name!r}{where})"
    return f"{program('python')} -m sepsearch.run --resume {_named(folder)}"


def track_command(folder: Path) -> str:
    """Command that writes the run of this folder into MLflow."""
    return f"{program('python')} -m sepsearch.track {_named(folder)}"


def token_command() -> str:
    """Command that prints the token of Ray's dashboard."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return (f"RAY_AUTH_TOKEN_PATH={shlex.quote(path)} " if path else "") + f"{program('ray')} get-auth-token"


def dashboard_line(address: str, job: str) -> str:
    """The line with the address of this driver's page in Ray's dashboard, by its job id."""
    return (
        f"Ray dashboard: {address}/#/jobs/{job} (asks once for a token: {token_command()}; its Metrics tab needs"
        " Prometheus and Grafana: cluster/monitoring)"
    )


def _named(folder: Path) -> str:
    return folder.name if folder.parent == Path("runs") else f"{folder.name} --runs {folder.parent}"


def tell_begin(
    session: "Session", concurrent: int, settings: "Settings", begin: "Begin", reference: str, console: "Console"
) -> None:
    """Print the dashboard's address if it runs already, the size of the search, and the command that resumes it."""
    if session.dashboard:
        console.print(dashboard_line(session.dashboard, session.job), soft_wrap=True)
    names = [INSTRUMENTS.get(code, code) for code in settings.instruments]
    of = ", ".join(names) if len(names) <= MOST_NAMES else f"{len(names)} instruments"
    trials, epochs = counted(settings.trials, "trial"), counted(settings.epochs, "epoch")
    console.print(
        f"{trials} of at most {epochs}, {concurrent} at once, for {of}; {reference} is the reference network",
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
    what = "extending" if begin.extension else "resuming"
    console.print(f"{what} {begin.name}: {'; '.join(parts)}", soft_wrap=True)


def tell_interrupted(folder: Path, console: "Console") -> None:
    """Print the command that resumes an interrupted run."""
    console.print(f"interrupted; to go on: {resume_command(folder)}", soft_wrap=True)


def tell_end(
    results: Mapping[str, Any], folder: Path, caveats: Mapping[str, str], page: str, console: "Console"
) -> None:
    """Print the final table, what became of the champions, and last a verdict in words with the next commands.

    `page` is MLflow's address of the final models, "" where not all of the run is in MLflow.
    """
    from sepsearch.monitoring.final_table import final_table
    from sepsearch.runs.verdict import judge_models, verdict_sentences
    from sepsearch.tracking.server_errors import served
    from sepsearch.tracking.tracker import tracking_uri, ui_command

    say = functools.partial(console.print, soft_wrap=True, markup=False, highlight=False)
    if results["final"]:
        console.print(final_table(results, caveats))
    for line in champion_lines(results["champions"]):
        say(line)
    if results["final"]:
        console.print()
        for sentence in verdict_sentences(judge_models(results["final"], results["baselines"])):
            console.print(sentence, style="bold", highlight=False)  # wrapped between words
    if page:
        start = "" if served(tracking_uri()) else f"{ui_command()} opens "
        say(f"listen and choose, in MLflow: {start}{page}")
    else:
        say(f"not all of this run is in MLflow; once it answers: {track_command(folder)}")
    if (folder / "report.html").exists():
        say(f"curves, sounds, why these models won: {folder / 'report.html'}")
    if results["final"] and not OUTPUT.python:
        say(f"separate: {separate_command(results, folder)}")
    say(f"results: {folder / 'results.json'}; models: {folder / 'models'}")


def separate_command(results: Mapping[str, Any], folder: Path) -> str:
    """Command that separates a mixture that is there with the run's best model."""
    from sepsearch.evaluation.audio_samples import example_mixture
    from sepsearch.runs.verdict import best_instrument

    code = best_instrument(results["final"], results["baselines"])
    outcome = results["champions"].get(code, {})
    # Without --model it takes the champion, and this run's model need not have become that.
    model = "" if outcome.get("now") == outcome.get("version") else f" --model {shlex.quote(str(folder))}"
    mixture = example_mixture(folder, code, results["dataset"].get("source", ""))
    what = shlex.quote(str(mixture)) if mixture else "RECORDING"
    return f"{program('python')} -m sepsearch.separate {what} --instrument {file_name(code)}{model}"
