"""Final models: a folder of weights and a card, and its way into MLflow's model registry and back.

A model's folder holds `model.safetensors` (weights) and `model.json` (the card: all that is needed to use and to judge
it). Nothing in it is pickled, and nothing is believed: the card names the weights' checksum, and both are checked
against the network that the card describes.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from sepsearch import __version__
from sepsearch.errors import UserError
from sepsearch.files import cache_folder, file_sha256, new_folder, write_atomically
from sepsearch.instruments import INSTRUMENTS
from sepsearch.network import BINS, FRAMES, Config, config_params, make_config, make_network
from sepsearch.spectrogram import FrontEnd
from sepsearch.tracking import database_file, import_mlflow, tracking_uri

SCHEMA = 1
WEIGHTS, CARD = "model.safetensors", "model.json"
PREFIX = "sepsearch-"
CHAMPION = "champion"


@dataclass(frozen=True)
class ModelCard:
    """All that is needed to use a model and to judge it.

    Attributes:
        instrument: its code.
        config: the network's configuration.
        front_end: settings of the spectrograms that it reads and writes.
        constant: c of their log1p(c · amplitude).
        split: titles by side.
        baselines: side → baseline → loss, of this instrument.
        scores: ratio, ratio_mean, ratio_sd, test_ratio, si_sdr_gain_db, …, of this instrument.
        caveat: how the scores must be read, if the instrument has too few titles; else "".
        fingerprint: of the shards it was trained on.
        seeds: all that its configuration was trained with; `seed` is its own.
        search: the name of the run that found it.
        created: when, ISO 8601.
        version: of sepsearch.
    """

    instrument: str
    config: Config
    front_end: FrontEnd
    constant: float
    split: Mapping[str, list[str]] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    caveat: str = ""
    fingerprint: str = ""
    seeds: tuple[int, ...] = ()
    seed: int = 0
    search: str = ""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    version: str = __version__


def save_model(folder: Path, network: nn.Module, card: ModelCard) -> None:
    """Write a model's folder. One that was written only in part, over an older one, is refused by `load_model`.

    Raises:
        UserError: it cannot be written.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(folder / WEIGHTS, safetensors.torch.save(weights))
    values = {name.name: getattr(card, name.name) for name in dataclasses.fields(card)}
    values |= {"config": config_params(card.config), "front_end": dataclasses.asdict(card.front_end)}
    text = {"schema": SCHEMA, "weights_sha256": file_sha256(folder / WEIGHTS), **values}
    write_atomically(folder / CARD, json.dumps(text, indent=1, ensure_ascii=False) + "\n")


def load_model(folder: Path) -> tuple[nn.Module, ModelCard]:
    """The network of a model's folder, on the CPU and in evaluation mode, and its card.

    Raises:
        UserError: a file is missing or damaged, the schema is unknown, or weights and card do not belong together.
    """
    card, checksum = _read_card(folder / CARD)
    path = folder / WEIGHTS
    try:
        found = file_sha256(path)
        if found != checksum:
            raise UserError(
                f"{path}: the weights are not those that {CARD} names (checksum {found[:12]}…, expected "
                f"{checksum[:12]}…): save or download the model again"
            )
        weights = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: cannot be read as weights: {error}: save or download the model again") from error
    network = make_network(card.config).eval()
    _check_weights(path, weights, network.state_dict())
    network.load_state_dict(weights)
    return network, card


def _read_card(path: Path) -> tuple[ModelCard, str]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        schema = values.pop("schema", None)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}: is it the folder of a model?") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no model card, expected a JSON object: save or download the model again") from error
    if schema != SCHEMA:
        raise UserError(f"{path}: schema {schema!r}, expected {SCHEMA}: use the sepsearch that wrote it")
    try:
        checksum = str(values.pop("weights_sha256"))
        values["config"] = make_config(values["config"])
        values["front_end"] = FrontEnd(**values["front_end"])
        values["constant"] = float(values["constant"])
        values["seeds"] = tuple(values["seeds"])
        card = ModelCard(**values)
    except KeyError as error:
        raise UserError(f"{path}: {error} is missing: save or download the model again") from error
    except (TypeError, ValueError, UserError) as error:
        raise UserError(f"{path}: {error}: save or download the model again") from error
    if card.instrument not in INSTRUMENTS:
        raise UserError(f"{path}: instrument is {card.instrument!r}, expected one of {', '.join(INSTRUMENTS)}")
    return card, checksum


def _check_weights(path: Path, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Raise `UserError` unless `found` has the names, shapes and kind of numbers of `expected`."""
    if odd := sorted(found.keys() ^ expected.keys()):
        raise UserError(f"{path}: weights misfit the configuration in {CARD}: {odd[0]} is on one side only")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
            raise UserError(
                f"{path}: weights misfit the configuration in {CARD}: {name} is {tuple(found[name].shape)} "
                f"{found[name].dtype}, expected {tuple(tensor.shape)} {tensor.dtype}"
            )
        if not bool(found[name].isfinite().all()):
            raise UserError(f"{path}: {name} holds numbers that are not finite: train the model again")


def register_model(folder: Path, run_id: str, uri: str | None = None) -> str:
    """Log a model's folder to an MLflow run and register it as `sepsearch-<instrument>`, alias `champion`.

    The same weights of the same run are registered once, however often this is called.

    Args:
        folder: written by `save_model`.
        run_id: MLflow's id of the run that trained it (`Tracker.run_id`).
        uri: MLflow's address; `tracking_uri()` if None.

    Returns:
        "models:/sepsearch-vn/3", and "models:/sepsearch-vn@champion" from now on means the same.

    Raises:
        UserError: the folder is damaged.
        mlflow.exceptions.MlflowException: MLflow is away or refuses.
    """
    _, card = load_model(folder)
    client = _client(uri)
    name, checksum = PREFIX + card.instrument, file_sha256(folder / WEIGHTS)
    _make_registered(client, name, card)
    versions = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    made = next((v for v in versions if v.tags.get("weights_sha256") == checksum), None)
    if made is None:
        model = _log(client, folder, card, run_id)
        # A database's store follows `models:/…` through MLflow's global address, a server wants nothing else.
        served = (uri or tracking_uri()).startswith(("http://", "https://"))
        made = client.create_model_version(
            name,
            source=f"models:/{model.model_id}" if served else model.artifact_location,
            run_id=run_id,
            tags=_version_tags(card) | {"weights_sha256": checksum},
            description=_describe(card),
            model_id=model.model_id,
        )
        link = json.dumps([{"name": name, "version": made.version}])
        client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": link})
    client.set_registered_model_alias(name, CHAMPION, made.version)
    return f"models:/{name}/{made.version}"


def _client(uri: str | None) -> Any:
    uri = uri or tracking_uri()
    return import_mlflow().MlflowClient(tracking_uri=uri, registry_uri=uri)


def _make_registered(client: Any, name: str, card: ModelCard) -> None:
    from mlflow.exceptions import MlflowException

    instrument = INSTRUMENTS[card.instrument]
    text = f"Pulls the {instrument} out of a chamber recording: spectrogram of the mixture in, of the {instrument} out."
    try:
        client.create_registered_model(name, tags={"instrument": instrument}, description=text)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            raise


def _version_tags(card: ModelCard) -> dict[str, str]:
    scores = {key: card.scores.get(key) for key in ("ratio", "test_ratio", "si_sdr_gain_db")}
    tags = {key: f"{value:.3f}" for key, value in scores.items() if isinstance(value, int | float)}
    tags |= {"search": card.search, "family": card.config.family, "fingerprint": card.fingerprint}
    return {key: value for key, value in (tags | {"caveat": card.caveat}).items() if value}


def _describe(card: ModelCard) -> str:
    tags = _version_tags(card)
    lines = [f"Found by the search `{card.search}`, seed {card.seed} of {len(card.seeds)}."]
    if "ratio" in tags:
        lines.append(
            f"Validation loss / identity loss {tags['ratio']} (below 1 beats doing nothing), on the test titles "
            f"{tags.get('test_ratio', '–')}; SI-SDR gain {tags.get('si_sdr_gain_db', '–')} dB."
        )
    if card.caveat:
        lines.append(f"**Read with care:** {card.caveat}.")
    front = card.front_end
    lines.append(
        f"Input: log1p({card.constant:.6g} · amplitude), {FRAMES} frames ({front.clip_seconds:g} s) × {BINS} "
        f"{front.axis} bands, {front.low_hz:g} to {front.high_hz:g} Hz. All else: `artifacts/model/{CARD}`."
    )
    return "\n\n".join(lines)


def _log(client: Any, folder: Path, card: ModelCard, run_id: str) -> Any:
    """Log a model's folder as MLflow's LoggedModel of a run, without its slow guesses at requirements and serving."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    experiment = client.get_run(run_id).info.experiment_id
    params = {key: str(value) for key, value in config_params(card.config).items()}
    logged = client.create_logged_model(experiment, card.instrument, run_id, _version_tags(card), params, "separator")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "model")
        model = Model(
            artifact_path=logged.artifact_location,
            model_uuid=logged.model_id,
            run_id=run_id,
            model_id=logged.model_id,
        )
        _save_pyfunc(path, folder, model, Path(temporary))
        client.log_model_artifacts(logged.model_id, str(path))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return logged


def _save_pyfunc(path: Path, folder: Path, model: Any, temporary: Path) -> None:
    """Write MLflow's form of a model: the folder, this package's modules, requirements, signature and an example."""
    import mlflow.pyfunc
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    package = Path(__file__).parent
    code, artifact = temporary / package.name, temporary / "artifact" / "model"
    code.mkdir()
    for module in package.glob("*.py"):
        shutil.copy(module, code)
    artifact.mkdir(parents=True)
    for name in (WEIGHTS, CARD):
        shutil.copy(folder / name, artifact)
    tensor = Schema([TensorSpec(np.dtype(np.float32), (-1, FRAMES, BINS))])
    mlflow.pyfunc.save_model(
        str(path),
        mlflow_model=model,
        python_model=str(package / "served_model.py"),
        artifacts={"model": str(artifact)},
        code_paths=[str(code)],
        pip_requirements=_requirements(),
        signature=ModelSignature(inputs=tensor, outputs=tensor),
        # Eighths, which stay short in the example's JSON.
        input_example=(np.arange(FRAMES * BINS, dtype=np.float32) % 24 / 8).reshape(1, FRAMES, BINS),
    )


def _requirements() -> list[str]:
    """What a registered model needs beside its own code, in the versions at work here."""
    found = []
    for package in ("mlflow", "torch", "numpy", "safetensors"):
        try:
            found.append(f"{package}=={version(package).partition('+')[0]}")  # "2.13.0+cpu" is no release on PyPI
        except PackageNotFoundError:
            found.append(package)
    return found


def resolve_model(model: str | os.PathLike[str], uri: str | None = None) -> Path:
    """The folder of a model that is named by its folder, "models:/sepsearch-vn@champion" or "models:/sepsearch-vn/3".

    Registered models are downloaded once, into the cache.

    Raises:
        UserError: there is no such folder, model, version or alias (those there are get listed), or no MLflow.
    """
    text = os.fspath(model)
    if not text.startswith("models:/"):
        if not (Path(text) / CARD).is_file():
            raise UserError(f"{text}: no model there, expected a folder with {CARD}, or models:/{PREFIX}vn@{CHAMPION}")
        return Path(text)
    uri = uri or tracking_uri()
    database = database_file(uri)
    if database and not database.is_file():
        raise UserError(f"{text}: no MLflow database at {database}: run a search there, or set MLFLOW_TRACKING_URI")
    client = _client(uri)
    from mlflow.exceptions import MlflowException

    try:
        found = _find_version(client, text)
        # Another store can have the same name and version.
        identity = f"{found.name} {found.version} {found.run_id} {found.source} {found.creation_timestamp}"
        folder = cache_folder() / "models" / hashlib.sha256(identity.encode()).hexdigest()[:32]
        if not (folder / CARD).is_file():
            # Not as `models:/…`: MLflow looks those up at its global address, which need not be ours.
            _download(client.get_model_version_download_uri(found.name, found.version), folder, uri)
    except MlflowException as error:
        raise UserError(f"{text}: MLflow at {uri} does not give it: {str(error).splitlines()[0]}") from error
    return folder


def _find_version(client: Any, model: str) -> Any:
    """The registered version of "models:/name@alias", "models:/name/3" or "models:/name/latest"."""
    from mlflow.exceptions import MlflowException

    name, alias = model.removeprefix("models:/"), ""
    number = ""
    if "@" in name:
        name, _, alias = name.partition("@")
    else:
        name, _, number = name.partition("/")
    versions = {int(v.version): v for v in client.search_model_versions(f"name = '{name}'")}
    if not versions:
        there = sorted(m.name for m in client.search_registered_models() if m.name.startswith(PREFIX))
        raise UserError(f"{model}: no such model, expected one of: {', '.join(there) or 'none is registered yet'}")
    if alias:
        try:
            return client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            there = sorted(client.get_registered_model(name).aliases)
            raise UserError(f"{model}: no such alias, expected one of: {', '.join(there) or 'none'}") from error
    if number in ("", "latest"):
        return versions[max(versions)]
    if not number.isdecimal() or int(number) not in versions:
        raise UserError(f"{model}: no such version, expected one of: {', '.join(map(str, sorted(versions)))}")
    return versions[int(number)]


def _download(model: str, folder: Path, uri: str) -> None:
    """Fetch weights and card of a logged model from its address; raises `UserError` if it is not one of ours."""
    import mlflow.artifacts

    with tempfile.TemporaryDirectory() as temporary, new_folder(folder) as new:
        for name in (CARD, WEIGHTS):
            source = f"{model.rstrip('/')}/artifacts/model/{name}"
            try:
                file = mlflow.artifacts.download_artifacts(
                    artifact_uri=source, dst_path=temporary, tracking_uri=uri, registry_uri=uri
                )
                shutil.copy(file, new / name)
            except OSError as error:
                raise UserError(f"{source}: cannot be fetched: {error}: is it a model of sepsearch?") from error
