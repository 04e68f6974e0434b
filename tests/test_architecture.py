"""Imports go down from package to package, every library has its owners, and importing starts nothing."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sepsearch"
# From the top: a module imports from its own package and from lines below it. "" are the commands.
LINES = (
    {""},
    {"pipeline"},
    {"preflight", "monitoring", "simulation"},
    {"tracking"},
    {"reporting"},
    {"evaluation"},
    {"distributed", "runs", "contracts"},
    {"search"},
    {"spaces"},
    {"training"},
    {"models"},
    {"data"},
    {"audio"},
    {"utils"},
)
OWNERS = {
    "ray": {"distributed", "preflight", "pipeline", "monitoring"},
    "mlflow": {"tracking"},
    "optuna": {"search", "reporting", "distributed"},
    "pyarrow": {"data", "runs"},
    "obstore": {"utils"},
    "boto3": {"utils"},
    "soundfile": {"audio", "data", "evaluation"},
    "torchmetrics": {"audio"},
    "onnx": {"models"},
    "onnxruntime": {"models"},
    "jinja2": {"reporting"},
    "gradio": {"pipeline"},
    "pandas": {"pipeline"},
    "IPython": {"utils"},
}
MOST_MODULES = 20  # of a package
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "exported" not in path.parts)
NAMES = [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in MODULES]


def package_of(path: Path) -> str:
    """The first package of a module; "" for commands."""
    return path.relative_to(PACKAGE).parts[0] if path.parent != PACKAGE else ""


def imports(path: Path) -> set[str]:
    """Dotted names that a module imports, within functions and for type checkers, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_package_has_a_line_and_at_most_twenty_modules():
    folders = {path.parent for path in MODULES}
    assert {package_of(path) for path in MODULES} == set().union(*LINES)
    assert max(sum(path.parent == folder and path.stem != "__init__" for path in MODULES) for folder in folders) <= (
        MOST_MODULES
    )


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_imports_go_down_only(path):
    own = package_of(path)
    line = next(number for number, packages in enumerate(LINES) if own in packages)
    below = set().union(*LINES[line + 1 :])
    used = {name.split(".")[1] for name in imports(path) if name.startswith("sepsearch.")} - {"__version__"}
    beside = {path.stem for path in MODULES if package_of(path) == ""} if own == "" else {own}
    assert used <= below | beside


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_libraries_are_imported_only_where_they_are_owned(path):
    used = {name.split(".")[0] for name in imports(path)}
    assert not {library for library, owners in OWNERS.items() if library in used and package_of(path) not in owners}


def calls(tree: ast.AST) -> Iterator[str]:
    """What is called in a module: `f` for f(), "a.f" for a.f()."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
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
    "module",
    [
        "api",
        "run",
        "pipeline.driver",
        "track",
        "replay",
        "report",
        "compare",
        "promote",
        "export",
        "separate",
        "watch",
        "listen",
    ],
)
def test_importing_a_module_starts_nothing_heavy(module):
    code = f"import sys, sepsearch.{module}; print([m for m in ('ray', 'mlflow', 'optuna', 'pyarrow', 'obstore') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_a_worker_imports_what_it_trains_with_and_no_more():
    code = "import sys, sepsearch.distributed.trainable; print(*(m for m in sys.modules if m.startswith('sepsearch.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages = {name.split(".")[1] for name in done.stdout.split()}
    assert packages == {"audio", "data", "distributed", "models", "training", "utils"}
