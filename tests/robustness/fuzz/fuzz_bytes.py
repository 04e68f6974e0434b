"""Ways to damage bytes, lines and trees, shared by the fuzzer's targets and the tests; all draw from one generator."""

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

Case = dict[str, bytes | None]  # file name → content; None: the file is missing

ODD_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 7, 2**31, 2**63, 10**30, -(10**30), 10**400, 0.0, -0.0, 0.5, 1e308, 5e-324,
    float("nan"), float("inf"), float("-inf"), "", "x", "0", "8", "\0", "\n", "\ud800", "\u202e", "../../x",
    "/etc/passwd",
    "x" * 5000, [], {}, [[]], [None], {"a": 1}, {"": {}}, [1, [2, [3]]],
]  # fmt: skip
ODD_NAMES = ["", " ", "x", "..", "\n", "\0", "ä", "\u202e", "id", "function-x", "union", "int", "__class__", "n" * 300]


class Wrong(Exception):
    """Something hostile was accepted and read wrongly."""


def expect(holds: bool, what: str) -> None:
    """Raise `Wrong` unless it holds."""
    if not holds:
        raise Wrong(what)


def flip_bit(rng: Random, data: bytes, most: int | None = None) -> bytes:
    """The same with one bit flipped, within the first `most` bytes."""
    if not data:
        return data
    place = rng.randrange(min(len(data), most or len(data)))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def _slice(rng: Random, data: bytes) -> tuple[int, int]:
    begin = rng.randrange(len(data) + 1)
    return begin, min(len(data), begin + rng.choice((1, 2, 4, 8, 64, len(data))))


def damage(rng: Random, data: bytes) -> bytes:
    """One damage that files suffer: a flipped bit, a part cut, doubled, moved, zeroed or overwritten, a cut end."""
    begin, end = _slice(rng, data)
    part, kind = data[begin:end], rng.randrange(9)
    if kind < 2:
        return flip_bit(rng, data)
    if kind == 2:
        return data[:begin]
    if kind == 3:
        return data[:begin] + data[end:]
    if kind == 4:
        return data[:end] + part + data[end:]
    if kind == 5:
        rest = data[:begin] + data[end:]
        place = rng.randrange(len(rest) + 1)
        return rest[:place] + part + rest[place:]
    if kind == 6:
        return data[:begin] + bytes(len(part)) + data[end:]
    if kind == 7:
        return data[:begin] + rng.randbytes(len(part) % 4096) + data[end:]
    return data + rng.choice((b"\0", b"\n", part, data, rng.randbytes(9)))


def damage_lines(rng: Random, data: bytes) -> bytes:
    """One damage that files of lines suffer: lines lost, doubled, moved, swapped, joined; other line ends."""
    lines = data.splitlines(keepends=True) or [b""]
    one, other, kind = rng.randrange(len(lines)), rng.randrange(len(lines)), rng.randrange(11)
    if kind == 0:
        del lines[one]
    elif kind == 1:
        lines.insert(other, lines[one])
    elif kind == 2:
        lines[one], lines[other] = lines[other], lines[one]
    elif kind == 3:
        lines.insert(other, lines.pop(one))
    elif kind == 4:
        lines[one] = lines[one].rstrip(b"\n")
    elif kind == 5:
        lines = lines[one:] if rng.random() < 0.5 else lines[:one]
    elif kind == 6:
        lines[one] = lines[one][: rng.randrange(len(lines[one]) + 1)]
    elif kind == 7:
        lines += lines[one:]
    elif kind == 8:
        lines = [line.replace(b"\n", b"\r\n") for line in lines]
    elif kind == 9:
        rng.shuffle(lines)
    else:
        lines.insert(one, rng.choice((b"\n", b"{}\n", b"null\n", b"\0\0\0\n", b"[" * 3000 + b"\n", b"\xff\xfe\n")))
    return b"".join(lines)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in a tree of mappings and lists."""
    found: list[tuple[Any, Any]] = []
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        found.append((tree, key))
        found += places(value)
    return found


def damage_tree(rng: Random, tree: Any, values: list[Any] | None = None, names: list[Any] | None = None) -> Any:
    """A copy with one value replaced, lost, doubled, renamed, wrapped, or given the value of another place."""
    tree = copy.deepcopy(tree)
    found = places(tree)
    if not found:
        return rng.choice(values or ODD_VALUES)
    (holder, key), kind = rng.choice(found), rng.randrange(8)
    if kind < 3:
        holder[key] = copy.deepcopy(rng.choice(values or ODD_VALUES))
    elif kind == 3:
        del holder[key]
    elif kind == 4 and isinstance(holder, dict):
        holder[rng.choice(names or ODD_NAMES)] = holder.pop(key)
    elif kind == 5:
        holder[key] = nest(holder[key], rng.choice((1, 1, 2, 30, 90)))
    elif kind == 6:
        other, there = rng.choice(found)
        if there in other if isinstance(other, dict) else there < len(other):
            holder[key] = copy.deepcopy(other[there])
    elif isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[rng.choice(names or ODD_NAMES)] = copy.deepcopy(holder[key])
    return tree


def nest(value: Any, levels: int) -> Any:
    """The value in so many lists."""
    for _ in range(levels):
        value = [value]
    return value


def dump_json(rng: Random, tree: Any, reseal: Callable[[Any], Any] | None = None) -> bytes:
    """JSON text of a tree, NaN among it; `reseal` gives it fitting checksums."""
    if reseal is not None and isinstance(tree, dict):
        tree = reseal(tree)
    return json.dumps(tree, indent=rng.choice((None, 1))).encode()
