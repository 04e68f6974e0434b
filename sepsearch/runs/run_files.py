"""Files that a run's scores are of (models, samples): their checksums, and whether they are missing or damaged."""

from collections.abc import Sequence
from pathlib import Path

from sepsearch.models.saved_model import load_model
from sepsearch.runs.state import RunState, reduce_events
from sepsearch.search.events import Event, ScoresEvent
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import damage, folder_sha256
from sepsearch.utils.storage import StorageFolder

SCORED = ("models", "samples")


def scored_files(folder: Path) -> dict[str, str]:
    """SHA-256 of all files of a run's final models and their samples, by path below the run's folder."""
    return {f"{part}/{name}": digest for part in SCORED for name, digest in folder_sha256(folder / part).items()}


def state_with_files(events: Sequence[Event], folder: Path, storage: StorageFolder) -> RunState:
    """The state of a run; scores whose files are missing or damaged do not count (`RunState.lost`).

    Args:
        events: all of its journal.
        folder: of the run.
        storage: of the run, from where files that are not in the folder are brought.

    Raises:
        UserError: an event does not hold what a run writes, or the storage does not answer.
    """
    run = reduce_events(events)
    if run.scored:
        for part in SCORED if not storage.local else ():
            (storage / part).fetch(folder / part)
        run.lost = _problem(folder, run.scored)
    return run


def _problem(folder: Path, scores: ScoresEvent) -> str:
    """What is wrong with the files of scores; "" for nothing. Older journals have no checksums, but models do."""
    if "files" in scores:
        return damage(folder, scores["files"])
    try:
        for code in scores["final"]:
            load_model(folder / "models" / code)
    except UserError as error:
        return str(error)
    return ""
