"""Who imports whom: data, networks and training know nothing of Ray, MLflow or the command line; nothing at import."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sepsearch"
# From the ground up: a module imports from its own line or from lines above it, nowhere else.
LAYERS = [
    {"errors", "home", "names", "instruments", "process_identity", "terminal_text", "__init__"},
    {"command_line", "files", "terminal_console", "versions", "safe_paths"},
    {
        "ray_folder",
        "run_folder",
        "run_lock",
        "safe_yaml",
        "audio_checks",
        "layouts",
        "mlflow_turn",
        "object_stores",
        "places",
    },
    {
        "metrics",
        "distortion",
        "plan",
        "storage_wait",
        "task_ending",
        "watchdog",
        "rungs",
        "progress",
        "splits",
        "journal",
        "journal_events",
        "mlflow_work",
        "mlflow_views",
        "mirror",
        "mlflow_answers",
    },
    {
        "spectrogram",
        "network",
        "audio",
        "correlation",
        "history",
        "licence",
        "demo_scores",
        "demo_arrangements",
        "demo_performance",
    },
    {"recordings", "demo", "examples", "split_examples", "config", "sound_files", "full_transform", "study_log"},
    {
        "masking",
        "windows",
        "curves",
        "corners",
        "configurations",
        "forecast",
        "pace",
        "optuna_space",
        "pool",
        "recorded",
        "manifest",
    },
    {"shared_shards", "shard_file", "takes", "baselines", "training", "sampling", "model_folder", "samples"},
    {"shards", "search", "served_model", "checkpoints", "pictures", "model_text", "onnx_graph", "stored_run"},
    {"finalists", "logged_model", "material", "simulation", "plots", "importance", "hindsight", "mlflow_notes"},
    {"candidates", "run_files", "final_runs", "results", "retrain", "scoring", "store", "nodes", "prepare"},
    {"projection", "judging", "champion_rule", "replay_page", "report_facts", "resuming"},
    {
        "mlflow_writer",
        "champion_alias",
        "replay",
        "trial",
        "stage",
        "joining",
        "session",
        "gauges",
        "screen",
        "tally",
        "report_tables",
    },
    {"tracking", "telling", "rehearsal", "report_figures", "trial_tables", "watch_view"},
    {"registry", "pipeline", "packing", "report_text", "mlflow_database", "mlflow_access"},
    {"model_choice", "promote", "export", "preflight", "report_page"},
    {"course", "separate", "report", "fetch", "watch"},
    {"run"},
    {"track"},
    {"__main__"},
]
OWNERS = {
    "ray": {"packing", "joining", "stage", "store", "trial", "session", "gauges", "pipeline", "nodes", "rehearsal"},
    "mlflow": {"tracking", "mlflow_writer", "mlflow_access", "registry", "logged_model", "served_model"},
    "optuna": {"sampling", "optuna_space", "study_log", "importance", "hindsight"},
    "pyarrow": {"shards", "shard_file"},
    "obstore": {"object_stores", "places"},
    "boto3": {"object_stores"},
    "soundfile": {"audio", "demo", "sound_files", "samples"},
    "torchmetrics": {"distortion"},
    "onnx": {"onnx_graph"},
    "onnxruntime": {"onnx_graph"},
    "jinja2": {"report_page"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


MODULES = sorted(PACKAGE.glob("*.py"))


def test_every_module_has_its_layer():
    assert {path.stem for path in MODULES} == set().union(*LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_go_downward_only(path):
    level = next(number for number, layer in enumerate(LAYERS) if path.stem in layer)
    allowed = set().union(*LAYERS[: level + 1])
    used = {name.split(".")[1] for name in imports(path) if name.startswith("sepsearch.")} - {"__version__"}
    assert used <= allowed


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_heavy_libraries_are_imported_only_where_they_are_owned(path):
    used = {name.split(".")[0] for name in imports(path)}
    assert not {library for library, owners in OWNERS.items() if library in used and path.stem not in owners}


def calls(tree: ast.AST) -> Iterator[str]:
    """What is called in a module: `f` for f(), "a.f" for a.f()."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_text_reaches_the_terminal_by_the_modules_that_make_it_safe(path):
    if path.stem in ("terminal_text", "terminal_console"):
        return
    found = set(calls(ast.parse(path.read_text())))
    assert not found & {"print", "Console", "TextColumn", "rich.print", "argparse.ArgumentParser"}
    assert not {
        name
        for name in found
        if name.endswith((".from_markup", "sys.stdout.write", "sys.stderr.write", "console.file.write"))
    }


@pytest.mark.parametrize(
    "module", ["run", "pipeline", "track", "replay", "report", "promote", "export", "separate", "watch"]
)
def test_importing_a_module_starts_nothing_heavy(module):
    code = f"import sys, sepsearch.{module}; print([m for m in ('ray', 'mlflow', 'optuna', 'pyarrow', 'obstore') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
