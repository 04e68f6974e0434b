"""The last stage of a run: its models registered and compared with the champions, its report written."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.runs.start import Begin
from sepsearch.utils.errors import UserError
from sepsearch.utils.progress import Progress, Steps
from sepsearch.utils.terminal_text import write_line

if TYPE_CHECKING:
    from rich.console import Console

    from sepsearch.data.prepared import PreparedData
    from sepsearch.search.journal import Journal
    from sepsearch.tracking.tracker import Tracker

SENDING = "sending runs, audio and pictures to MLflow"
REGISTERING = "registering the models and comparing them with the champions"
REPORT = "writing the run report"


def register(
    journal: "Journal",
    begin: Begin,
    final: dict[str, Any],
    prepared: "PreparedData",
    tracker: "Tracker",
    console: "Console",
) -> str:
    """Register every model; while the registry is away they stay in the run's folder, for `sepsearch.track`."""
    if not final:
        write_line("error: no finalist could be trained; the reasons are above and in the journal", error=True)
        return "failed"
    with Progress() as progress:
        problems = [] if begin.past.registered else _register(journal, begin, final, prepared, tracker, progress)
        problems += write_page(journal, begin.folder, progress)
    for problem in problems:
        console.print(f"warning: {problem}", markup=False, soft_wrap=True)
    return "finished"


def _register(
    journal: "Journal",
    begin: Begin,
    final: dict[str, Any],
    prepared: "PreparedData",
    tracker: "Tracker",
    progress: Progress,
) -> list[str]:
    """Register the models that the run has chosen; gives what went wrong, in lines, if MLflow answers."""
    from sepsearch.tracking.champion import compare_on
    from sepsearch.tracking.registry import register_models

    progress(SENDING, 0, 1)  # seconds, most of them for the finalists' audio and pictures
    run_id = tracker.run_id()
    if not run_id:
        return []
    progress(SENDING, 1, 1)
    folders = {code: begin.folder / "models" / code for code in final}
    advance = Steps(lambda done, total: progress(REGISTERING, done, total), len(folders))
    done = register_models(folders, run_id, None, advance, compare_on(prepared), begin.past.settled)
    if done.models:
        outcomes = {code: outcome.facts() for code, outcome in done.outcomes.items()}
        journal.append({"event": "registered", "models": done.models, "champions": outcomes})
    return [] if tracker.away else list(done.problems)


def write_page(journal: "Journal | None", folder: Path, progress: Progress) -> list[str]:
    """Write the run report; gives what went wrong, in lines: a run without a report is still a run."""
    from sepsearch.reporting.page import PAGE, write_report

    progress(REPORT, 0, 1)
    try:
        write_report(folder)
    except UserError as error:
        return [f"no report page: {error}"]
    progress(REPORT, 1, 1)
    if journal is not None:
        journal.append({"event": "report", "file": PAGE})
    return []
