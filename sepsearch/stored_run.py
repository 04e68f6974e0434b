"""Where a run is: its folder on this machine, and its place as all machines see it."""

from collections.abc import Callable
from pathlib import Path

from sepsearch.errors import UserError
from sepsearch.files import write_atomically
from sepsearch.mirror import Mirror
from sepsearch.places import Place, open_place
from sepsearch.run_folder import JOURNAL, check_name, find_run
from sepsearch.safe_paths import path_below

SMALL = ("space.yaml", "results.json", "report.html")
FOLDERS = ("models", "samples")
WEIGHTS = ("finalists", "folds")  # workers leave them in the place themselves


def run_places(runs: Path, storage: str | None, name: str) -> tuple[Path, Place, Mirror | None]:
    """A run's folder on this machine, its place, and its journal over there where that is not a folder.

    Args:
        runs: where this machine keeps runs.
        storage: a shared folder, then the run's folder is there; or a URI, then `runs` has a copy of what counts.
        name: of the run.

    Raises:
        UserError: nothing is behind such a URI.
    """
    place = open_place(storage) / name if storage else None
    if place is None or place.local:
        folder = place.local if place and place.local else runs / name
        return folder, Place(str(folder.absolute())), None
    return runs / name, place, Mirror(place / "journal")


def follow_run(runs: Path, storage: str | None, name: str, copies: Path) -> tuple[Path, Callable[[], Path]]:
    """A run to look at: its folder, and what brings its journal up to date and says where it is. Nothing is claimed.

    Args:
        runs: as `run_places`.
        storage: as `run_places`.
        name: of the run.
        copies: folder of this machine for a copy of a journal that is elsewhere.

    Raises:
        UserError: there is no such run.
    """
    folder, _, mirror = run_places(runs, storage, check_name(name, "NAME"))
    if mirror is None:
        path = find_run(folder.parent, name, "NAME") / JOURNAL
        return folder, lambda: path
    _require(mirror, storage, "NAME", name)
    copy = copies / JOURNAL

    def refresh() -> Path:
        mirror.fetch(copy)
        return copy

    return copies, refresh


def take_over(place: Place, mirror: Mirror, folder: Path, name: str) -> None:
    """Become the writer of a run, and bring its journal and space file to a folder of this machine.

    Raises:
        UserError: there is no such run, or another process is at work on it.
    """
    _require(mirror, str(place), "--resume", name)
    mirror.claim()
    mirror.fetch(folder / JOURNAL)
    _bring(place, "space.yaml", folder)


def fetch_run(storage: str, name: str, folder: Path) -> None:
    """Bring all that counts of a run to a folder of this machine, and nothing outside it.

    Raises:
        UserError: there is no such run, or a name in the storage or a link in the folder leads out of the folder.
    """
    _, place, mirror = run_places(folder.parent, storage, check_name(name, "NAME"))
    if mirror is None:
        raise UserError(f"--storage {storage}: a folder already, expected a URI: use --runs {storage}")
    _require(mirror, storage, "NAME", name)
    mirror.fetch(folder / JOURNAL)
    for file in SMALL:
        _bring(place, file, folder)
    for part in (*FOLDERS, *WEIGHTS):
        (place / part).fetch(path_below(folder, part, place))


def publish_run(place: Place, folder: Path) -> None:
    """Write what a process has made of a run beside its journal, where all machines see it."""
    if place.local:
        return
    for file in SMALL:
        if (folder / file).exists():
            place.write(file, (folder / file).read_bytes())
    for part in FOLDERS:
        (place / part).publish(folder / part)


def _bring(place: Place, file: str, folder: Path) -> None:
    content = place.read(file)
    if content is not None:
        write_atomically(folder / file, content)


def _require(mirror: Mirror, storage: str | None, what: str, name: str) -> None:
    if not mirror.exists():
        raise UserError(f"{what} {name}: no such run in {storage}, expected one that has begun: is the name right?")
