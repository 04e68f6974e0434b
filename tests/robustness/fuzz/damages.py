"""Hypothesis strategies of damaged bytes, lines and trees, shared by the fuzz targets and the tests."""

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

Case = dict[str, bytes | None]  # file name → content; None: the file is missing

ODD_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 7, 2**31, 2**63, 10**30, -(10**30), 10**400, 0.0, -0.0, 0.5, 1e308, 5e-324),
    *(float("nan"), float("inf"), float("-inf"), "", "x", "0", "8", "\0", "\n", "\ud800", "\u202e", "../../x"),
    *("/etc/passwd", "x" * 5000, [], {}, [[]], [None], {"a": 1}, {"": {}}, [1, [2, [3]]]),
]
ODD_NAMES = ["", " ", "x", "..", "\n", "\0", "ä", "\u202e", "id", "function-x", "union", "int", "__class__", "n" * 300]
ODD_LINES = [b"\n", b"{}\n", b"null\n", b"\0\0\0\n", b"[" * 3000 + b"\n", b"\xff\xfe\n"]


class Wrong(Exception):
    """Something hostile was accepted and read wrongly."""


def expect(holds: bool, what: str) -> None:
    """Raise `Wrong` unless it holds."""
    if not holds:
        raise Wrong(what)


def mostly(usual: SearchStrategy[Any], rare: SearchStrategy[Any], times: int = 3) -> SearchStrategy[Any]:
    """`usual` that many times as often as `rare`."""
    return st.one_of(*[usual] * times, rare)


def flipped(data: bytes, most: int | None = None) -> SearchStrategy[bytes]:
    """The same with one bit flipped, within the first `most` bytes."""
    if not data:
        return st.just(data)
    bits = st.integers(0, 8 * min(len(data), most or len(data)) - 1)
    return bits.map(lambda bit: data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :])


@st.composite
def damaged(draw: Any, data: bytes) -> bytes:
    """One damage that files suffer: a flipped bit, a part cut, doubled, moved, zeroed or overwritten, a cut end."""
    begin = draw(st.integers(0, len(data)))
    end = min(len(data), begin + draw(st.sampled_from((1, 2, 4, 8, 64, len(data)))))
    part, rest = data[begin:end], data[:begin] + data[end:]
    place = draw(st.integers(0, len(rest)))
    rearranged = [
        data[:begin],
        rest,
        data[:end] + part + data[end:],
        rest[:place] + part + rest[place:],
        data[:begin] + bytes(len(part)) + data[end:],
    ]
    overwritten = st.binary(max_size=64).map(lambda other: data[:begin] + other + data[end:])
    longer = st.sampled_from([b"\0", b"\n", part, data]).map(lambda more: data + more)
    return draw(st.one_of(flipped(data), st.sampled_from(rearranged), overwritten, longer))


@st.composite
def damaged_lines(draw: Any, data: bytes) -> bytes:
    """One damage that files of lines suffer: lines lost, doubled, moved, shuffled, joined, cut; other line ends."""
    lines = data.splitlines(keepends=True) or [b""]
    one, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    line, before, after = lines[one], lines[:one], lines[one + 1 :]
    rest, ends = before + after, [line.replace(b"\n", b"\r\n") for line in lines]
    rearranged = [
        rest,
        [*lines[:other], line, *lines[other:]],
        [*rest[:other], line, *rest[other:]],
        [*before, line.rstrip(b"\n"), *after],
        lines[one:],
        before,
        lines + lines[one:],
        ends,
    ]
    cut = st.integers(0, len(line)).map(lambda size: [*before, line[:size], *after])
    odd = st.sampled_from(ODD_LINES).map(lambda odd: [*before, odd, line, *after])
    return b"".join(draw(st.one_of(*[st.sampled_from(rearranged)] * 3, cut, odd, st.permutations(lines))))


def places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in a tree of mappings and lists."""
    found: list[tuple[Any, Any]] = []
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        found += [(tree, key), *places(value)]
    return found


@st.composite
def damaged_tree(draw: Any, tree: Any, values: Sequence[Any] = (), names: Sequence[Any] = ()) -> Any:
    """A copy with one value replaced, lost, renamed, nested, doubled, or given the value of another place."""
    tree = copy.deepcopy(tree)
    found, odd = places(tree), st.sampled_from(values or ODD_VALUES).map(copy.deepcopy)
    if not found:
        return draw(odd)
    (holder, key), (other, there) = (found[draw(st.integers(0, len(found) - 1))] for _ in range(2))
    kind, name = draw(st.sampled_from(["replace"] * 3 + ["lose", "rename", "nest", "copy", "double"])), None
    if kind in ("rename", "double") and isinstance(holder, dict):
        name = draw(st.sampled_from(names or ODD_NAMES))
    if kind == "lose":
        del holder[key]
    elif kind == "nest":
        for _ in range(draw(st.sampled_from((1, 2, 30, 90)))):
            holder[key] = [holder[key]]
    elif kind == "copy":
        holder[key] = copy.deepcopy(other[there])
    elif name is not None:
        holder[name] = holder.pop(key) if kind == "rename" else copy.deepcopy(holder[key])
    elif kind == "double":
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[key] = draw(odd)
    return tree


def repeated(strategy: Callable[[Any], SearchStrategy[Any]], first: Any, most: int) -> SearchStrategy[Any]:
    """`first` after 1 to `most` damages, mostly one."""
    found = strategy(first)
    return found if most == 1 else mostly(found, found.flatmap(lambda value: repeated(strategy, value, most - 1)))


def as_json(tree: Any, reseal: Callable[[Any], Any] | None = None) -> bytes:
    """JSON text of a tree, NaN among it; `reseal` gives it fitting checksums."""
    return json.dumps(reseal(tree) if reseal is not None and isinstance(tree, dict) else tree).encode()
