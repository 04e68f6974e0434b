"""Validation of a journal's events on reading: fields and types, order, and names that become paths."""

import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, get_args

from sepsearch.search.events import EXTENDED, Event
from sepsearch.utils.safe_paths import name_problem

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@functools.cache
def _adapters() -> "dict[str, TypeAdapter[Any]]":
    """The validator of every kind of event."""
    from pydantic import TypeAdapter

    return {
        kind: adapter
        for record in get_args(Event)
        for adapter in [TypeAdapter(record)]
        for kind in get_args(record.__annotations__["event"])
    }


def event_problem(event: dict[str, Any], known: set[str]) -> str:
    """What is wrong with an event read from a journal; "" if nothing is.

    Args:
        event: with a kind.
        known: ids of jobs that have begun, "" for the search itself; this event's own is added.
    """
    from pydantic import ValidationError

    kind = event["event"]
    if not isinstance(event.get("time"), int | float) or not isinstance(event.get("elapsed", 0.0), int | float):
        return f"event {kind} has no time"
    if isinstance(version := event.get("format", 1), int) and version > EXTENDED:
        return f"event {kind} has format {version}, expected at most {EXTENDED}: update sepsearch"
    if adapter := _adapters().get(kind):
        try:
            adapter.validate_python(event, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            return f"event {kind}: {where} is {str(first['input'])[:40]!r}: {first['msg']}"
    for name in _names(event):
        if problem := name_problem(name):
            return f"event {kind}: {name!r} becomes a path, and has {problem}"
    return _order_problem(event, known)


def _order_problem(event: dict[str, Any], known: set[str]) -> str:
    """Whether an event is of a search or job that has not begun."""
    kind, job = event["event"], event.get("id")
    if kind != "search" and "" not in known:
        return f"event {kind} before the search began"
    if kind in ("trial", "final", "fold"):
        known.add(str(job))
    elif kind == "finalists":
        known |= {one["id"] for one in event["configurations"]}
    elif job is not None and job not in known:
        return f"event {kind} of {job}, which has not begun"
    if kind == "search":
        known.add("")
    return ""


def _names(event: dict[str, Any]) -> Iterator[Any]:
    """What readers make paths of: ids of jobs, weights, codes of instruments. A bucket's writers can choose them."""
    for facts in (event, event.get("changed")):
        settings = facts.get("settings") if isinstance(facts, dict) else None
        yield from _items(settings.get("instruments") if isinstance(settings, dict) else None)
    for key in ("final", "reference_final", "candidates", "models", "units"):
        yield from _items(event.get(key))
    candidates = event.get("candidates")
    for by_name in candidates.values() if isinstance(candidates, dict) else ():
        yield from _items(by_name)
    for one in (event, *_items(event.get("configurations")), *_items(event.get("members"))):
        yield from (one[key] for key in ("id", "configuration", "instrument", "weights") if one.get(key) is not None)


def _items(value: Any) -> Iterable[Any]:
    """The items of a list, the keys of an object, of anything else none."""
    return value if isinstance(value, list | dict) else ()
