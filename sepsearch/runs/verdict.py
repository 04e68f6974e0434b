"""Verdict in words on every instrument's final model: whether it separates its voice, or only sets a level."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.utils.formatting import number

WORKS, LITTLE, UNSURE, VOLUME, UNKNOWN = "works", "gains a little", "uncertain", "volume knob", "not scored"
# SI-SDR gain from which on a model works: the smallest change of a signal-to-noise ratio that listeners notice reliably
# (McShefferty, Whitmer, Akeroyd: The just-noticeable difference in speech-to-noise ratio, Trends in Hearing 19, 2015).
WORKS_DB = 3.0
UNSURE_DB = 1.0  # a gain from which on a model is not called a volume knob, whatever its ratio
FLAT_DB = 20.0  # similarity of estimate and mixture: 99 % of the estimate's power is the mixture at another level
GAINING = {  # kinds that gain, and what is said of one and of several models
    WORKS: ("works", "work"),
    LITTLE: ("gains a little", "gain a little"),
    UNSURE: (
        "is uncertain, since its seeds' ratios do not clearly beat a constant gain",
        "are uncertain, since their seeds' ratios do not clearly beat a constant gain",
    ),
}
RULES = (
    f"A model works where it gains at least {WORKS_DB:g} dB of SI-SDR on test titles and its validation ratio beats the"
    " best constant gain, and the mixture unchanged, beyond the spread of its seeds. It gains a little where the gain"
    " is smaller: most listeners notice less than that only side by side. It is uncertain where it gains"
    f" {UNSURE_DB:g} dB or more and its ratio does not beat them. All others do no more than a volume knob, and so do"
    " flat masks: estimates that are the mixture at another level (their SI-SDR against the mixture is"
    f" {FLAT_DB:g} dB or more)."
)


@dataclass(frozen=True)
class Verdict:
    """What a final model does.

    Args:
        instrument: code.
        kind: WORKS, LITTLE, UNSURE, VOLUME or UNKNOWN.
        gain: SI-SDR gain on test titles, dB; None where it is undefined.
        reason: why it is no better than this; "" for a model that works.
    """

    instrument: str
    kind: str
    gain: float | None
    reason: str = ""

    @property
    def name(self) -> str:
        """Of the instrument."""
        return INSTRUMENTS.get(self.instrument, self.instrument)


def judge_models(final: Mapping[str, Mapping[str, Any]], baselines: Mapping[str, Mapping[str, float]]) -> list[Verdict]:
    """A verdict on each final model, the largest SI-SDR gain first; arguments as `results.json` has them.

    Rules: see RULES. With three seeds or more their spread is the confidence interval of the mean ratio, with two the
    mean and one standard deviation, with one there is none.
    """
    found = [_judge(code, row, baseline_ratio(baselines, "gain", code)) for code, row in final.items()]
    return sorted(found, key=lambda one: -math.inf if one.gain is None else one.gain, reverse=True)


def best_instrument(final: Mapping[str, Mapping[str, Any]], baselines: Mapping[str, Mapping[str, float]]) -> str:
    """The code of the instrument whose model is to be tried first: the largest gain of those with the best verdict."""
    kinds = (WORKS, LITTLE, UNSURE, VOLUME, UNKNOWN)
    return min(judge_models(final, baselines), key=lambda one: kinds.index(one.kind)).instrument


def baseline_ratio(losses: Mapping[str, Mapping[str, Any]], baseline: str, code: str) -> float | None:
    """Loss of a baseline / identity loss of an instrument; None without either. `losses` are by baseline and code."""
    loss, identity = (losses.get(name, {}).get(code) for name in (baseline, "identity"))
    return float(loss) / identity if loss is not None and identity else None


def _judge(code: str, row: Mapping[str, Any], constant: float | None) -> Verdict:
    gain, similarity = row.get("si_sdr_gain_db"), row.get("mixture_similarity_db")
    highest = highest_ratio(row)
    if gain is None:
        return Verdict(code, UNKNOWN, gain, "no test title in which others play along")
    if similarity is not None and similarity >= FLAT_DB:
        return Verdict(code, VOLUME, gain, "its mask is flat")
    if gain <= 0:
        return Verdict(code, VOLUME, gain, "it gains nothing")
    if highest is None or constant is None or highest >= min(constant, 1.0):  # 1: the mixture unchanged
        kind = UNSURE if gain >= UNSURE_DB else VOLUME
        return Verdict(code, kind, gain, "its ratio does not beat the best constant gain beyond its seeds' spread")
    if gain < WORKS_DB:
        return Verdict(code, LITTLE, gain, f"it gains less than {WORKS_DB:g} dB")
    return Verdict(code, WORKS, gain)


def highest_ratio(row: Mapping[str, Any]) -> float | None:
    """The upper end of the spread over seeds of a final model's ratio; None without a ratio."""
    mean, interval = row.get("ratio_mean"), row.get("ratio_interval")
    if mean is None or not math.isfinite(mean):
        return None
    return float(interval[1]) if interval else float(mean) + float(row.get("ratio_sd") or 0.0)


def verdict_sentences(verdicts: Sequence[Verdict]) -> list[str]:
    """A sentence for every kind of verdict: "Cello works: +6.5 dB." """
    by_kind = {kind: [one for one in verdicts if one.kind == kind] for kind in (*GAINING, VOLUME, UNKNOWN)}
    sentences = []
    for kind, (one_does, several_do) in GAINING.items():
        if len(found := by_kind[kind]) == 1:
            sentences.append(f"{found[0].name} {one_does}: {decibels(found[0].gain)} dB.")
        elif found:
            sentences.append(f"{_listed(f'{one.name} ({decibels(one.gain)} dB)' for one in found)} {several_do}.")
    if found := by_kind[VOLUME]:
        do = "does" if len(found) == 1 else "do"
        sentences.append(f"{_listed(one.name for one in found)} {do} no more than a volume knob.")
    if found := by_kind[UNKNOWN]:
        have = "has" if len(found) == 1 else "have"
        sentences.append(f"{_listed(one.name for one in found)} {have} no test title in which others play along.")
    return [sentence[0].upper() + sentence[1:] for sentence in sentences]


def decibels(gain: float | None) -> str:
    """A gain with its sign, "+6.5"; a dash for none."""
    return number(gain) if gain is None else f"{gain:+.1f}"


def _listed(words: Iterable[str]) -> str:
    *rest, last = words
    return f"{', '.join(rest)} and {last}" if rest else last
