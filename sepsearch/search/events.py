"""Kinds of events in a run's journal, the fields of each, and what a reader must be able to rely on.

In the order in which they can appear:

    search     name, run, space, settings, versions, dataset, baselines, caveats, reference, seconds
    trial      id, params                    a trial was handed to a worker
    epoch      id, epoch, ratio, members     an epoch of it was done
    spared     id, rung                      it would be stopped there, but runs to its end to know what was missed
    trial_end  id, state, reason, epochs     completed | stopped | failed; `cause` "environment" of a failure that is
                                             not the configuration's own: it goes on when the run is resumed
    finalists  configurations, seconds       the search is over
    final / final_epoch / final_end          the same three for a finalist and seed; final_end also names its weights,
                                             `sha256` their checksums
    eliminated id, seeds, left, reason       a finalist that cannot win any more gets no other seeds than these
    fold / fold_epoch / fold_end             the same three for a chosen model trained again without one title
    scores     final, reference_final        the models were chosen and scored on the test titles; `files` are the
                                             checksums of models and samples
    registered models, champions             they are in the registry; again, even after the end, for others; what
                                             became of the alias champion (name, version, before, now, why)
    report     file                          the page was written
    end        state                         finished | interrupted | failed

and anywhere in between

    retry      id, reason, epochs, attempt   its worker died: it goes on from its last checkpoint
    resume     units, changed                a new process goes on: with which units, and from which epoch
                                             (an end of them is taken back), and the fields of `search` that have
                                             changed since
"""

from collections.abc import Iterable, Iterator
from typing import Any

from sepsearch.utils.safe_paths import name_problem

Event = dict[str, Any]

_UNIT = {"id": str, "epochs": int, "reason": str}
# What every reader relies on; a line whose checksum holds can only lack it if somebody made it by hand.
FIELDS: dict[str, dict[str, Any]] = {
    "search": {"name": str, "run": str, "space": dict, "settings": dict, "versions": dict, "dataset": dict,
               "baselines": dict, "caveats": dict, "reference": str, "seconds": int | float},
    "trial": {"id": str, "params": dict},
    "epoch": {"id": str, "epoch": int, "ratio": int | float | None, "members": list},
    "spared": {"id": str, "rung": int},
    "trial_end": {**_UNIT, "state": str},
    "finalists": {"configurations": list, "seconds": int | float},
    "final": {"id": str, "configuration": str, "seed": int, "params": dict},
    "final_epoch": {"id": str, "epoch": int, "ratio": int | float | None, "members": list},
    "final_end": {**_UNIT, "state": str, "weights": str | None},
    "eliminated": {"id": str, "seeds": list, "left": int, "reason": str},
    "fold": {"id": str, "instrument": str, "title": str, "configuration": str, "seed": int, "params": dict},
    "fold_epoch": {"id": str, "epoch": int, "ratio": int | float | None, "members": list},
    "fold_end": {**_UNIT, "state": str, "weights": str | None},
    "scores": {"final": dict, "reference_final": dict, "seconds": int | float},
    "registered": {"models": dict},
    "report": {"file": str},
    "end": {"state": str},
    "retry": {**_UNIT, "attempt": int},
    "resume": {"units": dict, "changed": dict},
}  # fmt: skip


def _names(event: Event) -> Iterator[Any]:
    """What readers make paths of: ids of units, weights, codes of instruments. A bucket's writers can choose them."""
    for facts in (event, event.get("changed")):
        settings = facts.get("settings") if isinstance(facts, dict) else None
        yield from _items(settings.get("instruments") if isinstance(settings, dict) else None)
    for key in ("final", "reference_final", "models", "units"):
        yield from _items(event.get(key))
    for one in (event, *_items(event.get("configurations")), *_items(event.get("members"))):
        if isinstance(one, dict):
            yield from (
                one[key] for key in ("id", "configuration", "instrument", "weights") if one.get(key) is not None
            )


def _items(value: Any) -> Iterable[Any]:
    """The items of a list, the keys of an object, of anything else none."""
    return value if isinstance(value, list | dict) else ()


def event_problem(event: Event, known: set[str]) -> str:
    """What is wrong with an event of a journal; "" if nothing is.

    Args:
        event: with a kind.
        known: ids of units that have begun, "" for the search itself; this event's own is added.
    """
    kind = event["event"]
    if not isinstance(event.get("time"), int | float) or not isinstance(event.get("elapsed", 0.0), int | float):
        return f"event {kind} has no time"
    for field, expected in FIELDS.get(kind, {}).items():
        if field not in event or not isinstance(event[field], expected):
            return f"event {kind}: {field} is {str(event.get(field))[:40]!r}, expected {expected}"
    for name in _names(event):
        if problem := name_problem(name):
            return f"event {kind}: {name!r} becomes a path, and has {problem}"
    if kind != "search" and "" not in known:
        return f"event {kind} before the search began"
    unit = event.get("id")
    if kind in ("trial", "final", "fold"):
        known.add(str(unit))
    elif kind == "finalists":
        known |= {str(one.get("id")) for one in event["configurations"] if isinstance(one, dict)}
    elif unit is not None and unit not in known:
        return f"event {kind} of {unit}, which has not begun"
    if kind == "search":
        known.add("")
    return ""
