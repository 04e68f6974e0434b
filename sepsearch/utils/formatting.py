"""Numbers, sizes and durations as text for people."""

import math


def number(value: float | None, digits: int = 3) -> str:
    """A number for people; a dash for none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def counted(amount: int, noun: str) -> str:
    """An amount with its noun, "1 epoch" or "4 epochs"."""
    return f"{amount} {noun}{'' if amount == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds for people: "8 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def duration_range(low: float, high: float) -> str:
    """A range of seconds for people: "8 to 14 s", "50 s to 2 min"."""
    first, second = duration(low), duration(high)
    if first == second:
        return first
    (amount, unit), (_, other) = first.split(), second.split()
    return f"{amount if unit == other else first} to {second}"


def size(amount: float) -> str:
    """Bytes for people: "210 MB", "1.2 GB"."""
    return f"{amount / 1e9:.1f} GB" if amount >= 999.5e6 else f"{amount / 1e6:.0f} MB"
