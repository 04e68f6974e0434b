"""Champion of a registered model: the rule that compares models, and the alias `champion` that follows from it.

A new model must beat the identity and the best constant gain on its validation titles, then the champion on the same
titles: by ratio where both models read the same spectrograms, by the SI-SDR gain of the separated audio where their
front ends or constants differ, because a ratio compares losses of one kind of spectrogram only.

MLflow has no compare-and-set for aliases, so two searches that end together could overwrite each other's choice. Each
tags its version before it moves the alias, and afterwards compares it with versions that others have tagged meanwhile:
the better one ends as champion. A search that was killed in between completes this when it is resumed.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from sepsearch.models.saved_model import ModelCard

if TYPE_CHECKING:
    from sepsearch.data.prepared import PreparedData

Model = tuple[nn.Module, ModelCard]
SAME_LOSS = 1e-6  # relative difference of identity losses that were measured on the same examples
CHAMPION = "champion"
# A registered model's tag: the version that a search made champion, or NO_VERSION. A person has picked any
# other champion, here or on MLflow's pages.
BY_SEARCH, NO_VERSION = "champion_by_search", "none"
CONTENDER = "champion_contender"  # a version's tag: made champion by a search in place of this version, or NO_VERSION
SETTLED = "settled"  # its value afterwards: MLflow's permission EDIT may set tags, but not delete them
SETTLING = 0.5  # seconds in which another search moves alias and tag
ROUNDS = 5  # of comparing, while others move the alias


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
    from sepsearch.training.learner import evaluate

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


@dataclass(frozen=True)
class Outcome:
    """Champion before and after `version` of the registered model `name` was registered.

    `before` and `now` are the champion's version before and after, None for none; `why` is the reason, with figures.
    """

    name: str
    version: str
    before: str | None
    now: str | None
    why: str

    @property
    def address(self) -> str:
        """Address of the version in MLflow."""
        return f"models:/{self.name}/{self.version}"

    def facts(self) -> dict[str, Any]:
        """Plain values for the journal."""
        return asdict(self)


def settle_champion(
    client: Any, name: str, version: str, baselines: Verdict, compare: Callable[[str], Verdict]
) -> Outcome:
    """Make a search's version champion if it beats the baselines and the present champion, unless a person picked that.

    Args:
        client: of MLflow.
        name: of the registered model.
        version: the search's.
        baselines: whether it beats identity and constant gain.
        compare: whether it is better than another version, given by its number.
    """
    before: str | None = None
    for _ in range(ROUNDS):
        before, by_search = _read(client, name)
        if before is not None and by_search is not None and before not in by_search.split():
            return Outcome(name, version, before, before, f"a person picked version {before}")
        if before == version:
            replaced = client.get_model_version(name, version).tags.get(CONTENDER, NO_VERSION)
            before = None if replaced in (NO_VERSION, SETTLED) else replaced
            return _settle_rivals(client, Outcome(name, version, before, version, baselines.why), set(), compare)
        verdict = compare(before) if baselines.better and before is not None else baselines
        if not verdict.better:
            _unmark(client, name, [version])
            return Outcome(name, version, before, before, verdict.why)
        client.set_model_version_tag(name, version, CONTENDER, before or NO_VERSION)
        if _read(client, name)[0] == before:
            _move(client, name, before, version)
            # Without an alias, a person has taken it from the version in the tag, which is no rival then.
            known = set() if before else set((by_search or "").split())
            return _settle_rivals(client, Outcome(name, version, before, version, verdict.why), known, compare)
    _unmark(client, name, [version])
    return Outcome(name, version, before, before, "other searches moved the alias meanwhile")


def _settle_rivals(client: Any, outcome: Outcome, known: set[str], compare: Callable[[str], Verdict]) -> Outcome:
    """Compare a new champion with the versions that other searches made champion since it was compared before."""
    name, version, before = outcome.name, outcome.version, outcome.before
    passed = {version, before, *known}
    found = client.search_model_versions(f"name = '{name}'")
    marked = sorted((str(v.version) for v in found if _contends(v)), key=int)
    rivals = [rival for rival in marked if rival not in passed and int(rival) > int(before or 0)]
    winner, why, lost = version, outcome.why, set()
    for rival in rivals:
        verdict = compare(rival)
        if verdict.better:
            lost.add(rival)
        elif verdict.better is False:
            winner, why = rival, f"{verdict.why}; that of a search that ended meanwhile"
            lost.add(version)
            break
    current, by_search = _champion(client, name)
    if by_search != NO_VERSION and current is not None:
        if current in lost:
            _move(client, name, current, winner)
            current = winner
        elif current in (winner, *rivals) and by_search != current:
            client.set_registered_model_tag(name, BY_SEARCH, current)
    # Only the champion, and a version about to become it, stay marked as rivals of later searches.
    _unmark(client, name, [v for v in marked if v in lost or v == before])
    return Outcome(name, version, before, current, why)


def _champion(client: Any, name: str) -> tuple[str | None, str | None]:
    """The champion's version, and the version that a search made champion."""
    registered = client.get_registered_model(name)
    champion = registered.aliases.get(CHAMPION)
    return None if champion is None else str(champion), registered.tags.get(BY_SEARCH)


def _read(client: Any, name: str) -> tuple[str | None, str | None]:
    """As `_champion`, read again after a pause where another search may be moving the alias."""
    champion, by_search = _champion(client, name)
    if by_search is not None and by_search != NO_VERSION and champion not in by_search.split():
        time.sleep(SETTLING)
        champion, by_search = _champion(client, name)
    return champion, by_search


def _move(client: Any, name: str, champion: str | None, version: str) -> None:
    """Move the alias; the tag names both versions meanwhile, so a crash between the calls is recoverable."""
    client.set_registered_model_tag(name, BY_SEARCH, f"{champion or ''} {version}".strip())
    client.set_registered_model_alias(name, CHAMPION, version)
    client.set_registered_model_tag(name, BY_SEARCH, version)


def _unmark(client: Any, name: str, versions: list[str]) -> None:
    for version in versions:
        if _contends(client.get_model_version(name, version)):
            client.set_model_version_tag(name, version, CONTENDER, SETTLED)


def _contends(version: Any) -> bool:
    """Whether a search is about to make a version champion, or did."""
    return version.tags.get(CONTENDER, SETTLED) != SETTLED


def pick_champion(client: Any, name: str, version: str) -> None:
    """Make a version champion that a person has picked: no search moves the alias away from it."""
    client.set_registered_model_tag(name, BY_SEARCH, NO_VERSION)
    client.set_registered_model_alias(name, CHAMPION, version)
