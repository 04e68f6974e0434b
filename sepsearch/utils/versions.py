"""Versions of what computes: Python, packages, and this package's own source."""

import contextlib
import hashlib
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sepsearch import __version__

PACKAGES = ("ray", "torch", "optuna", "mlflow", "numpy", "pyarrow")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions by name; that of sepsearch has a hash of its source.

    A package that is not installed is left out.
    """
    source = hashlib.sha256()
    folder = Path(__file__).parent.parent
    for path in sorted(folder.rglob("*.py")):
        source.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    found = {"sepsearch": f"{__version__}+{source.hexdigest()[:12]}", "python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
