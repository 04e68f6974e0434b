"""Models by name: a model's folder, a run's, an exported one, a registered model, or the champions."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from sepsearch.audio.spectrogram import BINS, FRAMES
from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.models.saved_model import CARD, PROVISIONAL_FOLDER, ModelCard, load_model
from sepsearch.tracking.champion import CHAMPION
from sepsearch.tracking.registry import PREFIX, resolve_model
from sepsearch.tracking.server_errors import without_password
from sepsearch.tracking.tracker import existing_store, tracking_uri
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import is_there

Models = dict[str, tuple[nn.Module, ModelCard]]


def choose_models(codes: Sequence[str] | None, model: str | None) -> Models:
    """Load the model of every instrument, by its code.

    Args:
        codes: of the instruments; None for all that have a model.
        model: "models:/sepsearch-vn@champion", "models:/sepsearch-vn/3", a model's folder, or a folder of models such
            as a run's; None for the registered champions.

    Raises:
        UserError: no such model or instrument (the message lists those that exist), or a damaged or unusable model.
    """
    if model is None:
        folders = {code: resolve_model(f"models:/{PREFIX}{code}@{CHAMPION}") for code in codes or champions()}
    else:
        folders = _model_folders(codes, model)
    models = {}
    for code, folder in folders.items():
        network, card = load_model(folder)
        if code and card.instrument != code:
            raise UserError(f"{model or folder}: a model of {card.instrument}, expected one of {code}")
        _try(network, model or str(folder))
        models[card.instrument] = network, card
    return models


def _model_folders(codes: Sequence[str] | None, model: str) -> dict[str, Path]:
    """Instrument → folder of its model; the instrument is "" where none was asked for."""
    if model.startswith("models:/") or is_there(Path(model) / CARD):
        return dict.fromkeys(codes or [""], resolve_model(model))
    for parent in (Path(model) / "models", Path(model) / PROVISIONAL_FOLDER, Path(model)):
        there = {code: parent / code for code in INSTRUMENTS if is_there(parent / code / CARD)}
        if there:
            if missing := [code for code in codes or () if code not in there]:
                raise UserError(f"{model}: no model of {missing[0]} there, expected some of {', '.join(there)}")
            return {code: there[code] for code in codes or there}
    raise UserError(
        f"{model}: no model there, expected a folder with {CARD}, a run's folder, or models:/{PREFIX}vn@{CHAMPION}"
    )


def champions(uri: str | None = None) -> list[str]:
    """Codes of the instruments that have a registered champion; raises `UserError` if there is none, or no MLflow."""
    uri = uri or tracking_uri()
    with existing_store(uri, "does not list its models") as client:
        registered = {model.name: model.aliases for model in client.search_registered_models()}
    found = [code for code in INSTRUMENTS if CHAMPION in registered.get(PREFIX + code, {})]
    if not found:
        raise UserError(
            f"no registered model is a {CHAMPION} at {without_password(uri)}: run a search, or give --model"
        )
    return found


def _try(network: nn.Module, name: str) -> None:
    """Raise `UserError` unless a network's output is a finite spectrogram, (1, 1, frame, bin)."""
    with torch.inference_mode():
        made = network(torch.ones((1, 1, FRAMES, BINS)))
    if made.shape != (1, 1, FRAMES, BINS) or not bool(made.isfinite().all()):
        raise UserError(
            f"{name}: expected a network that gives finite spectrograms of {FRAMES} × {BINS}, found "
            f"{tuple(made.shape[2:])}{'' if made.isfinite().all() else ' and numbers that are not finite'}: "
            "choose another model"
        )
