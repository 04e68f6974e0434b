"""Start of a run: a new one, or one that was interrupted or killed and is resumed."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.runs.differences import differences, summary
from sepsearch.runs.folder import run_storage, take_over
from sepsearch.runs.options import RunOptions, kept_options
from sepsearch.runs.run_files import state_with_files
from sepsearch.runs.run_folder import (
    JOURNAL,
    check_name,
    discard_unbegun,
    find_run,
    may_precede_journal,
    remove_leftovers,
)
from sepsearch.runs.state import RunState
from sepsearch.search.events import ContinueEvent, Event, KnownRun
from sepsearch.search.protocol import StopSignal
from sepsearch.search.remote_journal import RemoteJournal
from sepsearch.search.run_lock import RunLock
from sepsearch.spaces.configurations import limit_trials
from sepsearch.spaces.points import check_room
from sepsearch.spaces.space import Space, load_space, stored_space
from sepsearch.utils.errors import UserError, one_line
from sepsearch.utils.files import is_there
from sepsearch.utils.storage import StorageFolder

if TYPE_CHECKING:
    from sepsearch.runs.record import Settings
    from sepsearch.runs.warm_start import Source
    from sepsearch.search.journal import Journal

# Fields of the journal's first event that may change under a run, each with its name in messages.
COMPARED = {"space": "space file", "dataset": "recordings", "baselines": "baselines", "versions": "versions"}


@dataclass(frozen=True)
class Begin:
    """A run that can begin, its lock held. `journal` is open for a run that goes on; None for a new one.

    `space_file` has the space; None for a space that came from no file. `options` are those that the journal keeps.
    `past` is the state that earlier processes have left, after `events`. `storage` is the run's folder as all nodes see
    it; where that is not a folder, `folder` is this machine's copy of what counts in the end, and `remote` the journal
    over there. `notes`: a line for everything that was done to damaged files. `sources` are earlier runs that a new one
    starts from, and `known` their trials that enter its study. `extension`: the run has finished and is extended; then
    `past` is what remains of it. `listeners` get every event that is written from now on; `stop` ends the run early.
    """

    name: str
    folder: Path
    space: Space
    space_file: Path | None
    options: Mapping[str, Any]
    past: RunState
    storage: StorageFolder
    lock: RunLock
    events: Sequence[Event] = ()
    remote: RemoteJournal | None = None
    journal: "Journal | None" = None
    notes: tuple[str, ...] = ()
    sources: Sequence["Source"] = ()
    known: Sequence[KnownRun] = ()
    extension: ContinueEvent | None = None
    listeners: tuple[Callable[[Event], None], ...] = ()
    stop: StopSignal = field(default_factory=StopSignal)

    @property
    def past_events(self) -> Sequence[Event]:
        """What plans restore their state from: `events`, and the extension."""
        return (*self.events, self.extension) if self.extension else self.events

    def close(self) -> None:
        """Let other processes go on with the run."""
        if self.journal:
            self.journal.close()
        if self.remote:
            self.remote.release()
        self.lock.release()


def new_run(options: RunOptions) -> Begin:
    """A run that does not exist yet: its name is claimed, nothing else is written. Raises `UserError`."""
    if options.space is None:
        raise UserError("--space is missing, expected a space file or one that comes with sepsearch: --space detector")
    space, space_file = _given_space(options.space)
    check_room(space, options.trials or space.search.trials, str(space_file or "space"))
    name = options.name or f"{space_file.stem if space_file else 'search'}-{time.strftime('%Y%m%d-%H%M%S')}"
    kept = kept_options(options, {})
    folder, storage, remote = run_storage(options.runs, kept["storage"], check_name(name, "--name"))
    _require_new(folder, storage, remote)
    sources = _warm_start_sources(options)
    with contextlib.ExitStack() as undo:
        lock = RunLock(folder / JOURNAL)
        undo.callback(lock.release)
        if remote:
            undo.callback(remote.release)
            remote.claim()
        _require_new(folder, storage, remote)  # the answer may have changed before the lock was held
        undo.pop_all()
        return Begin(name, folder, space, space_file, kept, RunState(), storage, lock, remote=remote, sources=sources)


def _warm_start_sources(options: RunOptions) -> "list[Source]":
    """The earlier runs that a new one starts from. Raises `UserError`."""
    if not options.warm_start:
        return []
    from sepsearch.runs.warm_start import read_sources

    return read_sources(options.warm_start, options.runs, options.storage)


def _given_space(given: Path | Space) -> tuple[Space, Path | None]:
    """The space that a user gave, and its file if it came from one. Raises `UserError`."""
    return (given, None) if isinstance(given, Space) else (load_space(given), given)


def _has_begun(folder: Path) -> bool:
    """Whether a run's folder holds anything but what a process killed before the run's first event can leave.

    Raises:
        UserError: its journal cannot be read.
    """
    from sepsearch.search.journal import read_journal

    if not is_there(folder):
        return False
    if not folder.is_dir() or any(not may_precede_journal(path.name) for path in folder.iterdir()):
        return True
    journal = folder / JOURNAL
    return journal.exists() and any(event["event"] == "search" for event in read_journal(journal))


def _require_new(folder: Path, storage: StorageFolder, remote: RemoteJournal | None) -> None:
    """Raise `UserError` if a run of this name has begun."""
    taken = folder if _has_begun(folder) else storage if remote and remote.exists() else None
    if taken:
        raise UserError(
            f"{taken}: a run of this name exists, expected a new name: choose another --name, or go on with --resume"
        )


def new_journal(begin: Begin) -> "Journal":
    """The journal of a new run; what a process killed before its first event has left is removed.

    Raises:
        UserError: a run of this name has begun meanwhile, or the journal cannot be written.
    """
    from sepsearch.search.journal import Journal

    _require_new(begin.folder, begin.storage, begin.remote)
    remove_leftovers(begin.folder)
    discard_unbegun(begin.folder)
    return Journal(begin.folder / JOURNAL, remote=begin.remote, lock=begin.lock)


def resumed_run(options: RunOptions, what: str = "--resume") -> Begin:
    """A run that exists, named by the option `what`.

    Raises:
        UserError: there is none, it never began, or another process is at work on it.
    """
    from sepsearch.search.journal import Journal, read_journal, read_run

    if options.name and options.name != options.resume:
        raise UserError(f"--name {options.name}: the run of {what} is {options.resume}: leave --name out")
    name = check_name(options.resume or "", what)
    address = options.storage
    if address is None and is_there(options.runs / name / JOURNAL):
        first = next(read_journal(options.runs / name / JOURNAL), {})
        address = first.get("settings", {}).get("options", {}).get("storage")
    folder, storage, remote = run_storage(options.runs, address, name)
    with contextlib.ExitStack() as undo:
        note = ""
        if remote is None:
            find_run(folder.parent, name, what)
        lock = RunLock(folder / JOURNAL)
        undo.callback(lock.release)
        if remote:
            undo.callback(remote.release)
            note = take_over(storage, remote, folder, name)
        journal = Journal(folder / JOURNAL, resume=True, remote=remote, lock=lock)
        undo.callback(journal.close)
        events = list(read_run(journal.path))
        past = state_with_files(events, folder, storage)
        search = past.search
        if not search:
            raise UserError(f"{what} {name}: it was killed before it began: start it again with --space and --name")
        _refuse_other(options, past)
        kept = kept_options(options, search["settings"].get("options", {}))
        if remote and not options.address:
            _refuse_address(kept["address"], name, storage)
        own = folder / "space.yaml"
        space, space_file = _given_space(options.space) if options.space else (stored_space(own, search["space"]), own)
        remove_leftovers(folder)
        remove_stale_checkpoints(storage, past)
        undo.pop_all()
        notes = tuple(filter(None, (note, journal.notice)))
        return Begin(name, folder, space, space_file, kept, past, storage, lock, events, remote, journal, notes)


def remove_stale_checkpoints(storage: StorageFolder, run: RunState) -> None:
    """Remove checkpoints that no job will go on from; a process that is killed between two stages leaves some."""
    checkpoints = storage / "checkpoints"
    if run.finished:
        checkpoints.remove_all()
    else:
        needed = {f"{job}.checkpoint" for job in (*run.unfinished(), *run.paused)}
        checkpoints.remove(
            *(name for name in checkpoints.names() if name.endswith(".checkpoint") and name not in needed)
        )


def _refuse_address(address: str | None, name: str, storage: StorageFolder) -> None:
    """Raise `UserError` for a cluster that only a bucket's journal names: it would get the token and run code here."""
    if address not in (None, "auto"):
        raise UserError(
            f"--resume {name}: its journal in {storage} names the cluster {one_line(repr(address))}, which anyone"
            " who can write there can have changed: if it is the right one, name it with --address"
        )


def _refuse_other(options: RunOptions, run: RunState) -> None:
    """What makes a run what it is cannot be given anew."""
    settings = run.search["settings"]
    fixed = {"seed": settings["seed"], "instruments": tuple(settings["instruments"])}
    for name, value in fixed.items():
        given = getattr(options, name)
        if given is not None and given != value:
            raise UserError(f"--{name}: the run was begun with {_said(value)}, found {_said(given)}: leave it out")
    if options.max_epochs:
        raise UserError("--max-epochs: trials that have ended cannot be trained for longer: start a new run for that")
    if options.trials and run.configurations is not None and options.trials != settings["trials"]:
        raise UserError("--trials: the search is over and its finalists are chosen: start a new run for more trials")
    begun = run.begun["search"]
    if options.trials and options.trials < begun:
        raise UserError(f"--trials {options.trials}: {begun} have begun already: ask for at least as many")


def _said(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def resumed_settings(begin: Begin, trials: int | None) -> "Settings":
    """The settings of a run that goes on: those it began with, but for `trials` if they are given."""
    from sepsearch.runs.record import Settings

    before = begin.past.search["settings"]
    return Settings(
        name=begin.name,
        seed=before["seed"],
        trials=trials or before["trials"],
        epochs=before["epochs"],
        final_epochs=before["final_epochs"],
        instruments=tuple(before["instruments"]),
        options=begin.options,
    )


def limited_settings(begin: Begin, settings: "Settings") -> "tuple[Settings, str]":
    """The settings with no more trials than the space holds configurations, and a note where that makes them fewer."""
    trials, note = limit_trials(begin.space, settings.trials)
    if not note or begin.past.configurations is not None:
        return settings, ""
    # Journals of earlier versions may hold more trials, with the same configuration several times.
    return dataclasses.replace(settings, trials=max(trials, begin.past.begun["search"])), note


def changed_facts(begin: Begin, facts: Mapping[str, Any], accept: bool) -> dict[str, Any]:
    """The facts (see `record.search_facts`) that are not what they were.

    Raises:
        UserError: one of COMPARED is, and that is not to be accepted.
    """
    before: Mapping[str, Any] = {**begin.past.search}
    found = {field: differences(before[field], facts[field], f"{field}.") for field in facts}
    # Where the recordings lie does not matter as long as they are the same.
    found["dataset"] = [line for line in found["dataset"] if not line.startswith("dataset.source:")]
    serious = [line for field in COMPARED for line in found[field]]
    if serious and not accept:
        kinds = " and ".join(text for field, text in COMPARED.items() if found[field])
        raise UserError(
            f"--resume {begin.name}: {kinds} changed since the run began: {summary(serious)}:"
            " undo that, or go on all the same with --accept-changes"
        )
    return {field: facts[field] for field, lines in found.items() if lines}
