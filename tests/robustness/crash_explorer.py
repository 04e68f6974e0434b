"""Kill a search at every operation that changes the disk, resume it, and compare it with one that was never killed.

A process that has all libraries in memory is forked for every search: the first child runs to the crash and ends there
without any clean-up, the second resumes. See `MODES` for the kinds of crash.
"""

import contextlib
import importlib
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tiny_search
from disk_operations import GROWING, Disk, Operation
from durable_files import KEPT, UNDONE, digest, read_files, write_files
from remembered_training import COUNTED, FOLDER

CRASHED = 77  # exit code of a process that ended at its crash point
LIMIT = 120  # seconds for a process, which takes about one
MODES = {
    "death": "the process ends before the operation",
    "torn": "the process ends when half of a write is done",
    "undone": "power cut: content that was not fsynced is lost, names that were not fsynced are as before",
    "kept": "power cut: content that was not fsynced is lost, all names are kept",
    "fault": "the operation fails once: no space, or an input/output error; of a write half is done",
    "full": "from the operation on, the disk is full until the process ends",
    "stop": "Ctrl-C during the operation",
    "abort": "Ctrl-C twice during the operation",
}
DEATHS = ("death", "torn", "undone", "kept")  # of the process or the machine: nothing is cleaned up
RANDOM = re.compile(r"(\.(?:partial-|preflight-|[\w.-]+\.))[a-z0-9_]{8}")  # names that tempfile draws


@dataclass(frozen=True)
class Outcome:
    """What became of one crash point.

    Args:
        mode: of `MODES`.
        operation: where, as the search that was never killed had it.
        problem: what is not as it should be; empty where the search survived.
        again: epochs that were trained once more.
        same_as: number of the earlier operation that leaves the same files, whose outcome this is; 0 for none.
    """

    mode: str
    operation: Operation
    problem: str = ""
    again: int = 0
    same_as: int = 0

    def __str__(self) -> str:
        return f"{self.mode:6} {self.operation}: {self.problem or 'survived'}"


@dataclass
class Reference:
    """The search that was never killed.

    Attributes:
        operations: all of them, in order.
        states: mode → for every operation, a digest of the files that a crash there leaves.
        lines: for every operation, how many of the journal's lines were fsynced before it.
        facts: what `_facts` finds in the end.
        epochs: how many were trained.
    """

    operations: list[Operation] = field(default_factory=list)
    states: dict[str, list[str]] = field(default_factory=lambda: {mode: [] for mode in DEATHS})
    lines: list[int] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    epochs: int = 0
    missed: list[str] = field(default_factory=list)


class Explorer:
    """Crash points of the tiny search.

    Args:
        folder: an empty one, for everything; of the searches nothing stays in it.
    """

    def __init__(self, folder: Path):
        self.folder = Path(os.path.realpath(folder))
        self.inputs = self.folder / "inputs"
        self.inputs.mkdir()
        tiny_search.write_inputs(self.inputs)
        (self.inputs / "epochs").mkdir()
        os.environ.update({FOLDER: str(self.inputs / "epochs"), "SEPSEARCH_CACHE": str(self.inputs / "cache")})
        tiny_search.warm_up()
        self.reference = self._search_whole()

    def _search_whole(self) -> Reference:
        """The search that is never killed, twice: the first one prepares the shards and trains, in a fork as all are."""
        first = self._in_fork("first", lambda work: {"modules": self._run_first()})
        for name in first["modules"]:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        if (threads := threading.active_count()) > 1:
            raise RuntimeError(f"{threads} threads before the forks, expected 1")
        found = self._in_fork("whole", self._record)
        reference = Reference(
            [Operation(**operation) for operation in found["operations"]],
            found["states"], found["lines"], found["facts"], found["epochs"], found["missed"],
        )  # fmt: skip
        if reference.missed:
            raise RuntimeError(f"written past the operations that are watched: {', '.join(reference.missed)}")
        return reference

    def _run_first(self) -> list[str]:
        before = set(sys.modules)
        ended = tiny_search.start(self.inputs)
        if ended.code != 0:
            raise RuntimeError(f"the search fails without any crash: {ended.text}")
        return [name for name in sys.modules if name not in before]

    def _record(self, work: Path) -> dict[str, Any]:
        """Run a search, and note before every operation what a crash there would leave."""
        reference = Reference()
        lines = 0

        def before(disk: Disk, operation: Operation) -> None:
            nonlocal lines
            files = read_files(work)
            reference.operations.append(operation)
            reference.lines.append(lines)
            reference.states["death"].append(digest(files))
            reference.states["torn"].append("")  # no two are alike
            for mode in (UNDONE, KEPT):
                reference.states[mode].append(digest(disk.tree.after_power_cut(mode)))
            if operation.kind == "fsync" and operation.path.endswith("journal.jsonl"):
                lines = (files[operation.path] or b"").count(b"\n")

        disk = Disk(work, before)
        with disk.watching():
            ended = tiny_search.start(self.inputs)
        if ended.code != 0:
            raise RuntimeError(f"the search fails without any crash: {ended.text}")
        reference.facts, reference.epochs = _facts(work), _epochs()
        reference.missed = disk.missed()
        return asdict(reference)

    def points(self, mode: str) -> list[Operation]:
        """The operations at which a mode can crash."""
        return [o for o in self.reference.operations if mode != "torn" or (o.kind == "write" and o.size > 1)]

    def explore(
        self, points: Sequence[tuple[str, Operation]], jobs: int = 1,
        tell: Callable[[Outcome], None] = lambda outcome: None,
    ) -> list[Outcome]:  # fmt: skip
        """Try (mode, operation) points, some at once; of deaths that leave the same files the first one is tried."""
        first: dict[str, tuple[str, Operation]] = {}
        twins: dict[tuple[str, int], tuple[str, int]] = {}
        alone = []
        for mode, operation in points:
            state = self.reference.states[mode][operation.number - 1] if mode in DEATHS else ""
            if state and state in first:
                twins[mode, operation.number] = (first[state][0], first[state][1].number)
                continue
            if state:
                first[state] = mode, operation
            alone.append((mode, operation))
        found = {}
        for outcome in self._try_all(alone, jobs):
            found[outcome.mode, outcome.operation.number] = outcome
            tell(outcome)
        outcomes = []
        for mode, operation in points:
            if twin := twins.get((mode, operation.number)):
                other = found[twin]
                outcomes.append(Outcome(mode, operation, other.problem, other.again, twin[1]))
            else:
                outcomes.append(found[mode, operation.number])
        return outcomes

    def _try_all(self, points: Iterable[tuple[str, Operation]], jobs: int) -> Iterator[Outcome]:
        """Every point in a process of its own, at most `jobs` at once."""
        running: dict[int, tuple[str, Operation, Path]] = {}
        waiting = list(reversed(points if isinstance(points, list) else list(points)))
        while waiting or running:
            while waiting and len(running) < jobs:
                mode, operation = waiting.pop()
                answer = self.folder / f"{mode}-{operation.number}.json"
                sys.stdout.flush()
                if not (pid := os.fork()):
                    _answer(answer, lambda mode=mode, operation=operation: asdict(self._try(mode, operation)))
                running[pid] = mode, operation, answer
            pid, _ = os.wait()
            if pid in running:
                mode, operation, answer = running.pop(pid)
                found = _read_answer(answer)
                yield Outcome(mode, operation, found.get("error") or found["problem"], found.get("again", 0))

    def _try(self, mode: str, operation: Operation) -> Outcome:
        """Crash at one point, resume, compare."""
        name = f"{mode}-{operation.number}"
        try:
            ended = self._in_fork(name, lambda work: self._crash(work, mode, operation), keep=True)
            if problem := self._crash_problem(mode, operation, ended):
                return Outcome(mode, operation, problem)
            found = self._in_fork(name, self._go_on, keep=True)
            lines = self.reference.lines[operation.number - 1]
            return Outcome(mode, operation, self._problem(mode, found, lines), found["epochs"] - self.reference.epochs)
        finally:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / f"{name}.epochs").unlink(missing_ok=True)

    def _crash_problem(self, mode: str, operation: Operation, ended: dict[str, Any]) -> str:
        """What is wrong with the process that met its crash point."""
        if "error" in ended:
            return str(ended["error"])
        if not _same(ended.get("met"), operation):
            return f"the search took another way: {ended.get('met')}"
        if mode not in DEATHS and ended["code"] is None:
            return str(ended["text"])
        return ""

    def _problem(self, mode: str, found: dict[str, Any], lines: int) -> str:
        """What is wrong with the search that was resumed."""
        if "error" in found:
            return f"resuming: {found['error']}"
        if found["lines"] < lines:
            return f"the journal has lost {lines - found['lines']} of {lines} lines"
        if found["code"] != 0:
            return f"resuming ends with {found['code']}: {found['text']}"
        return difference(self.reference.facts, found["facts"])

    def _crash(self, work: Path, mode: str, operation: Operation) -> dict[str, Any]:
        """Run a search into its crash; a death does not return."""
        met: list[dict[str, Any]] = []

        def meet(found: Operation) -> None:
            met.append(asdict(found))

        def die(disk: Disk) -> None:
            disk.stop()
            if mode in (UNDONE, KEPT):
                write_files(work, disk.tree.after_power_cut(mode))
            _end({"met": met[0]}, self.folder / f"{work.name}.answer")

        def before(disk: Disk, found: Operation) -> int | None:
            if found.number < operation.number:
                return None
            if found.number > operation.number:
                if (mode == "full" and found.kind in GROWING) or (
                    mode == "fault" and found.number == operation.number + 1 and operation.kind == found.kind == "write"
                    and found.path == operation.path
                ):
                    raise found.error()
                return None
            meet(found)
            if mode in ("death", UNDONE, KEPT):
                die(disk)
            if mode == "torn" or (mode in ("fault", "full") and found.kind == "write" and found.size > 1):
                return found.size // 2
            if mode in ("fault", "full") and (mode == "fault" or found.kind in GROWING):
                raise found.error()
            return None

        def after(disk: Disk, found: Operation) -> None:
            if found.number != operation.number:
                return
            if mode == "torn":
                die(disk)
            for _ in range({"stop": 1, "abort": 2}.get(mode, 0)):
                signal.raise_signal(signal.SIGINT)

        with Disk(work, before, after).watching():
            ended = tiny_search.start(self.inputs)
        return {"met": met[0] if met else None, "code": ended.code, "text": _last_line(ended.text)}

    def _go_on(self, work: Path) -> dict[str, Any]:
        """What a person does after a crash: resume or, where the run had not begun, start again."""
        journal = work / "runs" / tiny_search.NAME / "journal.jsonl"
        lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
        ended = tiny_search.resume() if lines else tiny_search.start(self.inputs)
        facts = _facts(work) if ended.code == 0 else {}
        return {
            "code": ended.code, "text": _last_line(ended.text), "facts": facts, "epochs": _epochs(), "lines": lines
        }  # fmt: skip

    def _in_fork(self, name: str, work: Callable[[Path], dict[str, Any]], keep: bool = False) -> dict[str, Any]:
        """What `work` returns in a forked process, whose working directory is `folder`/`name`."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        answer = self.folder / f"{name}.answer"
        answer.unlink(missing_ok=True)
        sys.stdout.flush()
        if not (pid := os.fork()):
            os.chdir(folder)
            os.environ[COUNTED] = str(self.folder / f"{name}.epochs")
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.alarm(LIMIT)
            _answer(answer, lambda: work(folder))
        _, status = os.waitpid(pid, 0)
        found = _read_answer(answer)
        if not found:
            found = {"error": f"the process ended with {os.waitstatus_to_exitcode(status)} and said nothing"}
        answer.unlink(missing_ok=True)
        if not keep:
            if "error" in found:
                raise RuntimeError(found["error"])
            shutil.rmtree(folder)
        return found


def _answer(path: Path, work: Callable[[], dict[str, Any]]) -> None:
    """Write what `work` returns, or how it failed, and end this process without any clean-up."""
    try:
        found = work()
    except BaseException as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    _end(found, path)


def _end(found: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(found), encoding="utf-8")
    os._exit(CRASHED)


def _read_answer(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    return found


def _same(met: dict[str, Any] | None, operation: Operation) -> bool:
    """Whether the operation that was met is the one that was looked for."""
    if met is None:
        return False
    what = (met["kind"], RANDOM.sub(r"\1*", met["path"]), met["where"])
    return what == (operation.kind, RANDOM.sub(r"\1*", operation.path), operation.where)


def _epochs() -> int:
    path = Path(os.environ[COUNTED])
    return path.stat().st_size if path.exists() else 0


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.startswith(("error:", "traceback:"))), lines[-1:] or "")[:300]


def _facts(work: Path) -> dict[str, Any]:
    """All of a finished run that a crash must not change: results, files, models."""
    from sepsearch.errors import UserError
    from sepsearch.model_folder import load_model

    folder = work / "runs" / tiny_search.NAME
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    del results["seconds"]  # how long it took
    models = {}
    for code in results["final"]:
        try:
            network, _ = load_model(folder / "models" / code)
            models[code] = digest({name: t.numpy().tobytes() for name, t in network.state_dict().items()})
        except UserError as error:
            models[code] = str(error)
    files = {path: content for path, content in read_files(work).items()}
    empty = sorted(path for path, content in files.items() if content == b"")
    return {"results": results, "models": models, "files": sorted(files), "empty": empty}


def difference(expected: Any, found: Any, where: str = "") -> str:
    """The first difference of two nested values, in words; empty for none."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in [*expected, *(key for key in found if key not in expected)]:
            if key not in found or key not in expected:
                return f"{where}/{key}: {'missing' if key not in found else 'not expected'}"
            if text := difference(expected[key], found[key], f"{where}/{key}"):
                return text
        return ""
    if isinstance(expected, list) and isinstance(found, list) and expected != found:
        plain = [item for item in (*expected, *found) if not isinstance(item, str)]
        if not plain:
            missing = [item for item in expected if item not in found]
            more = [item for item in found if item not in expected]
            return f"{where}: " + "; ".join(
                f"{what} {', '.join(items[:3])}" for what, items in (("missing", missing), ("too much", more)) if items
            )
        for number, (one, other) in enumerate(zip(expected, found, strict=False)):
            if text := difference(one, other, f"{where}[{number}]"):
                return text
        return f"{where}: {len(found)} items, expected {len(expected)}"
    return "" if expected == found else f"{where}: {found!r}, expected {expected!r}"[:300]
