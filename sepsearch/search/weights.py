"""Check of the weights that a finalist's run has left: all files there, with their checksums."""

from collections.abc import Mapping
from pathlib import Path

from sepsearch.utils.files import damage


def weights_problem(folder: Path, sha256: Mapping[str, str] | None) -> str:
    """What is wrong with a run's weights; "" for none. Without checksums (older journals): files that hold nothing."""
    if sha256 is not None and folder.is_dir():
        return damage(folder, sha256)
    if not folder.is_dir():
        return f"{folder}: missing"
    empty = next((path for path in sorted(folder.iterdir()) if not _is_safetensors(path)), None)
    return f"{empty}: damaged" if empty else ""


def _is_safetensors(path: Path) -> bool:
    """Whether a file is as long as its header says; the values are not checked."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            return True
    except (OSError, SafetensorError):
        return False
