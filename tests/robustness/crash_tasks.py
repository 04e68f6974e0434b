"""What is killed at every operation: a whole search, or the preparation of its shards."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny_search
from durable_files import read_files
from tiny_search import Ended

Facts = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A command that is killed, and what a person does then. All run in the working directory.

    Args:
        name: of the task.
        start: the command, begun with nothing there; gets the folder of inputs.
        go_on: the command after a crash.
        facts: all of what it has made that a crash must not change.
        record: of files that only grow, the one whose fsynced lines nothing may take away; "" for none.
        before: makes what is there before the command, in which nothing crashes; gets the folder of inputs.
    """

    name: str
    start: Callable[[Path], Ended]
    go_on: Callable[[Path], Ended]
    facts: Callable[[], Facts]
    record: str = ""
    before: Callable[[Path], None] = lambda inputs: None


def _resume(inputs: Path) -> Ended:
    """Resume the search; where it had not begun, start it again."""
    journal = Path(JOURNAL)
    begun = journal.exists() and b"\n" in journal.read_bytes()
    return tiny_search.resume() if begun else tiny_search.start(inputs)


def _finish(inputs: Path) -> None:
    """A finished search, copied from the first one that was made."""
    finished = inputs / "finished"
    if not finished.exists():
        if (ended := tiny_search.start(inputs)).code != 0:
            raise RuntimeError(f"the search fails without any crash: {ended.text}")
        shutil.copytree("runs", finished)
    else:
        shutil.copytree(finished, "runs")


def _extend(inputs: Path) -> Ended:
    return tiny_search.command("--continue", tiny_search.NAME, "--trials", "5")


def _go_on_extending(inputs: Path) -> Ended:
    """Resume the search; where the extension had not begun, begin it again."""
    if b'"event":"continue"' in Path(JOURNAL).read_bytes().rpartition(b"\n")[0]:
        return tiny_search.resume()
    ended = _extend(inputs)
    if ended.code == 2 and "--resume" in ended.text:  # an end was written before the extension's beginning
        tiny_search.resume()
        ended = _extend(inputs)
    return ended


def _search_facts() -> Facts:
    """Results, names of files, and the weights of the models, each as `load_model` finds it sound."""
    from sepsearch.models.saved_model import load_model
    from sepsearch.utils.errors import UserError

    folder = Path("runs", tiny_search.NAME)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    del results["seconds"]  # how long it took
    models = {}
    for code in results["final"]:
        try:
            network, _ = load_model(folder / "models" / code)
            weights = b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values())
            models[code] = hashlib.sha256(weights).hexdigest()
        except UserError as error:
            models[code] = str(error)
    files = read_files(Path())
    empty = sorted(path for path, content in files.items() if content == b"")
    return {"results": results, "models": models, "files": sorted(files), "empty files": empty}


def _prepare(inputs: Path) -> Ended:
    os.environ["SEPSEARCH_CACHE"] = str(Path("cache").absolute())
    return tiny_search.prepare(inputs)


def _shard_facts() -> Facts:
    """Names and contents; without folders that are being filled, which another process may be at: they go in an hour."""
    files = {path: content for path, content in read_files(Path()).items() if ".partial-" not in path}
    return {path: "" if content is None else hashlib.sha256(content).hexdigest() for path, content in files.items()}


JOURNAL = f"runs/{tiny_search.NAME}/journal.jsonl"
SEARCH = Task("search", tiny_search.start, _resume, _search_facts, JOURNAL)
PREPARE = Task("prepare", _prepare, _prepare, _shard_facts)
CONTINUE = Task("continue", _extend, _go_on_extending, _search_facts, JOURNAL, _finish)
TASKS = {task.name: task for task in (SEARCH, PREPARE, CONTINUE)}


def difference(expected: Any, found: Any, where: str = "") -> str:
    """The first difference of two nested values, in words; "" for none."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in [*expected, *(key for key in found if key not in expected)]:
            name = f"{where}: {key}" if where else str(key)
            if key not in found or key not in expected:
                return f"{name} is {'missing' if key not in found else 'too much'}"
            if text := difference(expected[key], found[key], name):
                return text
        return ""
    if expected == found:
        return ""
    if isinstance(expected, list) and isinstance(found, list):
        if all(isinstance(item, str) for item in (*expected, *found)):
            missing = [item for item in expected if item not in found]
            more = [item for item in found if item not in expected]
            parts = [
                f"{what} {', '.join(items[:3])}" for what, items in (("missing", missing), ("too much", more)) if items
            ]
            return f"{where}: {'; '.join(parts)}"
        for number, (one, other) in enumerate(zip(expected, found, strict=False)):
            if text := difference(one, other, f"{where}[{number}]"):
                return text
    return f"{where}: {found!r}, expected {expected!r}"[:300]
