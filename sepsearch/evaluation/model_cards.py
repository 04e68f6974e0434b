"""Cards of models that a run has trained."""

from collections.abc import Mapping
from typing import Any

from sepsearch.data.prepared import PreparedData
from sepsearch.models.families import make_config
from sepsearch.models.saved_model import ModelCard, trained_on


def model_card(prepared: PreparedData, code: str, params: Mapping[str, Any], **own: Any) -> ModelCard:
    """Card of a model: configuration, front end, split, baselines, and what it was trained on.

    Args:
        prepared: what it was trained on.
        code: its instrument.
        params: its configuration.
        own: other fields of the card: search, seed, scores, a caveat beside the instrument's own …
    """
    caveat = "; ".join(filter(None, (own.pop("caveat", ""), prepared.caveats.get(code, ""))))
    return ModelCard(
        instrument=code,
        config=make_config(params),
        front_end=prepared.shards.front_end,
        constant=prepared.shards.constant,
        split=prepared.split.titles(),
        baselines={split: {n: of[code] for n, of in table.items()} for split, table in prepared.baselines.items()},
        caveat=caveat,
        fingerprint=prepared.shards.fingerprint,
        data=trained_on(prepared.dataset()),
        **own,
    )
