"""Titles into train, validation and test: seeded, balanced, and never one title (or one reused take) in two splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sepsearch.utils.errors import UserError

SPLITS = ("train", "validation", "test")
# How instruments are judged whose titles are not in all three splits; the text goes wherever their score is shown.
RULES = {
    "few titles": "too few titles for three splits in which it plays with others: the first half of the titles left "
    "over from training validates, the second half tests",
    "one title": "one title only in which it plays with others: trained, validated and tested on different clips of it",
    "shared clips": "too few clips to hold any back: trained, validated and tested on the same ones",
}


@dataclass(frozen=True)
class TitleFacts:
    """What the balance of a split looks at: a title's clips by ensemble size, and the instruments it has.

    `separable` are the instruments that there is something to separate from: others sound, in one of the title's clips.
    An instrument's solos and unisons of its own kind are not enough. None: all instruments of the title.
    """

    title: str
    clips_by_players: Mapping[int, int]
    instruments: frozenset[str]
    separable: frozenset[str] | None = None

    @property
    def clips(self) -> int:
        """Clips of all the title's pieces."""
        return sum(self.clips_by_players.values())

    def is_separable(self, instrument: str) -> bool:
        """Whether there is something to separate the instrument from."""
        return instrument in (self.instruments if self.separable is None else self.separable)


@dataclass(frozen=True)
class Split:
    """Titles by split, and the rule that applies to instruments with too few titles for three splits."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    rules: Mapping[str, str]

    def titles(self) -> dict[str, list[str]]:
        """Titles by split, as plain lists."""
        return {split: list(getattr(self, split)) for split in SPLITS}

    def parts(self, instrument: str, titles: Sequence[str], split: str) -> dict[str, tuple[float, float]]:
        """Which part of which title an instrument uses in a split.

        Args:
            instrument: its code.
            titles: the titles the instrument plays in, the one with the most clips first; under a rule those alone in
                which there is something to separate.
            split: "train", "validation" or "test".

        Returns:
            title → (begin, end) as fractions of the title's clips; disjoint between splits.
        """
        rule = self.rules.get(instrument)
        if rule == "one title":
            bounds = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}[split]
            return dict.fromkeys(titles, bounds)
        if rule == "few titles":
            chosen = [title for title in titles if title in self.train]
            if not chosen or len(chosen) == len(titles):
                chosen = [titles[0]]
            if split == "train":
                return dict.fromkeys(chosen, (0.0, 1.0))
            bounds = (0.0, 0.5) if split == "validation" else (0.5, 1.0)
            return {title: bounds for title in titles if title not in chosen}
        return {title: (0.0, 1.0) for title in titles if title in getattr(self, split)}


def split_titles(
    facts: Sequence[TitleFacts],
    groups: Sequence[Sequence[str]] = (),
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
) -> Split:
    """Divide titles among train, validation and test.

    Titles of one group (they share a take) stay together. Among many seeded assignments, improved group by group,
    the one is taken that first leaves the fewest instruments without a split, then comes nearest to `fractions` of the
    clips for every ensemble size and every instrument. Where that leaves an instrument a split with nothing to separate
    (`TitleFacts.separable`), although it has titles enough, assignments are compared once more, and a split counts for
    an instrument only if it has something to separate there. All other splits are what they were without that look.

    Raises:
        UserError: there is no title, or the fractions do not add up to 1.
    """
    if not facts:
        raise UserError("split: no titles, expected at least one")
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UserError(f"split: fractions are {fractions}, expected three numbers above 0 that add up to 1")
    facts = sorted(facts, key=lambda fact: fact.title)
    units = _jobs(facts, groups)
    features, presence = _features(units)
    needed = _separable(units, presence)
    wanted = np.array(fractions)
    assignment = _best_assignment(features, presence, wanted, np.random.default_rng(seed))
    if short := _missing_sides(assignment, needed):
        other = _best_assignment(features, needed, wanted, np.random.default_rng(seed))
        if _missing_sides(other, needed) < short:
            assignment = other
    train, validation, test = (
        tuple(sorted(fact.title for unit, a in zip(units, assignment, strict=True) if a == split for fact in unit))
        for split in range(3)
    )
    return Split(train, validation, test, rules=_rules(units, assignment, needed))


def _jobs(facts: Sequence[TitleFacts], groups: Sequence[Sequence[str]]) -> list[list[TitleFacts]]:
    """Titles that must stay together, in the order of their first title."""
    unit_of = {title: number for number, group in enumerate(groups) for title in group}
    units: dict[object, list[TitleFacts]] = {}
    for fact in facts:
        units.setdefault(unit_of.get(fact.title, fact.title), []).append(fact)
    return list(units.values())


def _features(units: list[list[TitleFacts]]) -> tuple[np.ndarray, np.ndarray]:
    """Shares of clips (unit, all + size + instrument), columns adding up to 1, and presence (unit, instrument)."""
    sizes = sorted({players for unit in units for fact in unit for players in fact.clips_by_players})
    codes = sorted({code for unit in units for fact in unit for code in fact.instruments})
    rows = []
    for unit in units:
        by_size = [sum(fact.clips_by_players.get(size, 0) for fact in unit) for size in sizes]
        by_instrument = [sum(fact.clips for fact in unit if code in fact.instruments) for code in codes]
        rows.append([sum(by_size), *by_size, *by_instrument])
    features = np.array(rows, dtype=float)
    return features / np.maximum(features.sum(axis=0), 1), features[:, 1 + len(sizes) :] > 0


def _separable(units: list[list[TitleFacts]], presence: np.ndarray) -> np.ndarray:
    """Where an instrument has something to separate, (unit, instrument); its presence where it has that nowhere."""
    codes = sorted({code for unit in units for fact in unit for code in fact.instruments})
    found = np.array([[any(fact.is_separable(code) for fact in unit) for code in codes] for unit in units])
    return np.where(found.any(axis=0), found, presence)


def _missing_sides(assignment: np.ndarray, needed: np.ndarray) -> int:
    """How many splits instruments lack that they have units enough for; `needed` is (unit, instrument)."""
    covered = sum(needed[assignment == split].any(axis=0).astype(int) for split in range(3))
    return int((np.minimum(needed.sum(axis=0), 3) - covered).sum())


def _best_assignment(
    features: np.ndarray, presence: np.ndarray, fractions: np.ndarray, rng: np.random.Generator, starts: int = 30
) -> np.ndarray:
    """Side (0, 1, 2) of every unit: from random starts, move single units while that lowers the cost."""
    coverable = np.minimum(presence.sum(axis=0), 3)
    # The total and the sizes weigh as much together as all the instruments do, most of which are rare.
    instruments = presence.shape[1]
    sizes = features.shape[1] - 1 - instruments
    weights = np.repeat([instruments, instruments / sizes, 1.0], [1, sizes, instruments])

    def cost(totals: np.ndarray, counts: np.ndarray) -> float:
        missing = (coverable - (counts > 0.5).sum(axis=0)).clip(min=0).sum() + 3 * (totals[0, 0] < 1e-9)
        return 1000.0 * missing + float((weights * np.square(totals - fractions[:, None])).sum())

    best, best_cost = np.zeros(len(features), dtype=int), np.inf
    for _ in range(starts):
        current = rng.choice(3, size=len(features), p=fractions)
        totals, counts = np.eye(3)[current].T @ features, np.eye(3)[current].T @ presence
        current_cost, improved = cost(totals, counts), True
        while improved:
            improved = False
            for unit in rng.permutation(len(features)):
                for split in range(3):
                    step = (np.arange(3) == split).astype(float) - (np.arange(3) == current[unit])
                    moved = totals + step[:, None] * features[unit], counts + step[:, None] * presence[unit]
                    if (moved_cost := cost(*moved)) < current_cost - 1e-12:
                        (totals, counts), current_cost, improved = moved, moved_cost, True
                        current[unit] = split
        if current_cost < best_cost - 1e-12:
            best, best_cost = current, current_cost
    return best


def _rules(units: list[list[TitleFacts]], assignment: np.ndarray, needed: np.ndarray) -> dict[str, str]:
    """The rule of every instrument that does not have something to separate in all three splits."""
    codes = sorted({code for unit in units for fact in unit for code in fact.instruments})
    rules = {}
    for column, code in enumerate(codes):
        here = needed[:, column]
        if len(set(assignment[here])) < 3:
            rules[code] = "one title" if here.sum() == 1 else "few titles"
    return rules
