"""Final models on their way into MLflow's model registry and back."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sepsearch.errors import UserError
from sepsearch.files import cache_folder, file_sha256, is_there, new_folder
from sepsearch.instruments import INSTRUMENTS
from sepsearch.mlflow_writer import first_line, why_away, without_password
from sepsearch.model_folder import CARD, WEIGHTS, ModelCard, load_model
from sepsearch.network import BINS, FRAMES, config_params
from sepsearch.spectrogram import SCALE
from sepsearch.tracking import connect, database_file, tracking_uri

PREFIX = "sepsearch-"
CHAMPION = "champion"
# Names as MLflow takes them, without what would break its searches; then an alias, a version, or neither.
REFERENCE = re.compile(r"models:/[^/:@'\"`%\\\s.][^/:@'\"`%\\\x00-\x1f]*(@[\w-]+|/\w+)?", re.ASCII)
CHECKSUM = "weights_sha256"  # the tag that tells whether a model was logged before


def register_models(
    folders: dict[str, Path], run_id: str, uri: str | None = None, advance: Callable[[], object] = lambda: None
) -> tuple[dict[str, str], list[str]]:
    """Register the models of a search. Where MLflow is away the first one tells it, and no other is tried.

    Args:
        folders: instrument → folder, written by `save_model`.
        run_id, uri: as `register_model` takes them.
        advance: called after every model.

    Returns:
        Instrument → "models:/sepsearch-vn/3" of those that are registered; and why others are not, a line each.
    """
    models: dict[str, str] = {}
    problems: list[str] = []
    for code, folder in folders.items():
        try:
            models[code] = register_model(folder, run_id, uri)
        except UserError as error:
            problems.append(f"{code} was not registered: {first_line(error)}")
        except Exception as error:  # whatever a server can answer with
            problems.append(f"{code} was not registered: {why_away(error)}")
            break
        advance()
    return models, problems


def register_model(folder: Path, run_id: str, uri: str | None = None) -> str:
    """Log a model's folder to an MLflow run and register it as `sepsearch-<instrument>`, alias `champion`.

    The same weights of the same run are logged and registered once, however often this is called and wherever it was
    broken off before. The alias never moves back to an older version.

    Args:
        folder: written by `save_model`.
        run_id: MLflow's id of the run that trained it (`Tracker.run_id`).
        uri: MLflow's address; `tracking_uri()` if None.

    Returns:
        "models:/sepsearch-vn/3", and "models:/sepsearch-vn@champion" from now on means the same or a newer one.

    Raises:
        UserError: the folder is damaged.
        mlflow.exceptions.MlflowException: MLflow is away or refuses.
    """
    _, card = load_model(folder)
    client = connect(uri or tracking_uri())
    name, checksum = PREFIX + card.instrument, file_sha256(folder / WEIGHTS)
    _make_registered(client, name, card)
    versions = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    made = next((v for v in versions if v.tags.get(CHECKSUM) == checksum), None)
    model = _logged(client, run_id, checksum)
    if made is None:
        model = _log(client, folder, card, run_id, checksum, model)
        # A database's store follows `models:/…` through MLflow's global address, a server wants nothing else.
        served = (uri or tracking_uri()).startswith(("http://", "https://"))
        made = client.create_model_version(
            name,
            source=f"models:/{model.model_id}" if served else model.artifact_location,
            run_id=run_id,
            tags=_version_tags(card) | {CHECKSUM: checksum},
            description=_describe(card),
            model_id=model.model_id,
        )
    if model is not None:
        link = json.dumps([{"name": name, "version": str(made.version)}])
        client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": link})
    champion = client.get_registered_model(name).aliases.get(CHAMPION)
    if champion is None or int(champion) < int(made.version):
        client.set_registered_model_alias(name, CHAMPION, made.version)
    return f"models:/{name}/{made.version}"


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
        f"Input: {SCALE:g} · log1p({card.constant:.6g} · amplitude), {FRAMES} frames ({front.clip_seconds:g} s) × "
        f"{BINS} {front.axis} bands, {front.low_hz:g} to {front.high_hz:g} Hz. All else: `artifacts/model/{CARD}`."
    )
    return "\n\n".join(lines)


def _logged(client: Any, run_id: str, checksum: str) -> Any:
    """MLflow's LoggedModel of a run with these weights, finished or not; None if there is none."""
    experiment = client.get_run(run_id).info.experiment_id
    found = client.search_logged_models([experiment], f"tags.`{CHECKSUM}` = '{checksum}'")
    return next((model for model in found if model.source_run_id == run_id), None)


def _log(client: Any, folder: Path, card: ModelCard, run_id: str, checksum: str, logged: Any) -> Any:
    """Log a model's folder as MLflow's LoggedModel of a run, or finish the one that was begun before.

    Without MLflow's slow guesses at requirements and serving.
    """
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    run = client.get_run(run_id)
    if logged is None:
        params = {key: str(value) for key, value in config_params(card.config).items()}
        tags = _version_tags(card) | {CHECKSUM: checksum}
        logged = client.create_logged_model(run.info.experiment_id, card.instrument, run_id, tags, params, "separator")
    if str(logged.status) != "READY":
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
    outputs = run.outputs.model_outputs if run.outputs else []
    if logged.model_id not in {output.model_id for output in outputs}:
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
        if not is_there(Path(text) / CARD):
            raise UserError(f"{text}: no model there, expected a folder with {CARD}, or models:/{PREFIX}vn@{CHAMPION}")
        return Path(text)
    if not REFERENCE.fullmatch(text):
        raise UserError(
            f"{text!r}: names no model, expected models:/{PREFIX}vn@{CHAMPION}, models:/{PREFIX}vn/3 or a folder"
        )
    uri = uri or tracking_uri()
    database = database_file(uri)
    if database and not database.is_file():
        raise UserError(f"{text}: no MLflow database at {database}: run a search there, or set MLFLOW_TRACKING_URI")
    try:
        client = connect(uri)
        found = _find_version(client, text)
        # Another store can have the same name and version.
        identity = f"{found.name} {found.version} {found.run_id} {found.source} {found.creation_timestamp}"
        folder = cache_folder() / "models" / hashlib.sha256(identity.encode()).hexdigest()[:32]
        if not (folder / CARD).is_file():
            # Not as `models:/…`: MLflow looks those up at its global address, which need not be ours.
            _download(client.get_model_version_download_uri(found.name, found.version), folder, uri)
    except UserError:
        raise
    except Exception as error:  # its own kinds and its database's
        raise UserError(f"{text}: MLflow at {without_password(uri)} does not give it: {why_away(error)}") from error
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
