"""Text report on a folder of recordings: by instrument, by piece, repeated takes, notes, shards."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.data.shards import ShardSet
from sepsearch.data.splits import RULES

if TYPE_CHECKING:
    from rich.console import Console


EXACT, CLOSE = (
    -140.0,
    -40.0,
)  # dB: a mixture that differs less from the sum of its stems is equal to it, or sounds alike
GAIN_MATTERS = 3.0  # dB by which a gain must bring the sum nearer to the mixture to be printed
NOTHING = (
    "nothing to separate: no other instrument sounds in any of its titles, so searches leave it out: add recordings in"
    " which others play, too"
)
MOST_NAMED = 3  # files or pieces by name in a note
Facts = dict[str, Any]  # the manifest of a shard set, or a part of it


def roster_console() -> "Console":
    """Standard output: as wide as the terminal, or without a limit where it is none."""
    from sepsearch.utils.terminal_console import make_console

    return make_console(plain_width=10_000)


def print_roster(console: "Console", manifest: Facts) -> None:
    """Print a manifest's recordings by instrument and by piece, takes used twice, and notes."""
    pieces = manifest["pieces"]
    seconds = sum(piece["seconds"] for piece in pieces)
    titles = len({piece["title"] for piece in pieces})
    stems = sum(len(piece["stems"]) for piece in pieces)
    heading(console, f"Recordings in {manifest['source']}")
    amounts = f"{_count(len(pieces), 'piece')} of {_count(titles, 'title')}, {_count(stems, 'stem')}"
    line(console, f"{amounts}, {seconds:,.0f} s ({_clock(seconds)})")
    _print_instruments(console, manifest)
    _print_pieces(console, pieces)
    _print_shared(console, manifest)
    if notes := [*manifest["notes"], *_mixture_notes(pieces)]:
        heading(console, "Notes")
        for note in merge_notes(notes):
            line(console, f"- {note}")


def instrument_facts(manifest: Facts) -> dict[str, Facts]:
    """By instrument's code: stems, pieces, titles, titles that no take connects, seconds, share that sounds, caveat."""
    group_of = {title: number for number, group in enumerate(manifest["title_groups"]) for title in group}
    playing: dict[str, list[tuple[Facts, Facts]]] = defaultdict(list)
    for piece in manifest["pieces"]:
        for stem in piece["stems"]:
            playing[stem["instrument"]].append((piece, stem))
    found = {}
    for code in sorted(playing, key=list(INSTRUMENTS).index):
        parts = playing[code]
        titles = {piece["title"] for piece, _ in parts}
        seconds = sum(stem["seconds"] for _, stem in parts)
        found[code] = {
            "stems": len(parts),
            "pieces": len({piece["name"] for piece, _ in parts}),
            "titles": len(titles),
            "titles_apart": len({group_of[title] for title in titles}),
            "seconds": seconds,
            "sounding": sum(stem["sounding"] * stem["seconds"] for _, stem in parts) / seconds,
            "caveat": _caveat(code, parts, group_of),
        }
    return found


def recordings_facts(manifest: Facts, shards: ShardSet) -> Facts:
    """What `print_roster` and `print_shards` print, with keys as docs/command-line.md lists them."""
    pieces = [
        {
            "name": piece["name"],
            "title": piece["title"],
            "players": [stem["instrument"] for stem in piece["stems"]],
            "seconds": piece["seconds"],
            "clips": piece["shard"]["clips"],
            "rows": piece["shard"]["rows"],
            "mixture": piece["mixture"],
        }
        for piece in manifest["pieces"]
    ]
    set_facts = {"fingerprint": shards.fingerprint, "folder": shards.folder, "built": shards.built, "rows": shards.rows}
    return {
        "source": manifest["source"],
        "pieces": pieces,
        "instruments": instrument_facts(manifest),
        "shared_takes": spanning_takes(manifest["shared_takes"]),
        "title_groups": manifest["title_groups"],
        "notes": [*manifest["notes"], *_mixture_notes(manifest["pieces"])],
        "shards": set_facts
        | {"bytes": sum(piece["shard"]["bytes"] for piece in manifest["pieces"]), "front_end": manifest["front_end"]},
    }


def _print_instruments(console: "Console", manifest: Facts) -> None:
    rows = []
    facts = instrument_facts(manifest)
    for code, one in facts.items():
        together = f" ({one['titles_apart']} apart)" if one["titles_apart"] < one["titles"] else ""
        amounts = (str(one["stems"]), str(one["pieces"]), f"{one['titles']}{together}")
        shares = (f"{one['seconds'] / 60:.1f}", f"{one['sounding']:.0%}")
        rows.append([f"{code}  {INSTRUMENTS[code]}", *amounts, *shares, one["caveat"]])
    heading(console, "By instrument")
    _table(console, ["instrument", "#stems", "#pieces", "#titles", "#minutes", "#sounds", "caveat"], rows)
    for caveat in sorted({one["caveat"] for one in facts.values()} - {""}):
        line(console, RULES.get(caveat, NOTHING))
    if any("apart" in row[3] for row in rows):
        line(console, "apart: titles that share takes count as one, since no split separates them")


def _caveat(code: str, parts: Sequence[tuple[Facts, Facts]], group_of: Mapping[str, int]) -> str:
    """Rule by which a search scores an instrument; "" for an ordinary split of its titles.

    Counts titles in which another instrument sounds. Clips are examined by the search only.
    """
    sounding = {
        piece["title"]
        for piece, _ in parts
        if any(stem["instrument"] != code and stem["sounding"] > 0 for stem in piece["stems"])
    }
    apart = len({group_of[title] for title in sounding})
    return "nothing to separate" if not apart else "" if apart >= 3 else "one title" if apart == 1 else "few titles"


def _print_pieces(console: "Console", pieces: Sequence[Facts]) -> None:
    rows = []
    for piece in pieces:
        players, shard = " ".join(stem["instrument"] for stem in piece["stems"]), piece["shard"]
        amounts = (f"{piece['seconds']:.1f}", str(shard["clips"]), f"{shard['rows']:,}")
        rows.append([piece["name"], players, *amounts, _deviation(piece["mixture"])])
    heading(console, "By piece")
    _table(console, ["piece", "players", "#seconds", "#clips", "#rows", "mixture differs from sum by"], rows)
    found = [check["deviation_db"] for piece in pieces if (check := piece["mixture"])["deviation_db"] is not None]
    if far := sum(deviation > CLOSE for deviation in found):
        differ = (
            f"{far} of {_count(len(found), 'mixture')} differ from the sum of their stems by more than {CLOSE:.0f} dB"
        )
        line(console, f"{differ}, which changes nothing: rows are made from the stems")


def _deviation(check: Facts) -> str:
    """Difference between a mixture and the sum of its stems as text."""
    deviation, gain, fitted = check["deviation_db"], check["gain_db"], check["fitted_db"]
    if deviation is None:
        return "not compared" if check.get("problem") else "no mixture"
    if deviation < EXACT:
        return "nothing"
    if deviation > CLOSE and fitted < deviation - GAIN_MATTERS:
        return f"{deviation:.1f} dB ({fitted:.1f} dB at gain {gain:+.1f} dB)"
    return f"{deviation:.1f} dB"


def _mixture_notes(pieces: Sequence[Facts]) -> list[str]:
    """A line for each mixture that was not compared with the sum of its stems."""
    problems = {piece["name"]: piece["mixture"].get("problem") for piece in pieces}
    return [
        f"{name}: its mixture is not compared with the sum of its stems ({problem}); rows are made from the stems"
        for name, problem in problems.items()
        if problem
    ]


def _print_shared(console: "Console", manifest: Facts) -> None:
    takes = manifest["shared_takes"]
    if not takes:
        return
    rows = []
    for take in spanning_takes(takes):
        (piece, stem), (other, other_stem) = take["first"], take["second"]
        gain = round(20 * math.log10(max(abs(take["gain"]), 1e-9)), 1) + 0.0  # + 0.0: no -0.0
        lag = round(take["lag_seconds"], 3) + 0.0
        numbers = (f"{take['correlation']:.4f}", f"{gain:+.1f} dB", f"{lag:+.3f} s")
        rows.append([f"{other_stem} of {other}", f"{stem} of {piece}", *numbers])
    heading(console, "Takes used more than once")
    _table(console, ["stem", "is the take of", "#alike", "#gain", "#later by"], rows)
    if any(take["correlation"] < 0 for take in takes):
        line(console, "alike: correlation of the waveforms, below 0 where one has its polarity inverted")
    together = [" + ".join(group) for group in manifest["title_groups"] if len(group) > 1]
    if together:
        line(console, f"kept in the same part of every split: {'; '.join(together)}")
    else:
        line(console, "each within one title, which no split divides: nothing leaks from training to test")


def spanning_takes(takes: Iterable[Facts]) -> list[Facts]:
    """Spanning tree of each take's pairs: n - 1 of the n (n - 1) / 2 pairs of n stems."""
    take_of: dict[tuple[str, str], set[tuple[str, str]]] = {}
    kept = []
    for pair in takes:
        first, second = tuple(pair["first"]), tuple(pair["second"])
        one, other = take_of.setdefault(first, {first}), take_of.setdefault(second, {second})
        if one is not other:
            kept.append(pair)
            one |= other
            take_of.update(dict.fromkeys(other, one))
    return kept


def merge_notes(notes: Iterable[str]) -> list[str]:
    """Notes "where: what", with those merged that differ only in `where` and in numbers."""
    alike: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for note in notes:
        where, _, what = note.partition(": ")
        alike[re.sub(r"\d+(\.\d+)?", "#", what)].append((where, what))
    merged = []
    for group in alike.values():
        (where, what), *rest = group
        if all(other == what for _, other in rest):
            merged.append(f"{_names([name for name, _ in group])}: {what}")
        else:
            merged.append(f"{where}: {what}; likewise {_names([name for name, _ in rest])}")
    return merged


def _names(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    if len(names) <= MOST_NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED:,} more"


def print_shards(console: "Console", shards: ShardSet) -> None:
    pieces, front_end = shards.manifest["pieces"], shards.front_end
    size = sum(piece["shard"]["bytes"] for piece in pieces)
    clips = sum(piece["shard"]["clips"] for piece in pieces)
    axis = {"mel": "128 mel bands", "log": "128 logarithmic bands", "linear": "128 linear bins"}[front_end.axis]
    heading(console, f"Shards {shards.fingerprint}: {'built' if shards.built else 'already there'}")
    line(console, f"folder     {shards.folder}", whole=True)
    shard_count = _count(len(pieces), "shard")
    line(console, f"content    {shards.rows:,} rows of {_count(clips, 'clip')}, {size / 1e6:,.1f} MB in {shard_count}")
    frames = f"128 frames in {front_end.clip_seconds:g} s, Hann window of {front_end.window}"
    line(console, f"front end  {axis} from {front_end.low_hz:g} to {front_end.high_hz:g} Hz, {frames}")


def heading(console: "Console", text: str) -> None:
    console.print()
    console.print(text, style="bold", soft_wrap=True)


def line(console: "Console", text: str, whole: bool = False) -> None:
    """A line of text, wrapped between words on a terminal unless it is to be copied `whole`."""
    console.print(text, soft_wrap=whole)


def _table(console: "Console", columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; columns whose name begins with # are numbers. No cell is cut: where there is no room it is folded."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, header_style="")
    used = [number for number in range(len(columns)) if any(row[number] for row in rows)]
    for number in used:
        justify: Literal["right", "left"] = "right" if columns[number].startswith("#") else "left"
        table.add_column(columns[number].removeprefix("#"), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(row[number] for number in used))
    console.print(table)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{seconds / 60:.1f} min"
