"""Examples by split: training, validation and test examples of an instrument, and folds that leave out one title."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sepsearch.data.dataset import Pairs, RowIndex, instrument_pairs
from sepsearch.data.splits import SPLITS, Split
from sepsearch.utils.errors import UserError

HELD_BACK = 0.2


def split_pairs(
    index: RowIndex, split: Split, instruments: Sequence[str]
) -> tuple[dict[str, dict[str, Pairs]], dict[str, str]]:
    """Examples by instrument and split ("train", "validation", "test"), and the rule of each instrument that needs one.

    Rules are keys of `splits.RULES`: the split's own, or "shared clips" where a split would be left without an example
    in which there is something to separate.

    Raises:
        UserError: an instrument is not in the recordings, nothing of it sounds, or nothing sounds beside it.
    """
    examples, rules = {}, {}
    for code in instruments:
        if code not in index.instruments:
            known = ", ".join(index.instruments)
            raise UserError(f"instruments: {code!r} does not play in these recordings, expected some of {known}")
        pairs = instrument_pairs(index, code)
        if not len(pairs):
            raise UserError(f"instruments: nothing sounds in the clips of {code}; leave it out (--instruments)")
        if not len(pairs.separable):
            raise nothing_to_separate(index, [code])
        examples[code] = {name: _part(index, split, code, pairs, name) for name in SPLITS}
        if code in split.rules:
            rules[code] = split.rules[code]
        if not all(len(part.separable) for part in examples[code].values()):
            rules[code] = "shared clips"
            examples[code] = dict.fromkeys(SPLITS, pairs)
    return examples, rules


def choose_instruments(index: RowIndex, named: Sequence[str] | None) -> tuple[list[str], tuple[str, ...]]:
    """The instruments of a search, and a note for the user on those that are left out.

    They are those that were named, or all beside which something else sounds.

    Raises:
        UserError: there is nothing to separate an instrument from that was named, or any at all.
    """
    separable = index.separable_instruments()
    alone = [code for code in index.instruments if code not in separable and code in (named or index.instruments)]
    if named or not separable:
        if alone:
            raise nothing_to_separate(index, alone)
        return list(named or ()), ()
    notes = (f"left out: {_alone(index, alone)}",) if alone else ()
    return [code for code in index.instruments if code in separable], notes


def nothing_to_separate(index: RowIndex, codes: Sequence[str]) -> UserError:
    """The error for instruments beside which nothing else sounds in any clip."""
    return UserError(f"instruments: {_alone(index, codes)}")


def _alone(index: RowIndex, codes: Sequence[str]) -> str:
    """What is wrong with recordings of instruments that nothing else sounds beside, and what to do."""
    where = "; ".join(f"{code} in {_titles_of(index, code)}" for code in codes)
    return (
        f"nothing to separate {', '.join(codes)} from, since no other instrument sounds in any clip ({where}):"
        " add recordings in which others play, too"
    )


def _titles_of(index: RowIndex, code: str, most: int = 3) -> str:
    """The titles that an instrument plays in, for a message."""
    titles = sorted({title for title, players in zip(index.titles, index.players, strict=True) if code in players})
    more = f" and {len(titles) - most} more" if len(titles) > most else ""
    return ", ".join(titles[:most]) + more


def _part(index: RowIndex, split: Split, code: str, pairs: Pairs, which: str) -> Pairs:
    """The examples of one instrument in one of "train", "validation" and "test"."""
    title, position = _places(index, pairs)
    names, counts = np.unique(title, return_counts=True)
    titles = [str(name) for _, name in sorted(zip(-counts, names, strict=True))]
    if code in split.rules:
        separable = set(title[pairs.separable].tolist())
        titles = [name for name in titles if name in separable]
    chosen = np.zeros(len(pairs), dtype=bool)
    for name, (begin, end) in split.parts(code, titles, which).items():
        chosen |= (title == name) & (position >= begin) & (position < end)
    return pairs.pick(np.flatnonzero(chosen))


def _places(index: RowIndex, pairs: Pairs) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """Title and, from 0 to 1, place in its piece of every example."""
    position = (index.clip[pairs.mixture] + 0.5) / index.clips_of_piece()[pairs.piece]
    return np.array(index.titles)[pairs.piece], position


@dataclass(frozen=True)
class Fold:
    """An instrument's examples with `title` left out: "train" and "validation" on other titles, "test" on that one.

    `held` are the numbers of all rows that nothing may be trained on, (row,), other instruments' among them.
    """

    id: str
    instrument: str
    title: str
    splits: Mapping[str, Pairs]
    held: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def leave_one_title_out(index: RowIndex, instrument: str, groups: Sequence[Sequence[str]] = ()) -> list[Fold]:
    """A fold for every title in which an instrument has something to separate.

    None at all where one of them would leave a split without. Titles of one group (they share a take) are left out
    together. The last fifth of every other piece validates, at least its last clip: only to choose the best epoch.
    """
    pairs = instrument_pairs(index, instrument)
    title, position = _places(index, pairs)
    clips = index.clips_of_piece()[pairs.piece]
    held = (position >= 1 - HELD_BACK) | ((clips > 1) & (index.clip[pairs.mixture] == clips - 1))
    folds = []
    for number, name in enumerate(sorted(set(title[pairs.separable].tolist())), 1):
        kin = next((group for group in groups if name in group), [name])
        other = ~np.isin(title, list(kin))
        masks = {"train": other & ~held, "validation": other & held, "test": title == name}
        splits = {split: pairs.pick(np.flatnonzero(mask)) for split, mask in masks.items()}
        if not all(len(part.separable) for part in splits.values()):
            return []
        left_out = np.isin(np.array(index.titles)[index.piece], list(kin))
        held_rows = np.union1d(np.flatnonzero(left_out), splits["validation"].mixture)
        folds.append(Fold(f"{instrument}-{number}", instrument, str(name), splits, held_rows))
    return folds
