"""Finalists and their runs when a finished search is extended: ids that stay, events that still count."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sepsearch.search.events import Event, FinalistRecord
from sepsearch.search.selection import Finalist, SeedRun
from sepsearch.spaces.configurations import configuration_key
from sepsearch.utils.storage import StorageFolder


def with_former_ids(finalists: Sequence[Finalist], former: Sequence[FinalistRecord]) -> list[Finalist]:
    """The finalists in their order, those that were finalists before as they were, new ones with ids of their own.

    A finalist keeps its id and its trial, so that the seeds that it was trained with are its own still.

    Args:
        finalists: as `selection.choose_finalists` gives them.
        former: all configurations that have been finalists of this run.
    """
    before = {configuration_key(one["params"]): one for one in former}
    taken = {one["id"] for one in former}
    free = (id for number in range(len(finalists) + len(taken)) if (id := f"c{number}") not in taken)
    found = []
    for finalist in finalists:
        record = before.get(configuration_key(finalist.params))
        found.append(Finalist(**record) if record else replace(finalist, id=next(free)))
    return found


def present_events(events: Iterable[Event], runs: Mapping[str, SeedRun]) -> tuple[list[Event], set[str]]:
    """The events that count for a plan, and its runs that are trained anew although they began before.

    Eliminations before the last extension are taken back: their finalists may win now. A run that has begun several
    times, as a fold of another model than before the extension, counts from its last beginning on; if that was with
    another configuration or seed than the plan has, it is trained anew.

    Args:
        events: all of the run's journal.
        runs: of the plan, by id.
    """
    events = list(events)
    extended = max((number for number, event in enumerate(events) if event["event"] == "continue"), default=-1)
    begun: dict[str, int] = {}
    stale: set[str] = set()
    for number, event in enumerate(events):
        if (event["event"] == "final" or event["event"] == "fold") and (run := runs.get(event["id"])):
            begun[run.id] = number
            same = (event["configuration"], event["seed"]) == (run.finalist.id, run.seed)
            (stale.discard if same else stale.add)(run.id)

    def counts(number: int, event: Event) -> bool:
        if event["event"] == "eliminated":
            return number > extended
        id = str(event.get("id", ""))
        return id not in stale and number >= begun.get(id, 0)

    return [event for number, event in enumerate(events) if counts(number, event)], stale


def remove_weights(run: str, folder: Path, storage: StorageFolder | None) -> None:
    """Remove what a run of another configuration has left: it must not be taken for the weights of a new one.

    Args:
        run: id of both.
        folder: of this machine, for the weights of all runs.
        storage: of the weights of all runs, if that is not the folder.
    """
    shutil.rmtree(folder / run, ignore_errors=True)
    if storage is not None:
        (storage / run).remove_all()
