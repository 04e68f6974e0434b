"""A saved model is a folder: `model.safetensors` (weights) and `model.json` (the card: all that is needed to use and to
judge it). Nothing in it is pickled, and nothing is believed: the card names the weights' checksum and its own, and both
files are checked against the network that the card describes.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import safetensors
import safetensors.torch
import torch
from pydantic import AfterValidator, Field, InstanceOf
from pydantic.dataclasses import dataclass
from torch import nn

from sepsearch import __version__
from sepsearch.audio.spectrogram import FrontEndField
from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.models.families import FAMILIES, Config, config_params, family_plugin, make_config, make_network
from sepsearch.utils.errors import UserError, one_line
from sepsearch.utils.files import file_sha256, write_atomically
from sepsearch.utils.validation import STRICT, from_mapping, validated

SCHEMA = 1
DAMAGED_ADVICE = "save or download the model again"
# Caveat of a model whose search, or the retraining after it, has not ended yet.
PROVISIONAL = "provisional: of one trial of the search, one seed, scored on validation titles alone"
PROVISIONAL_FOLDER = "models-provisional"  # of such models, below the run's
WEIGHTS, CARD = "model.safetensors", "model.json"


def _instrument(code: str) -> str:
    if code not in INSTRUMENTS:
        raise ValueError(f"expected one of {', '.join(INSTRUMENTS)}")
    return code


@dataclass(frozen=True, config=STRICT)
class ModelCard:
    """All that is needed to use a model and to judge it.

    Attributes:
        instrument: its code.
        config: the network's configuration.
        front_end: settings of the spectrograms that it reads and writes.
        constant: c of their SCALE · log1p(c · amplitude).
        split: titles by split.
        baselines: split → baseline → loss, of this instrument.
        scores: ratio, ratio_mean, ratio_sd, test_ratio, si_sdr_gain_db, …, of this instrument; named_test_ratio and
            named_si_sdr_gain_db, with the players named.
        caveat: how the scores must be read, if the instrument has too few titles; else "".
        fingerprint: of the shards it was trained on.
        seeds: all that its configuration was trained with; `seed` is its own.
        search: the name of the run that found it.
        data: what it was trained on: source, pieces, clips, rows, licence, as far as known.
        created: when, ISO 8601.
        version: of sepsearch.
        plugin: the distribution that the network's family is from, its version, and `source` (see `utils.plugins`);
            without a distribution the family was registered in Python. Empty for a family of sepsearch's own.
    """

    instrument: Annotated[str, AfterValidator(_instrument)]
    config: Annotated[InstanceOf[Config], from_mapping(make_config)]
    front_end: FrontEndField
    constant: Annotated[float, Field(gt=0)]
    split: Mapping[str, list[str]] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    caveat: str = ""
    fingerprint: str = ""
    seeds: Annotated[tuple[int, ...], Field(strict=False)] = ()
    seed: int = 0
    search: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    version: str = __version__
    plugin: Mapping[str, str] = field(default_factory=dict)


def is_provisional(card: ModelCard) -> bool:
    """Whether a model is of a trial of a search that has chosen no final models yet."""
    return card.caveat.startswith(PROVISIONAL)


def trained_on(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """`data` of a card, from the data set as a journal has it: of the folder its name alone, for a card may travel."""
    facts = {key: value for key, value in dataset.items() if key not in ("split", "fingerprint")}
    return {**facts, "source": Path(str(dataset.get("source", ""))).name}


def save_model(folder: Path, network: nn.Module, card: ModelCard) -> None:
    """Write a model's folder. One that was written only in part, over an older one, is refused by `load_model`.

    Raises:
        UserError: it cannot be written.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(folder / WEIGHTS, safetensors.torch.save(weights))
    values = {name.name: getattr(card, name.name) for name in dataclasses.fields(card)}
    values |= {"config": config_params(card.config), "front_end": dataclasses.asdict(card.front_end)}
    if (plugin := family_plugin(card.config.family)) and not card.plugin:
        values["plugin"] = plugin.facts()
    if not values["plugin"]:  # earlier versions read such a card, too
        del values["plugin"]
    text = {"schema": SCHEMA, "weights_sha256": file_sha256(folder / WEIGHTS), **values}
    text["card_sha256"] = _digest(text)
    write_atomically(folder / CARD, json.dumps(text, indent=1, ensure_ascii=False) + "\n")


def load_model(folder: Path) -> tuple[nn.Module, ModelCard]:
    """The network of a model's folder, on the CPU and in evaluation mode, and its card.

    Raises:
        UserError: a file is missing or damaged, the schema is unknown, or weights and card do not belong together.
    """
    card, facts = _read_card(folder / CARD)
    path, checksum = folder / WEIGHTS, str(facts["weights_sha256"])
    try:
        data = path.read_bytes()  # once: what is checked is what is used, whatever becomes of the file
        found = hashlib.sha256(data).hexdigest()
        if found != checksum:
            raise UserError(
                f"{path}: the weights are not those that {CARD} names (checksum {found[:12]}…, expected "
                f"{one_line(checksum[:12])}…): {DAMAGED_ADVICE}"
            )
        weights = safetensors.torch.load(data)
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be read as weights: {one_line(error)}: {DAMAGED_ADVICE}") from error
    # Without memory for what a card may claim, until the weights are known to fit.
    with torch.device("meta"):
        network = make_network(card.config)
    check_weights(path, weights, network.state_dict(), f"the configuration in {CARD}")
    stated = facts.pop("card_sha256")
    if stated != (found := _digest(facts)):
        raise UserError(
            f"{folder / CARD}: checksum is {found[:12]}…, expected {one_line(str(stated)[:12])}…: {DAMAGED_ADVICE}"
        )
    network.load_state_dict(weights, assign=True)
    return network.eval(), card


def _digest(facts: Mapping[str, Any]) -> str:
    """SHA-256 of a card, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _read_card(path: Path) -> tuple[ModelCard, dict[str, Any]]:
    """The card, and all that its file says."""
    try:
        facts = dict(values := json.loads(path.read_text(encoding="utf-8")))
        schema = values.pop("schema", None)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}: is it the folder of a model?") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: no model card, expected a JSON object: {DAMAGED_ADVICE}") from error
    if schema != SCHEMA:
        raise UserError(f"{path}: schema {one_line(repr(schema))}, expected {SCHEMA}: use the sepsearch that wrote it")
    for checksum in ("weights_sha256", "card_sha256"):
        if not isinstance(values.pop(checksum, None), str):
            raise UserError(f"{path}: {checksum} is missing: {DAMAGED_ADVICE}")
    _require_family(path, values)
    try:
        return validated(ModelCard, values, str(path)), facts
    except UserError as error:
        raise UserError(f"{error}: {DAMAGED_ADVICE}") from error


def _require_family(path: Path, values: Mapping[str, Any]) -> None:
    """Raise `UserError` if the network's family is from outside the package and not there; the card says from where."""
    config, plugin = values.get("config"), values.get("plugin")
    name = config.get("family", "report") if isinstance(config, Mapping) else None
    if not isinstance(name, str) or not isinstance(plugin, Mapping) or name in FAMILIES or family_plugin(name):
        return
    distribution, version = (one_line(plugin.get(key, "")) for key in ("distribution", "version"))
    if distribution:
        advice = f"the card names the distribution {distribution} {version}: install it, if you trust it"
    else:
        advice = (
            "it was registered in Python where the model was trained: install it as a plug-in (docs/plug-ins.md), from"
            " Python register it here, too (sepsearch.models.families.register_family), or export it as ONNX there"
        )
    raise UserError(f"{path}: its network is of family {one_line(name)}, which is not installed: {advice}")


def check_weights(
    path: Path, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], whose: str
) -> None:
    """Raise `UserError` unless `found` has the names, shapes and kind of numbers of `expected`, those of `whose`."""
    if odd := sorted(found.keys() ^ expected.keys()):
        raise UserError(f"{path}: weights misfit {whose}: {one_line(odd[0])} is on one side only")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
            raise UserError(
                f"{path}: weights misfit {whose}: {name} is {tuple(found[name].shape)} "
                f"{found[name].dtype}, expected {tuple(tensor.shape)} {tensor.dtype}"
            )
        if not bool(found[name].isfinite().all()):
            raise UserError(f"{path}: {name} holds numbers that are not finite: train the model again")
