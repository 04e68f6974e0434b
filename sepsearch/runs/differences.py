"""Differences between two nested tables of plain values, as lines for people."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

SHOWN = 6


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two nested tables of plain values: "search.trials: 8 → 12", one line each."""
    found = []
    for key in [*before, *(key for key in now if key not in before)]:
        old, new = (json.loads(json.dumps(table.get(key), default=str)) for table in (before, now))
        name = f"{prefix}{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{name}.")
        elif old != new:
            found.append(f"{name}: {_short(old)} → {_short(new)}")
    return found


def _short(value: Any) -> str:
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def summary(found: Sequence[str]) -> str:
    """Differences in one line, of many the first SHOWN."""
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more
