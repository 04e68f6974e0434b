"""What there is to learn from before any training."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sepsearch.data.baselines import all_baselines, baseline_losses
from sepsearch.data.dataset import Dataset, Pairs, RowIndex, Rows, sample_pairs
from sepsearch.data.joint_examples import shared_training
from sepsearch.data.licence import find_licence
from sepsearch.data.recordings import Recordings
from sepsearch.data.shards import ShardSet, spectrograms
from sepsearch.data.split_examples import Fold, choose_instruments, leave_one_title_out, split_pairs
from sepsearch.data.splits import RULES, Split, split_titles
from sepsearch.utils.errors import UserError

BASELINE_EXAMPLES = 1024  # of the training split, to fit the gain on
TEST_EXAMPLES = 2048  # of the test split, per instrument


@dataclass(frozen=True)
class PreparedData:
    """What there is to learn from, before any training.

    `rules` names the rule of `splits.RULES` of each instrument with too few titles; `baselines` is
    split → baseline → instrument → loss. `folds` leave out the titles of instruments with too few of them in turn;
    `fold_identity` is fold → split → identity loss. `shared` are the training examples of networks with several
    outputs (`joint_examples.shared_training`). `notes` are lines for the user.
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
    shared: Mapping[str, Mapping[str, Pairs]]
    notes: tuple[str, ...] = ()

    @property
    def caveats(self) -> dict[str, str]:
        """What must be said wherever an instrument's score is shown."""
        return {code: RULES[rule] for code, rule in self.rules.items()}

    def training_data(self) -> Dataset:
        """What trials, finalists and folds are trained on."""
        identity = dict(self.baselines["validation"]["identity"])
        identity |= {fold: losses["validation"] for fold, losses in self.fold_identity.items()}
        examples = {**self.examples, **{fold.id: fold.splits for fold in self.folds}}
        return Dataset(self.rows, examples, identity, self.shared, self.index.following())

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


def gather_data(
    recordings: Recordings,
    shards: ShardSet,
    instruments: tuple[str, ...] | None,
    seed: int,
    fractions: tuple[float, float, float],
    validation_examples: int,
) -> PreparedData:
    """Split, examples and baselines of a shard set; all instruments unless some are named.

    Left out with a note are those that there is nothing to separate from (`choose_instruments`).

    Args:
        recordings: the folder of recordings.
        shards: their spectrograms.
        instruments: codes; None for all that play.
        seed: of the split and of the examples drawn.
        fractions: of titles for training, validation and test.
        validation_examples: per instrument, at most.

    Raises:
        UserError: an instrument does not play, never sounds, or nothing sounds beside it although it was named.
    """
    index, groups = shards.index(), shards.manifest["title_groups"]
    codes, notes = choose_instruments(index, instruments)
    split = split_titles(index.title_facts(), groups, seed, fractions)
    examples, rules = split_pairs(index, split, codes)
    few = [code for code, rule in rules.items() if rule == "few titles"]
    folds = [fold for code in few for fold in leave_one_title_out(index, code, groups)]
    shared = shared_training(index, examples, folds)
    limits = {"validation": validation_examples, "test": TEST_EXAMPLES}

    def limited(splits: Mapping[str, Pairs], limits: Mapping[str, int] = limits) -> dict[str, Pairs]:
        return {
            name: sample_pairs(pairs, limits[name], seed) if name in limits else pairs for name, pairs in splits.items()
        }

    examples = {code: limited(splits) for code, splits in examples.items()}
    folds = [dataclasses.replace(fold, splits=limited(fold.splits)) for fold in folds]
    rows = Rows([spectrograms(table) for table in shards.tables()])
    fitted = {code: limited(splits, {"train": BASELINE_EXAMPLES}) for code, splits in examples.items()}
    baselines = all_baselines(rows, fitted)
    identity = {
        fold.id: {name: baseline_losses(rows, fold.splits[name], 1.0)["identity"] for name in limits} for fold in folds
    }
    notes += _zero_notes(baselines)
    return PreparedData(
        recordings, shards, index, split, rows, examples, rules, baselines, tuple(folds), identity, shared, notes
    )


def _zero_notes(baselines: Mapping[str, Mapping[str, Mapping[str, float]]]) -> tuple[str, ...]:
    """Which ratios there are none of, because the identity loss is 0 to the last bit although others sound.

    Raises:
        UserError: there would be none at all to search by.
    """
    zero = {split: [c for c, loss in of["identity"].items() if not loss > 0] for split, of in baselines.items()}
    if len(zero["validation"]) == len(baselines["validation"]["identity"]):
        raise UserError(
            f"instruments: {', '.join(zero['validation'])}: mixture and target are the same in all validation clips,"
            " so there is nothing to search by: add recordings in which others play louder"
        )
    return tuple(
        f"{', '.join(zero[split])}: mixture and target are the same in all {split} clips: no ratio, no part in means"
        for split in ("validation", "test")
        if zero[split]
    )
