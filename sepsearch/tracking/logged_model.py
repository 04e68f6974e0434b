"""A model's folder as MLflow's LoggedModel: code, requirements, signature, input example and card; no pickle."""

import ast
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sepsearch.audio.spectrogram import BINS, FRAMES
from sepsearch.models.card import model_text
from sepsearch.models.families import config_params
from sepsearch.models.saved_model import CARD, WEIGHTS, ModelCard

CHECKSUM = "weights_sha256"  # tag by which a model that was logged before is found
README = "README.md"
PACKAGE = Path(__file__).parent.parent
ENTRY = Path(__file__).with_name("pyfunc_model.py")


def find_logged(client: Any, run_id: str, checksum: str) -> Any:
    """MLflow's LoggedModel of a run with these weights, complete or not; None if there is none."""
    experiment = client.get_run(run_id).info.experiment_id
    found = client.search_logged_models([experiment], f"tags.`{CHECKSUM}` = '{checksum}'")
    return next((model for model in found if model.source_run_id == run_id), None)


def log_model(
    client: Any, folder: Path, card: ModelCard, run_id: str, checksum: str, logged: Any, tags: dict[str, str]
) -> Any:
    """Log a model's folder as MLflow's LoggedModel of a run, or complete the one that was begun before.

    Requirements and signature are given, since MLflow's inference of them is slow.
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
    """Write MLflow's form of a model: folder, modules that it needs, requirements, signature, example and card."""
    import mlflow.pyfunc
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    artifact = temporary / "artifact" / "model"
    code = copy_code(temporary)
    artifact.mkdir(parents=True)
    for name in (WEIGHTS, CARD):
        shutil.copy(folder / name, artifact)
    tensor = Schema([TensorSpec(np.dtype(np.float32), (-1, FRAMES, BINS))])
    mlflow.pyfunc.save_model(
        str(path),
        mlflow_model=model,
        python_model=str(ENTRY),
        artifacts={"model": str(artifact)},
        code_paths=[str(code)],
        pip_requirements=_requirements(card),
        signature=ModelSignature(inputs=tensor, outputs=tensor),
        # Multiples of 1/8, which are short in the example's JSON.
        input_example=(np.arange(FRAMES * BINS, dtype=np.float32) % 24 / 8).reshape(1, FRAMES, BINS),
    )
    copied = path / ENTRY.name
    copied.write_text(_renamed(copied.read_text(encoding="utf-8"), code.name), encoding="utf-8")
    text = f"{model_text(card, 'DIR')}\nDIR is the folder `artifacts/model` beside this file.\n"
    (path / README).write_text(f"# sepsearch-{card.instrument}\n\n{text}", encoding="utf-8")


def copy_code(folder: Path) -> Path:
    """Copy the modules that ENTRY imports, as a package of another name, into a folder; returns the package's folder.

    MLflow puts a model's code first on `sys.path` when it loads the model. A package of the name sepsearch would hide
    an installed one, and code of other versions. So its name ends in a checksum of its content.
    """
    modules = {path.relative_to(PACKAGE): path.read_text(encoding="utf-8") for path in imported_modules(ENTRY)}
    name = f"{PACKAGE.name}_{hashlib.sha256(repr(sorted(modules.items())).encode()).hexdigest()[:8]}"
    for module, text in modules.items():
        copy = folder / name / module
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(_renamed(text, name), encoding="utf-8")
    return folder / name


def _renamed(text: str, name: str) -> str:
    """Source code that imports the package `name` in place of this one."""
    return re.sub(rf"^(\s*(?:from|import) ){PACKAGE.name}\b", rf"\g<1>{name}", text, flags=re.M)


def imported_modules(entry: Path) -> set[Path]:
    """Source files of this package that a module imports, directly or not, without the module itself.

    Found in the syntax trees, so imports within functions count, and nothing is executed. Those for type checkers alone
    do not count.
    """
    found: set[Path] = set()
    queue = [entry]
    while queue:
        for node in _executed(ast.parse(queue.pop().read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE.name:
                new = {path for name in node.names for path in _files(f"{node.module}.{name.name}")} - found
                found |= new
                queue += new
    return found


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a syntax tree without those below `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            yield node
            yield from _executed(node)


def _files(name: str) -> Iterator[Path]:
    """The module of a dotted name (whose last part may be a name in it), and the packages that it is in."""
    path = PACKAGE.parent
    for part in name.split("."):
        path = path / part
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                yield file


def _requirements(card: ModelCard) -> list[str]:
    """Requirements of a registered model, in the versions installed here; that of its family among them."""
    found = []
    plugin = card.plugin.get("distribution")
    for package in ("mlflow", "torch", "numpy", "safetensors", *([plugin] if plugin else [])):
        try:
            found.append(f"{package}=={version(package).partition('+')[0]}")  # "2.13.0+cpu" is no release on PyPI
        except PackageNotFoundError:
            found.append(package)
    return found
