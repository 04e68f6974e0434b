"""Where a run is: its folder on this machine, and its storage as all machines see it."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from sepsearch.runs.run_folder import JOURNAL, check_name, find_run
from sepsearch.search.remote_journal import RemoteJournal
from sepsearch.search.run_lock import RunLock
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import write_atomically
from sepsearch.utils.safe_paths import path_below
from sepsearch.utils.storage import StorageFolder, open_storage

SMALL = ("space.yaml", "results.json", "report.html")
FOLDERS = ("models", "samples")
WEIGHTS = ("finalists", "folds")  # workers leave them in the storage themselves


def run_storage(runs: Path, address: str | None, name: str) -> tuple[Path, StorageFolder, RemoteJournal | None]:
    """A run's folder on this machine, its storage, and its journal over there where that is not a folder.

    Args:
        runs: where this machine keeps runs.
        address: a shared folder, then the run's folder is there; or a URI, then `runs` has a copy of what counts.
        name: of the run.

    Raises:
        UserError: nothing is behind such a URI.
    """
    storage = open_storage(address) / name if address else None
    if storage is None or storage.local:
        folder = storage.local if storage and storage.local else runs / name
        return folder, StorageFolder(str(folder.absolute())), None
    return runs / name, storage, RemoteJournal(storage / "journal")


def follow_run(runs: Path, address: str | None, name: str, copies: Path) -> tuple[Path, Callable[[], Path]]:
    """A run to read, without a lock: its folder, and a function that updates its journal and gives its path.

    Args:
        runs: as `run_storage`.
        address: as `run_storage`.
        name: of the run.
        copies: folder of this machine for a copy of a journal that is elsewhere.

    Raises:
        UserError: there is no such run.
    """
    folder, _, remote = run_storage(runs, address, check_name(name, "NAME"))
    if remote is None:
        path = find_run(folder.parent, name, "NAME") / JOURNAL
        return folder, lambda: path
    _require(remote, address, "NAME", name)
    copy = copies / JOURNAL

    def refresh() -> Path:
        remote.fetch(copy)
        return copy

    return copies, refresh


def take_over(storage: StorageFolder, remote: RemoteJournal, folder: Path, name: str) -> str:
    """Become the writer of a run, and bring its journal and space file to a folder of this machine.

    Returns:
        A note on a copy of the journal that was set aside; "" if there is none.

    Raises:
        UserError: there is no such run, another process is at work on it, or the folder holds another run's journal.
    """
    _require(remote, str(storage), "--resume", name)
    remote.claim()
    note = bring_journal(remote, folder / JOURNAL)
    _bring(storage, "space.yaml", folder)
    return note


def bring_journal(remote: RemoteJournal, path: Path) -> str:
    """Replace a journal of this machine by the storage's, which is the run's; nothing that only this one has is lost.

    The last line here may be missing in the storage: the process that wrote it was killed before it arrived there, so
    it had no effect. Such a copy, and a damaged one, is set aside as `journal.jsonl.1` (or 2, …).

    Returns:
        A note on the copy that was set aside; "" if there is none.

    Raises:
        UserError: the journal here is another run's, or has more lines that the storage has not.
    """
    lines = remote.read_all()
    content = b"".join(lines)
    here = path.read_bytes() if path.exists() else b""
    if content == here:
        return ""
    note = ""
    if not content.startswith(here):
        reason = _lacking(path, here.splitlines(keepends=True), lines, remote.storage)
        aside = next(name for n in itertools.count(1) if not (name := path.with_name(f"{path.name}.{n}")).exists())
        write_atomically(aside, here)
        note = f"{path}: {reason}; the old file is {aside.name} now"
    write_atomically(path, content)
    return note


def _lacking(path: Path, here: Sequence[bytes], there: Sequence[bytes], storage: StorageFolder) -> str:
    """Why a journal of this machine is no beginning of the storage's, if it may be set aside.

    Raises:
        UserError: it may not.
    """
    from sepsearch.search.journal import first_event, read_journal

    try:
        run = next(read_journal(path), {}).get("run")
        sound = len(list(read_journal(path))) >= len(here) - 1  # the last line may be torn
    except UserError:
        run, sound = None, False
    first = first_event(there)
    if run is not None and run != first.get("run"):
        raise UserError(
            f"{path}: the journal of another run ({run}), expected that of the run in {storage} ({first.get('run')}):"
            " move the folder away, or choose another one with --runs"
        )
    if not sound:
        return f"was damaged, and was replaced by the journal in {storage}"
    if list(here[:-1]) == list(there[: len(here) - 1]):
        return f"its last line never reached {storage}, so it was replaced by the journal there"
    raise UserError(
        f"{path}: has {len(here)} lines, expected that {storage} has all but the last of them, found {len(there)} lines"
        " there: restore the storage's objects, or move the file away to go on with what the storage has"
    )


def fetch_run(address: str, name: str, folder: Path) -> str:
    """Copy a run from a storage to a folder of this machine, and write nothing outside it.

    Returns:
        A note on a copy of the journal that was set aside; "" if there is none.

    Raises:
        UserError: there is no such run, a process of this machine is at work on it, the folder holds another run's
            journal, or a name in the storage or a link in the folder leads out of the folder.
    """
    _, storage, remote = run_storage(folder.parent, address, check_name(name, "NAME"))
    if remote is None:
        raise UserError(f"--storage {address}: a folder already, expected a URI: use --runs {address}")
    _require(remote, address, "NAME", name)
    lock = RunLock(folder / JOURNAL)
    try:
        note = bring_journal(remote, folder / JOURNAL)
        for file in SMALL:
            _bring(storage, file, folder)
        for part in (*FOLDERS, *WEIGHTS):
            (storage / part).fetch(path_below(folder, part, storage))
    finally:
        lock.release()
    return note


def publish_run(storage: StorageFolder, folder: Path) -> None:
    """Write what a process has made of a run beside its journal, where all machines see it."""
    if storage.local:
        return
    for file in SMALL:
        if (folder / file).exists():
            storage.write(file, (folder / file).read_bytes())
    for part in FOLDERS:
        (storage / part).publish(folder / part)


def _bring(storage: StorageFolder, file: str, folder: Path) -> None:
    content = storage.read(file)
    if content is not None:
        write_atomically(folder / file, content)


def _require(remote: RemoteJournal, address: str | None, what: str, name: str) -> None:
    if not remote.exists():
        raise UserError(f"{what} {name}: no such run in {address}, expected one that has begun: is the name right?")
