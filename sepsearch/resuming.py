"""How a run begins: a new one, or one that was interrupted or killed and goes on."""

import argparse
import contextlib
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.arguments import run_options
from sepsearch.config import Space, load_space
from sepsearch.errors import UserError, one_line
from sepsearch.files import is_there
from sepsearch.history import History, differences, summary
from sepsearch.mirror import Mirror
from sepsearch.places import Place
from sepsearch.run_folder import JOURNAL, check_name, find_run
from sepsearch.stored_run import run_places, take_over

if TYPE_CHECKING:
    from sepsearch.journal import Journal
    from sepsearch.material import Settings

# Fields of the journal's first event that may change under a run, each with what a person calls it.
COMPARED = {"space": "space file", "dataset": "recordings", "baselines": "baselines", "versions": "versions"}


@dataclass(frozen=True)
class Begin:
    """What a run begins with. `journal` is open, and locked, for a run that goes on; None for a new one.

    `place` is the run's folder as all nodes see it; where that is not a folder, `folder` is this machine's copy of what
    counts in the end, and `mirror` the journal over there.
    """

    name: str
    folder: Path
    space: Space
    space_file: Path
    options: Mapping[str, Any]
    history: History
    place: Place
    mirror: Mirror | None = None
    journal: "Journal | None" = None

    def close(self) -> None:
        """Let other processes go on with the run."""
        if self.journal:
            self.journal.close()
        if self.mirror:
            self.mirror.release()


def new_run(arguments: argparse.Namespace) -> Begin:
    """A run that does not exist yet; nothing is written. Raises `UserError`."""
    if arguments.space is None:
        raise UserError("--space is missing, expected a search space: --space search_spaces/detector.yaml")
    space = load_space(arguments.space)
    name = arguments.name or f"{arguments.space.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    options = run_options(arguments, {})
    folder, place, mirror = run_places(arguments.runs, options["storage"], check_name(name, "--name"))
    taken = folder if is_there(folder) and not _never_began(folder) else place if mirror and mirror.exists() else None
    if taken:
        raise UserError(
            f"{taken}: a run of this name exists, expected a new name: choose another --name, or go on with --resume"
        )
    if mirror:
        mirror.claim()
    return Begin(name, folder, space, arguments.space, options, History([]), place, mirror)


def _never_began(folder: Path) -> bool:
    """Whether a process was killed between making a run's folder and writing the first event."""
    from sepsearch.journal import read_journal

    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
    # A name that begins with a dot is a file that was never finished.
    only_ours = all(name in ("space.yaml", JOURNAL) or re.match(r"\.(space\.yaml|journal)", name) for name in names)
    journal = folder / JOURNAL
    return only_ours and (not journal.exists() or not any(True for _ in read_journal(journal)))


def clear_remains(folder: Path) -> None:
    """Remove what `_never_began` has found."""
    shutil.rmtree(folder, ignore_errors=True)


def resumed_run(arguments: argparse.Namespace) -> Begin:
    """A run that exists. Raises `UserError`: there is none, it never began, or another process is at work on it."""
    from sepsearch.journal import Journal, read_journal, read_run

    if arguments.name and arguments.name != arguments.resume:
        raise UserError(f"--name {arguments.name}: the run to resume is {arguments.resume}: leave --name out")
    name = check_name(arguments.resume, "--resume")
    storage = arguments.storage
    if storage is None and is_there(arguments.runs / name / JOURNAL):
        first = next(read_journal(arguments.runs / name / JOURNAL), {})
        storage = first.get("settings", {}).get("options", {}).get("storage")
    folder, place, mirror = run_places(arguments.runs, storage, name)
    with contextlib.ExitStack() as undo:
        if mirror:
            undo.callback(mirror.release)
            take_over(place, mirror, folder, name)
        folder = find_run(folder.parent, name, "--resume")
        journal = Journal(folder / JOURNAL, resume=True, mirror=mirror)
        undo.callback(journal.close)
        history = History(list(read_run(journal.path)))
        search = history.search
        if not search:
            raise UserError(
                f"--resume {arguments.resume}: it was killed before it began: start it again with --space and --name"
            )
        space_file = arguments.space or folder / "space.yaml"
        _refuse_other(arguments, history)
        options = run_options(arguments, search["settings"].get("options", {}))
        if mirror and not arguments.address:
            _refuse_address(options["address"], arguments.resume, place)
        space = load_space(space_file)
        undo.pop_all()
        return Begin(name, folder, space, space_file, options, history, place, mirror, journal)


def _refuse_address(address: str | None, name: str, place: Place) -> None:
    """Whoever can write to a bucket could name a cluster of their own, which would get the token and run code here."""
    if address not in (None, "auto"):
        raise UserError(
            f"--resume {name}: its journal in {place} names the cluster {one_line(repr(address))}, which anyone who can"
            " write there can have changed: if it is the right one, name it with --address"
        )


def _refuse_other(arguments: argparse.Namespace, history: History) -> None:
    """What makes a run what it is cannot be given anew."""
    settings = history.search["settings"]
    begun = {"seed": settings["seed"], "instruments": tuple(settings["instruments"])}
    for name, value in begun.items():
        given = getattr(arguments, name)
        if given is not None and given != value:
            raise UserError(f"--{name}: the run was begun with {_said(value)}, found {_said(given)}: leave it out")
    if arguments.max_epochs:
        raise UserError("--max-epochs: trials that have ended cannot be trained for longer: start a new run for that")
    if arguments.trials and history.finalists is not None and arguments.trials != settings["trials"]:
        raise UserError("--trials: the search is over and its finalists are chosen: start a new run for more trials")
    if arguments.trials and arguments.trials < history.begun:
        raise UserError(f"--trials {arguments.trials}: {history.begun} have begun already: ask for at least as many")


def _said(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def resumed_settings(begin: Begin, trials: int | None) -> "Settings":
    """The settings of a run that goes on: those it began with, but for `trials` if they are given."""
    from sepsearch.material import Settings

    before = begin.history.search["settings"]
    return Settings(
        name=begin.name,
        seed=before["seed"],
        trials=trials or before["trials"],
        epochs=before["epochs"],
        final_epochs=before["final_epochs"],
        instruments=tuple(before["instruments"]),
        options=begin.options,
    )


def changed_facts(begin: Begin, facts: Mapping[str, Any], accept: bool) -> dict[str, Any]:
    """The facts (see `material.search_facts`) that are not what they were.

    Raises:
        UserError: one of COMPARED is, and that is not to be accepted.
    """
    before = begin.history.search
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
