"""Model selection for the registry: whether a new model is better than an instrument's champion.

A new model must beat the identity and the best constant gain on its validation titles, then the champion on the same
titles: by ratio where both models read the same spectrograms, by the SI-SDR gain of the separated audio where their
front ends or constants differ, because a ratio compares losses of one kind of spectrogram only.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from sepsearch.models.saved_model import ModelCard

if TYPE_CHECKING:
    from sepsearch.data.prepared import PreparedData

Model = tuple[nn.Module, ModelCard]
SAME_LOSS = 1e-6  # relative difference of identity losses that were measured on the same examples


@dataclass(frozen=True)
class Verdict:
    """Result of a comparison: whether a model is better, None if unknown, and `why`, with figures."""

    better: bool | None
    why: str


Compare = Callable[[Model, Model], Verdict]


def beats_baselines(card: ModelCard) -> Verdict:
    """Whether a model's ratio on its validation titles is below the identity's, which is 1, and the constant gain's."""
    losses = card.baselines.get("validation", {})
    ratio, identity, gain = (_number(x) for x in (card.scores.get("ratio"), losses.get("identity"), losses.get("gain")))
    if not (math.isfinite(ratio) and math.isfinite(gain) and identity > 0):
        return Verdict(False, "its card lacks a finite ratio, identity loss or constant-gain loss on validation titles")
    if ratio >= 1:
        return Verdict(False, f"ratio {ratio:.3f} does not beat the identity (1)")
    if ratio >= gain / identity:
        return Verdict(False, f"ratio {ratio:.3f} does not beat the best constant gain ({gain / identity:.3f})")
    return Verdict(True, f"ratio {ratio:.3f}, best constant gain {gain / identity:.3f}")


def compare_recorded(new: Model, old: Model) -> Verdict:
    """Compare two models by the ratios on their cards, without recordings.

    Only ratios measured on the same examples compare: equal fingerprints, splits and identity losses. For other models
    `better` is None.
    """
    (_, card), (_, other) = new, old
    losses = [_number(c.baselines.get("validation", {}).get("identity")) for c in (card, other)]
    if not (_same_data(card, other) and math.isclose(*losses, rel_tol=SAME_LOSS)):
        return Verdict(
            None, "it was scored on other validation examples, and there are no recordings here to compare on"
        )
    return _by_ratio([_number(c.scores.get("ratio")) for c in (card, other)], "the same validation titles")


def compare_on(prepared: "PreparedData") -> Compare:
    """A function that compares two models of an instrument on the validation titles of a run's data set.

    The returned function takes the new model, trained on this data set, and any other one. `better` is None where the
    comparison would not be fair or gives no number.
    """

    def compare(new: Model, old: Model) -> Verdict:
        (_, card), (_, other) = new, old
        code, shards = card.instrument, prepared.shards
        pairs = prepared.examples[code]["validation"]
        same_data = _same_data(card, other)
        if code in prepared.rules and not same_data:
            # Too few titles: the new model has learned from clips of the titles it is validated on.
            return Verdict(
                None, f"the champion was trained on other data, and {code} has too few titles here to compare fairly"
            )
        titles = {prepared.index.titles[piece] for piece in pairs.piece}
        where = f"{len(titles)} validation title{'s' * (len(titles) > 1)}"
        if not same_data and (known := titles & set(other.split.get("train", ()))):
            where += f" ({len(known)} of which the champion was trained on, in its favour)"
        if other.front_end == shards.front_end and math.isclose(other.constant, shards.constant, rel_tol=1e-6):
            return _by_ratio(_ratios(prepared, code, new, old), where)
        return _by_gain(_gains(prepared, code, new, old), where)

    return compare


def _ratios(prepared: "PreparedData", code: str, *models: Model) -> list[float]:
    """Losses on the validation examples over the identity's loss."""
    from sepsearch.training.loop import evaluate

    identity = prepared.baselines["validation"]["identity"][code]
    losses = [evaluate(network, prepared.rows, prepared.examples[code]["validation"])[0] for network, _ in models]
    return [loss / identity if identity > 0 else math.nan for loss in losses]


def _gains(prepared: "PreparedData", code: str, *models: Model) -> list[float]:
    """SI-SDR gains of the separated validation clips in dB: median over titles of the median over clips."""
    from sepsearch.evaluation.test_scores import Candidate, TestTitles, over_titles

    scorer = TestTitles(prepared.recordings, prepared.shards, prepared.index, prepared.rows)
    pairs = prepared.examples[code]["validation"]
    candidates = [Candidate(code, network, pairs, card.front_end, card.constant) for network, card in models]
    return [_number(over_titles(scores, lambda score: score.gain)) for scores in scorer.listen(candidates)]


def _by_ratio(ratios: Sequence[float], where: str) -> Verdict:
    """Verdict on the ratios of the new and the other model."""
    new, old = ratios
    if not (math.isfinite(new) and math.isfinite(old)):
        return Verdict(None, f"no finite ratio of both models on {where}")
    return Verdict(new < old, f"ratio {new:.3f} against {old:.3f} on {where}")


def _by_gain(gains: Sequence[float], where: str) -> Verdict:
    """Verdict on the SI-SDR gains in dB of the new and the other model."""
    new, old = gains
    if not (math.isfinite(new) and math.isfinite(old)):
        return Verdict(None, f"the front ends differ, and there is no SI-SDR gain of both models on {where}")
    return Verdict(new > old, f"SI-SDR gain {new:.1f} dB against {old:.1f} dB on {where} (the front ends differ)")


def _same_data(card: ModelCard, other: ModelCard) -> bool:
    return bool(card.fingerprint) and (card.fingerprint, card.split) == (other.fingerprint, other.split)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
