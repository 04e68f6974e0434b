"""MLflow's model registry: register final models, find and download registered ones."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.models.card import model_text
from sepsearch.models.saved_model import CARD, WEIGHTS, ModelCard, load_model
from sepsearch.tracking.champion import (
    CHAMPION,
    Compare,
    Outcome,
    Verdict,
    beats_baselines,
    compare_recorded,
    settle_champion,
)
from sepsearch.tracking.logged_model import CHECKSUM, find_logged, log_model
from sepsearch.tracking.mlflow_internals import VERSIONS_TAG
from sepsearch.tracking.server_errors import first_line, served, why_away
from sepsearch.tracking.tracker import connect, existing_store, tracking_uri
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import cache_folder, file_sha256, is_there, new_folder

PREFIX = "sepsearch-"
# Names that MLflow accepts, without characters that break its searches; then an alias, a version, or neither.
NAME = r"""[^/:@'"`%\\\s.][^/:@'"`%\\\x00-\x1f]*"""
REFERENCE = re.compile(rf"models:/(?P<name>{NAME})(@(?P<alias>[\w-]+)|/(?P<number>\w+))?", re.ASCII)
USE = "N is the number of this version; without `--model` the champion is used."
LONGEST_DESCRIPTION = 5000  # characters, MLflow's limit


class Registration(NamedTuple):
    """Result of `register_models`.

    `models` is instrument → "models:/sepsearch-vn/3", `problems` has a line for every model that was not registered,
    `outcomes` the instruments for which this call settled whether the new version is champion.
    """

    models: dict[str, str]
    problems: list[str]
    outcomes: dict[str, Outcome]


def register_models(
    folders: Mapping[str, Path],
    run_id: str,
    uri: str | None = None,
    advance: Callable[[], object] = lambda: None,
    compare: Compare = compare_recorded,
    settled: Mapping[str, str] | None = None,
) -> Registration:
    """Register the models of a search; where MLflow is away for one of them, the others are not tried.

    Args:
        folders: instrument → folder, written by `save_model`.
        run_id, uri, compare: as `register_model` takes them.
        advance: called after every model.
        settled: instrument → address of a version for which the alias was settled before; it is left as it is.
    """
    models: dict[str, str] = {}
    problems: list[str] = []
    outcomes: dict[str, Outcome] = {}
    for code, folder in folders.items():
        try:
            outcome = register_model(folder, run_id, uri, compare, (settled or {}).get(code, ""))
            models[code] = outcome.address
            if outcome.why:
                outcomes[code] = outcome
        except UserError as error:
            problems.append(f"{code} was not registered: {first_line(error)}")
        except Exception as error:  # MLflow's errors and its database's
            problems.append(f"{code} was not registered: {why_away(error)}")
            break
        advance()
    return Registration(models, problems, outcomes)


def register_model(
    folder: Path, run_id: str, uri: str | None = None, compare: Compare = compare_recorded, settled: str = ""
) -> Outcome:
    """Log a model's folder to an MLflow run and register it as a version of `sepsearch-<instrument>`.

    The same weights of the same run are logged and registered once, also after an interrupted
    call. The alias `champion` moves to it only if it beats identity, constant gain and the present
    champion, and never away from a version that a person has picked.

    Args:
        folder: written by `save_model`.
        run_id: MLflow's id of the search (`Tracker.run_id`); if it has a run of the instrument, the model goes there.
        uri: MLflow's address; `tracking_uri()` if None.
        compare: whether the new model is better than the champion.
        settled: address of a version for which the alias was settled before: if it is this one and there is a
            champion, the alias is left as it is.

    Returns:
        The version's address and what became of the alias; without a reason where that was settled before.

    Raises:
        UserError: the folder is damaged.
        mlflow.exceptions.MlflowException: MLflow is away or refuses.
    """
    new = load_model(folder)
    client = connect(uri or tracking_uri())
    made = add_version(client, folder, new[1], run_id, uri)
    if settled == f"models:/{made.name}/{made.version}":
        champion = client.get_registered_model(made.name).aliases.get(CHAMPION)
        if champion is not None:
            return Outcome(made.name, str(made.version), str(champion), str(champion), "")

    def compare_with(other: str) -> Verdict:
        try:
            return compare(new, load_model(resolve_model(f"models:/{made.name}/{other}", uri)))
        except UserError as error:
            return Verdict(None, f"version {other} cannot be fetched and scored ({first_line(error)})")

    return settle_champion(client, made.name, str(made.version), beats_baselines(new[1]), compare_with)


def add_version(client: Any, folder: Path, card: ModelCard, run_id: str, uri: str | None = None) -> Any:
    """The registered version of a model and run, made if there is none; no alias moves (see `register_model`)."""
    name, checksum = PREFIX + card.instrument, file_sha256(folder / WEIGHTS)
    runs = [_run_of_instrument(client, run_id, card.instrument), run_id]
    _make_registered(client, name, card)
    versions = client.search_model_versions(f"name = '{name}'")
    made = next((v for v in versions if v.tags.get(CHECKSUM) == checksum and v.run_id in runs), None)
    run_id = made.run_id if made else runs[0]
    model = find_logged(client, run_id, checksum)
    if made is None:
        tags = version_tags(card) | {CHECKSUM: checksum}
        model = log_model(client, folder, card, run_id, checksum, model, tags)
        # A database's store resolves `models:/…` at MLflow's global address; a server accepts only that form.
        over_http = served(uri or tracking_uri())
        made = client.create_model_version(
            name,
            source=f"models:/{model.model_id}" if over_http else model.artifact_location,
            run_id=run_id,
            tags=tags,
            description=f"{model_text(card, f'models:/{name}/N')}\n{USE}"[:LONGEST_DESCRIPTION],
            model_id=model.model_id,
        )
    if model is not None:
        link = json.dumps([{"name": name, "version": str(made.version)}])
        client.set_logged_model_tags(model.model_id, {VERSIONS_TAG: link})
    return made


def _run_of_instrument(client: Any, run_id: str, code: str) -> str:
    """The run of an instrument's final model among the children of a search's run; that run itself if there is none."""
    run = client.get_run(run_id)
    key = run.data.tags.get("sepsearch.run")
    if key is None or "mlflow.parentRunId" in run.data.tags:
        return run_id
    # Of a run that was extended, another model than the first may be the final one, with a key of its own.
    final = f"tags.`sepsearch.run` = '{key}' and tags.instrument = '{code}' and tags.stage = 'finalist'"
    for which in (final, f"tags.`sepsearch.key` = '{key}/{code}'"):
        if found := client.search_runs([run.info.experiment_id], which, max_results=1):
            return str(found[0].info.run_id)
    return run_id


def _make_registered(client: Any, name: str, card: ModelCard) -> None:
    from mlflow.exceptions import MlflowException

    instrument = INSTRUMENTS[card.instrument]
    text = (
        f"Pulls the {instrument} out of a chamber recording: spectrogram of the mixture in, of the {instrument} out. "
        f"The alias `{CHAMPION}` is the best search's model on validation titles, or the version picked with "
        f"`python -m sepsearch.promote RUN --instrument {card.instrument}`."
    )
    try:
        client.create_registered_model(name, tags={"instrument": card.instrument}, description=text)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            raise


def version_tags(card: ModelCard) -> dict[str, str]:
    """Tags of a version, to filter and compare by."""
    scores = {key: card.scores.get(key) for key in ("ratio", "ratio_mean", "ratio_sd", "test_ratio", "si_sdr_gain_db")}
    tags = {key: f"{value:.3f}" for key, value in scores.items() if isinstance(value, int | float)}
    tags |= {"instrument": card.instrument, "search": card.search, "seed": str(card.seed)}
    tags |= {"configuration": str(card.scores.get("configuration") or ""), "family": card.config.family}
    tags |= {"fingerprint": card.fingerprint, "caveat": card.caveat}
    return {key: value for key, value in tags.items() if value}


def resolve_model(model: str | os.PathLike[str], uri: str | None = None) -> Path:
    """The folder of a model named by its folder, "models:/sepsearch-vn@champion" or "models:/sepsearch-vn/3".

    Registered models are downloaded once, into the cache.

    Raises:
        UserError: no such folder, model, version or alias (the message lists those that exist), or no MLflow.
    """
    text = os.fspath(model)
    if not text.startswith("models:/"):
        if not is_there(Path(text) / CARD):
            raise UserError(f"{text}: no model there, expected a folder with {CARD}, or models:/{PREFIX}vn@{CHAMPION}")
        return Path(text)
    uri = uri or tracking_uri()
    _parse(text)
    with existing_store(uri, f"does not provide {text}") as client:
        found = find_version(client, text)
        # Another store can have the same name and version.
        identity = f"{found.name} {found.version} {found.run_id} {found.source} {found.creation_timestamp}"
        folder = cache_folder() / "models" / hashlib.sha256(identity.encode()).hexdigest()[:32]
        if not (folder / CARD).is_file():
            # Not as `models:/…`: MLflow looks those up at its global address, which may be another one.
            _download(client.get_model_version_download_uri(found.name, found.version), folder, uri)
    return folder


def _parse(model: str) -> re.Match[str]:
    """The parts "name", "alias" and "number" of a registered model's address."""
    if found := REFERENCE.fullmatch(model):
        return found
    raise UserError(
        f"{model!r}: names no model, expected models:/{PREFIX}vn@{CHAMPION}, models:/{PREFIX}vn/3 or a folder"
    )


def find_version(client: Any, model: str) -> Any:
    """The registered version of "models:/name@alias", "models:/name/3" or "models:/name/latest"."""
    name, alias, number = _parse(model).group("name", "alias", "number")
    versions = {str(v.version): v for v in client.search_model_versions(f"name = '{name}'")}
    if not versions:
        registered = sorted(m.name for m in client.search_registered_models() if m.name.startswith(PREFIX))
        raise UserError(f"{model}: no such model, expected one of: {', '.join(registered) or 'none is registered yet'}")
    newest = max(versions, key=int)
    if alias:
        aliases = {key: str(version) for key, version in client.get_registered_model(name).aliases.items()}
        if not aliases:
            raise UserError(
                f"{model}: {name} has no champion, since no version has beaten the baselines: use a run's models"
                f" (--model runs/NAME), or a version all the same (--model models:/{name}/{newest})"
            )
        if alias not in aliases:
            raise UserError(f"{model}: no such alias, expected one of: {', '.join(sorted(aliases))}")
        number = aliases[alias]
    found = versions.get(newest if number in (None, "latest") else number)
    if found is None:
        numbers = ", ".join(sorted(versions, key=int))
        raise UserError(f"{model}: no such version, expected one of: {numbers}")
    return found


def _download(model: str, folder: Path, uri: str) -> None:
    """Fetch weights and card of a logged model from its address; raises `UserError` if it has none."""
    import mlflow.artifacts

    with new_folder(folder) as new:
        for name in (CARD, WEIGHTS):
            source = f"{model.rstrip('/')}/artifacts/model/{name}"
            try:
                mlflow.artifacts.download_artifacts(
                    artifact_uri=source, dst_path=str(new), tracking_uri=uri, registry_uri=uri
                )
            except OSError as error:
                raise UserError(f"{source}: cannot be fetched: {error}: is it a model of sepsearch?") from error
