"""A model's folder as MLflow's LoggedModel: with code, requirements, signature, input example and card, unpickled."""

import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sepsearch.model_folder import CARD, WEIGHTS, ModelCard
from sepsearch.model_text import model_text
from sepsearch.network import BINS, FRAMES, config_params

CHECKSUM = "weights_sha256"  # the tag that tells whether a model was logged before
README = "README.md"


def find_logged(client: Any, run_id: str, checksum: str) -> Any:
    """MLflow's LoggedModel of a run with these weights, finished or not; None if there is none."""
    experiment = client.get_run(run_id).info.experiment_id
    found = client.search_logged_models([experiment], f"tags.`{CHECKSUM}` = '{checksum}'")
    return next((model for model in found if model.source_run_id == run_id), None)


def log_model(
    client: Any, folder: Path, card: ModelCard, run_id: str, checksum: str, logged: Any, tags: dict[str, str]
) -> Any:
    """Log a model's folder as MLflow's LoggedModel of a run, or finish the one that was begun before.

    Without MLflow's slow guesses at requirements and serving.
    """
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    run = client.get_run(run_id)
    if logged is None:
        params = {key: str(value) for key, value in config_params(card.config).items()}
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
            _save_pyfunc(path, folder, card, model, Path(temporary))
            client.log_model_artifacts(logged.model_id, str(path))
        client.finalize_logged_model(logged.model_id, "READY")
    outputs = run.outputs.model_outputs if run.outputs else []
    if logged.model_id not in {output.model_id for output in outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return logged


def _save_pyfunc(path: Path, folder: Path, card: ModelCard, model: Any, temporary: Path) -> None:
    """Write MLflow's form of a model: the folder, this package's modules, requirements, signature, example and card."""
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
    text = f"{model_text(card, 'DIR')}\nDIR is the folder `artifacts/model` beside this file.\n"
    (path / README).write_text(f"# sepsearch-{card.instrument}\n\n{text}", encoding="utf-8")


def _requirements() -> list[str]:
    """What a registered model needs beside its own code, in the versions at work here."""
    found = []
    for package in ("mlflow", "torch", "numpy", "safetensors"):
        try:
            found.append(f"{package}=={version(package).partition('+')[0]}")  # "2.13.0+cpu" is no release on PyPI
        except PackageNotFoundError:
            found.append(package)
    return found
