"""Files that a run's scores tell of (models, samples): their checksums, and whether they are missing or damaged."""

from pathlib import Path

from sepsearch.models.saved_model import load_model
from sepsearch.runs.history import History
from sepsearch.search.events import Event
from sepsearch.search.journal import read_run
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import damage, folder_sha256
from sepsearch.utils.storage import StorageFolder

SCORED = ("models", "samples")


def scored_files(folder: Path) -> dict[str, str]:
    """SHA-256 of all files of a run's final models and their samples, by path below the run's folder."""
    return {f"{part}/{name}": digest for part in SCORED for name, digest in folder_sha256(folder / part).items()}


def read_history(journal: Path, place: StorageFolder) -> History:
    """A run so far, from its journal; scores whose files are missing or damaged do not count.

    Args:
        journal: in the run's folder.
        place: of the run, from where files that are not in the folder are brought.

    Raises:
        UserError: the journal is damaged, or the place does not answer.
    """
    history = History(list(read_run(journal)))
    if history.scores is None:
        return history
    if not place.local:
        for part in SCORED:
            (place / part).fetch(journal.parent / part)
    return History(history.events, _problem(journal.parent, history.scores))


def _problem(folder: Path, scores: Event) -> str:
    """What is wrong with the files of scores; "" for nothing. Older journals have no checksums, but models do."""
    if "files" in scores:
        return damage(folder, scores["files"])
    try:
        for code in scores["final"]:
            load_model(folder / "models" / code)
    except UserError as error:
        return str(error)
    return ""
