"""What there is to learn from before any training, and what a run was asked for."""

import dataclasses
import hashlib
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sepsearch.baselines import all_baselines, baseline_losses
from sepsearch.config import Space
from sepsearch.errors import UserError
from sepsearch.examples import Pairs, RowIndex, Rows, sample_pairs
from sepsearch.journal import Journal
from sepsearch.licence import find_licence
from sepsearch.recordings import Recordings
from sepsearch.shards import ShardSet, spectrograms
from sepsearch.split_examples import Fold, choose_instruments, leave_one_title_out, split_pairs
from sepsearch.splits import RULES, Split, split_titles
from sepsearch.versions import versions

BASELINE_EXAMPLES = 1024  # of the training side, to fit the gain on
TEST_EXAMPLES = 2048  # of the test side, per instrument


@dataclass(frozen=True)
class Settings:
    """What a run was asked for, beside its space file. `options` say how it is carried out, not what comes out."""

    name: str
    seed: int
    trials: int
    epochs: int
    final_epochs: int
    instruments: tuple[str, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Material:
    """What there is to learn from, before any training.

    `rules` names the rule of `splits.RULES` of each instrument with too few titles; `baselines` is
    side → baseline → instrument → loss. `folds` leave out the titles of instruments with too few of them in turn;
    `fold_identity` is fold → side → identity loss. `notes` are lines for the user.
    """

    recordings: Recordings
    shards: ShardSet
    index: RowIndex
    split: Split
    rows: Rows
    examples: Mapping[str, Mapping[str, Pairs]]
    rules: Mapping[str, str]
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]]
    folds: tuple[Fold, ...]
    fold_identity: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...] = ()

    @property
    def caveats(self) -> dict[str, str]:
        """What must be said wherever an instrument's score is shown."""
        return {code: RULES[rule] for code, rule in self.rules.items()}

    def dataset(self) -> dict[str, Any]:
        """The data set in a few numbers, as in `results.json`."""
        clips = self.index.clips_of_piece()
        return {
            "source": str(self.recordings.folder),
            "fingerprint": self.shards.fingerprint,
            "pieces": len(self.recordings.pieces),
            "clips": int(clips.sum()),
            "rows": self.shards.rows,
            "licence": find_licence(self.recordings.folder),
            "split": self.split.titles(),
        }


def gather_material(
    recordings: Recordings, shards: ShardSet, space: Space, instruments: tuple[str, ...] | None, seed: int
) -> Material:
    """Split, examples and baselines of a shard set; all instruments unless some are named.

    Left out with a note are those that there is nothing to separate from (`choose_instruments`).

    Raises:
        UserError: an instrument does not play, never sounds, or nothing sounds beside it although it was named.
    """
    index = shards.index()
    codes, notes = choose_instruments(index, instruments)
    fractions = (space.split.train, space.split.validation, space.split.test)
    split = split_titles(index.title_facts(), shards.manifest["title_groups"], seed, fractions)
    examples, rules = split_pairs(index, split, codes)
    limits = {"train": None, "validation": space.search.validation_examples, "test": TEST_EXAMPLES}

    def limited(sides: Mapping[str, Pairs]) -> dict[str, Pairs]:
        return {
            side: pairs if (limit := limits[side]) is None else sample_pairs(pairs, limit, seed)
            for side, pairs in sides.items()
        }

    examples = {code: limited(sides) for code, sides in examples.items()}
    few = [code for code, rule in rules.items() if rule == "few titles"]
    groups = shards.manifest["title_groups"]
    folds = [fold for code in few for fold in leave_one_title_out(index, code, groups)]
    folds = [dataclasses.replace(fold, sides=limited(fold.sides)) for fold in folds]
    rows = Rows([spectrograms(table) for table in shards.tables()])
    judged = {
        code: {**sides, "train": sample_pairs(sides["train"], BASELINE_EXAMPLES, seed)}
        for code, sides in examples.items()
    }
    identity = {
        fold.id: {side: baseline_losses(rows, fold.sides[side], 1.0)["identity"] for side in ("validation", "test")}
        for fold in folds
    }
    baselines = all_baselines(rows, judged)
    notes += _zero_notes(baselines)
    return Material(recordings, shards, index, split, rows, examples, rules, baselines, tuple(folds), identity, notes)


def _zero_notes(baselines: Mapping[str, Mapping[str, Mapping[str, float]]]) -> tuple[str, ...]:
    """Which ratios there are none of, because the identity loss is 0 to the last bit although others sound.

    Raises:
        UserError: there would be none at all to search by.
    """
    zero = {side: [c for c, loss in of["identity"].items() if not loss > 0] for side, of in baselines.items()}
    if len(zero["validation"]) == len(baselines["validation"]["identity"]):
        raise UserError(
            f"instruments: {', '.join(zero['validation'])}: mixture and target are the same in all validation clips,"
            " so there is nothing to search by: add recordings in which others play louder"
        )
    return tuple(
        f"{', '.join(zero[side])}: mixture and target are the same in all {side} clips: no ratio, no part in means"
        for side in ("validation", "test")
        if zero[side]
    )


def search_facts(settings: Settings, space: Space, material: Material) -> dict[str, Any]:
    """All that a search depends on, as the journal's first event keeps it."""
    return {
        "space": space.model_dump(mode="json", exclude_none=True),
        "settings": {
            **dataclasses.asdict(settings),
            **space.search.model_dump(include={"sampler", "reduction_factor"}),
        },
        "versions": versions(),
        "dataset": material.dataset(),
        "baselines": material.baselines,
        "caveats": material.caveats,
    }


def journal_begin(journal: Journal, settings: Settings, space: Space, material: Material, seconds: float) -> None:
    """The first event: all that the search depends on, and a name that no other run has."""
    identity = f"{settings.name}/{material.shards.fingerprint}/{time.time_ns()}/{platform.node()}"
    run = hashlib.sha256(identity.encode()).hexdigest()[:16]
    facts = search_facts(settings, space, material)
    journal.append("search", name=settings.name, run=run, **facts, reference="t0000", seconds=seconds)
