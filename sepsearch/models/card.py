"""A model's card for people, in Markdown: what it does, what it was made from, how good it is, how to use it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sepsearch.audio.spectrogram import BINS, FRAMES, SCALE
from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.data.licence import UNKNOWN
from sepsearch.models.saved_model import CARD, ModelCard
from sepsearch.utils.errors import UserError, one_line

UNSCORED = "picked by a person after the search: this card has no test scores; results.json has those of candidates"
SHOWN = 30  # titles of a split that are named
BASELINES = {
    "identity": "identity: the mixture itself",
    "zero": "silence",
    "gain": "the best constant gain",
    "oracle": "oracle: the mask that knows the voice, at the same resolution",
}


def model_text(card: ModelCard, use: str) -> str:
    """The card in Markdown.

    Args:
        card: of the model.
        use: what `sepsearch.separate` takes as its --model, such as "models:/sepsearch-vn@champion".

    Raises:
        UserError: a number or a name in the card is something else; only a person can have written it.
    """
    try:
        return _text(card, use)
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        raise UserError(
            f"{CARD}: scores, split or baselines are not what a search writes: {one_line(error)}"
        ) from error


def _text(card: ModelCard, use: str) -> str:
    instrument = INSTRUMENTS[card.instrument]
    parts = [
        f"Pulls the {instrument} out of a recording of chamber music: the spectrogram of the mixture in, "
        f"the {instrument}'s out, which becomes a soft mask on the mixture.",
        *_scores(card),
        _seeds(card),
        _data(card),
        _front_end(card),
        "**Meant for** finding and following a voice in rehearsal and study recordings of the instruments and the kind "
        "of sound it was trained on. Not for other music, and not where a missed or an invented note does harm.",
        f"**Use:** `python -m sepsearch.separate mix.wav --instrument {card.instrument} --model {use}`. "
        f"All else: `{CARD}`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _scores(card: ModelCard) -> list[str]:
    """What it reached beside the baselines, then how to read that."""
    scores = card.scores
    rows = [("**this model**", _number(scores.get("ratio")), _number(scores.get("test_ratio")))]
    for name, text in BASELINES.items():
        ratios = [_relative(card.baselines.get(split, {}), name) for split in ("validation", "test")]
        if any(ratio is not None for ratio in ratios):
            rows.append((text, _number(ratios[0]), _number(ratios[1])))
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    parts = [f"Loss / identity loss; below 1 beats doing nothing.\n\n| | validation | test |\n|---|---|---|\n{table}"]
    if (gain := scores.get("si_sdr_gain_db")) is not None:
        audio = scores.get("audio") or {}
        oracle = (audio.get("oracle_gain") or {}).get("si_sdr_db")
        beside = f"; the oracle mask's is {_number(oracle, 1)} dB" if oracle is not None else ""
        parts.append(f"SI-SDR gain on the test titles: {_number(gain, 1)} dB{beside}.")
    named = scores.get("named_test_ratio"), scores.get("named_si_sdr_gain_db")
    if any(score is not None for score in named):
        parts.append(
            f"With the players named (`--players`, and the same search's models of all that play): ratio on the test "
            f"titles {_number(named[0])}, SI-SDR gain {_number(named[1], 1)} dB."
        )
    if protocol := scores.get("protocol"):
        parts.append(f"Scored on: {protocol}.")
    if card.caveat:
        parts.append(f"**Read with care:** {card.caveat}.")
    if jumps := scores.get("discontinuities"):
        parts.append(
            f"The loss jumped {'once' if jumps == 1 else f'{jumps} times'} while its configuration was trained."
        )
    return parts


def _seeds(card: ModelCard) -> str:
    text = f"Found by the search `{card.search}`; this is seed {card.seed}"
    if not card.seeds:
        return f"{text}."
    scores = card.scores
    seeds = ", ".join(map(str, card.seeds))
    text += f" of {seeds}: ratio {_number(scores.get('ratio_mean'))} ± {_number(scores.get('ratio_sd'))} (mean ± sd)"
    if interval := scores.get("ratio_interval"):
        text += f", interval of the mean {_number(interval[0])} to {_number(interval[1])}"
    return f"{text}." if UNSCORED in card.caveat else f"{text}. It was chosen on validation titles."


def _data(card: ModelCard) -> str:
    data = card.data
    text = "**Data:** "
    if "pieces" in data:
        text += (
            f"{data['pieces']} pieces, {data.get('clips', '?')} clips, from {data.get('source', 'an unnamed folder')}"
        )
    else:
        text += "recordings"
    text += f" (fingerprint {card.fingerprint or 'unknown'}), split by title. "
    splits = [f"{split}: {_names(titles)}" for split, titles in card.split.items()]
    text += f"{'; '.join(splits)}. " if splits else ""
    return f"{text}Licence of the recordings: {data.get('licence') or UNKNOWN}."


def _names(titles: Sequence[str]) -> str:
    more = f" and {len(titles) - SHOWN} more" if len(titles) > SHOWN else ""
    return ", ".join(titles[:SHOWN]) + more or "none"


def _front_end(card: ModelCard) -> str:
    front, plugin = card.front_end, card.plugin
    origin = ""
    if plugin:
        package = f"of the distribution {plugin['distribution']} {plugin['version']}"
        origin = f", {package if plugin['distribution'] else 'registered in Python where it was trained'}"
    return (
        f"**Input:** {SCALE:g} · log1p({card.constant:.6g} · amplitude), {FRAMES} frames ({front.clip_seconds:g} s) × "
        f"{BINS} {front.axis} bands, {front.low_hz:g} to {front.high_hz:g} Hz, windows of {front.window} samples "
        f"at 48 kHz. Network: family {card.config.family}{origin}."
    )


def _relative(losses: Mapping[str, float], name: str) -> float | None:
    identity, loss = losses.get("identity"), losses.get(name)
    return loss / identity if identity and loss is not None else None


def _number(value: Any, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) and math.isfinite(value) else "–"
