"""Kill a search at every operation that changes the disk, resume it, and compare it with one that was never killed.

A process that has all libraries in memory is forked for every search: the first child runs into the crash and ends
there without any clean-up, the second goes on. `crash_modes.MODES` lists the kinds of crash.
"""

import contextlib
import importlib
import os
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tiny_search
from crash_modes import DEATHS, Crash, can_crash, last_line, same, whole_lines
from crash_tasks import SEARCH, Task, difference
from disk_operations import Disk
from durable_files import KEPT, UNDONE, digest, read_files
from forks import Answer, end, in_fork, in_forks
from operation import Operation
from remembered_results import COUNTED, FOLDER, load_results

Point = tuple[str, Operation]  # a mode and where


@dataclass(frozen=True)
class Outcome:
    """What became of one crash point.

    Args:
        mode: of `MODES`.
        operation: where, as the search that was never killed had it.
        problem: what is not as it should be; "" where the search survived.
        again: epochs that were trained once more.
        tried: False where an earlier point leaves the same files, byte for byte: this is its outcome.
    """

    mode: str
    operation: Operation
    problem: str = ""
    again: int = 0
    tried: bool = True

    def __str__(self) -> str:
        return f"{self.mode:6} {self.operation}: {self.problem or 'survived'}"


class Explorer:
    """The crash points of a task.

    Attributes:
        operations: of the task where nothing crashes, in order.

    Args:
        folder: a folder to work in.
        task: what is killed.
        jobs: points that are tried at once.
    """

    def __init__(self, folder: Path, task: Task = SEARCH, jobs: int = 1):
        self.folder, self.task, self.jobs = Path(os.path.realpath(folder)), task, jobs
        self.inputs = self.folder / "inputs"
        if not self.inputs.exists():
            tiny_search.write_inputs(self.inputs)
            (self.inputs / "results").mkdir()
        os.environ.update({FOLDER: str(self.inputs / "results"), "SEPSEARCH_CACHE": str(self.inputs / "cache")})
        tiny_search.warm_up()
        # The first one trains and imports; what it has imported, forks of this process need not.
        first = self._whole("first", lambda: {"modules": self._run()})
        for name in first["modules"]:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        load_results()
        whole = self._whole("whole", self._record)
        if whole["missed"]:
            raise RuntimeError(f"written past the operations that are watched: {', '.join(whole['missed'])}")
        self.operations = [Operation(**operation) for operation in whole["operations"]]
        self._states: dict[str, list[str]] = whole["states"]
        self._lines: list[int] = whole["lines"]
        self._facts, self._epochs = whole["facts"], whole["epochs"]

    def _run(self) -> list[str]:
        """Run the task without a crash; the modules that it has imported."""
        before = set(sys.modules)
        ended = self.task.start(self.inputs)
        if ended.code != 0:
            raise RuntimeError(f"the {self.task.name} fails without any crash: {ended.text}")
        return [name for name in sys.modules if name not in before]

    def _record(self) -> Answer:
        """Run the task without a crash, and note before every operation what a crash there would leave."""
        operations, lines, fsynced = [], [], 0
        states: dict[str, list[str]] = {"death": [], UNDONE: [], KEPT: []}

        def before(disk: Disk, operation: Operation) -> None:
            operations.append(asdict(operation))
            lines.append(fsynced)
            states["death"].append(digest(read_files(disk.root)))
            for names in (UNDONE, KEPT):
                states[names].append(digest(disk.tree.after_power_cut(names)))

        def after(disk: Disk, operation: Operation) -> None:
            nonlocal fsynced
            if operation.kind == "fsync" and operation.path == self.task.record:
                fsynced = whole_lines(disk.root / operation.path)

        disk = Disk(Path(), before, after)
        with disk.watching():
            self._run()
        facts, missed = self.task.facts(), disk.missed()
        return {
            "operations": operations,
            "lines": lines,
            "states": states,
            "facts": facts,
            "missed": missed,
            "epochs": _trained(),
        }

    def points(self, mode: str) -> list[Point]:
        """All points of a mode."""
        return [(mode, operation) for operation in self.operations if can_crash(mode, operation)]

    def sample(self, mode: str, count: int, seed: int) -> list[Point]:
        """Some of them, the same for the same seed."""
        points = self.points(mode)
        return sorted(
            random.Random(f"{seed}/{mode}").sample(points, min(count, len(points))), key=lambda p: p[1].number
        )

    def sites(self, mode: str) -> list[Point]:
        """One point for every line of code and kind of operation: the last one of each."""
        found = {(operation.kind, operation.where): (mode, operation) for _, operation in self.points(mode)}
        return sorted(found.values(), key=lambda point: point[1].number)

    def explore(self, points: Sequence[Point], tell: Callable[[Outcome], Any] = lambda outcome: None) -> list[Outcome]:
        """Try points; of those whose crashes leave the same files, byte for byte, the first one."""
        first: dict[str, int] = {}
        source = []  # for every point, the number of the one that is tried
        for number, (mode, operation) in enumerate(points):
            states = self._states.get(mode)
            source.append(first.setdefault(states[operation.number - 1], number) if states else number)
        chosen = sorted(set(source))
        works = [
            (lambda mode=mode, operation=operation: self._try(mode, operation), self.folder / f"{number}.outcome")
            for number in chosen
            for mode, operation in [points[number]]
        ]
        found: dict[int, Answer] = {}
        for number, answer in in_forks(works, self.jobs):
            found[chosen[number]] = answer
            tell(_outcome(points[chosen[number]], answer, True))
        return [_outcome(point, found[source[n]], source[n] == n) for n, point in enumerate(points)]

    def _try(self, mode: str, operation: Operation) -> Answer:
        """Crash at a point, go on, compare: {"problem", "again"}."""
        name = f"{mode}-{operation.number}"
        try:
            crashed = self._in_work(name, lambda: self._crash(name, mode, operation.number, self.task.start))
            if problem := _crash_problem(crashed, mode, operation):
                return {"problem": problem, "again": 0}
            if mode == "twice":
                later = random.Random(operation.number).randint(1, len(self.operations) + 1 - operation.number)
                self._in_work(name, lambda: self._crash(name, "death", later, self.task.go_on))
            found = self._in_work(name, self._go_on)
            problem = self._problem(found, self._lines[operation.number - 1])
            return {"problem": problem, "again": found.get("epochs", self._epochs) - self._epochs}
        finally:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / f"{name}.epochs").unlink(missing_ok=True)

    def _crash(self, name: str, mode: str, number: int, command: Callable[[Path], tiny_search.Ended]) -> Answer:
        """Run a command into a crash; a death does not return."""

        def die(met: Operation) -> None:
            end({"met": asdict(met)}, self._answer(name))

        crash = Crash("death" if mode == "twice" else mode, number, die)
        with Disk(Path(), crash.before, crash.after).watching():
            ended = command(self.inputs)
        met = asdict(crash.met) if crash.met else None
        return {"met": met, "code": ended.code, "text": last_line(ended.text)}

    def _go_on(self) -> Answer:
        """What a person does after a crash, and what comes of it."""
        lines = whole_lines(Path(self.task.record)) if self.task.record else 0
        ended = self.task.go_on(self.inputs)
        facts = self.task.facts() if ended.code == 0 else {}
        return {"code": ended.code, "text": last_line(ended.text), "facts": facts, "lines": lines, "epochs": _trained()}

    def _problem(self, found: Answer, lines: int) -> str:
        """What is wrong with what went on; `lines` of the record were fsynced before the crash."""
        if "error" in found:
            return f"going on: {found['error']}"
        if found["code"] != 0:
            return f"going on ends with {found['code']}: {found['text']}"
        if found["lines"] < lines:
            return f"{self.task.record} has lost {lines - found['lines']} of {lines} lines"
        return difference(self._facts, found["facts"])

    def _whole(self, name: str, work: Callable[[], Answer]) -> Answer:
        found = self._in_work(name, work)
        shutil.rmtree(self.folder / name)
        (self.folder / f"{name}.epochs").unlink(missing_ok=True)
        if "error" in found:
            raise RuntimeError(found["error"])
        return found

    def _in_work(self, name: str, work: Callable[[], Answer]) -> Answer:
        """`work` in a fork, with a working directory of its own."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)

        def there() -> Answer:
            os.chdir(folder)
            os.environ[COUNTED] = str(self.folder / f"{name}.epochs")
            if not any(folder.iterdir()):
                self.task.before(self.inputs)
            return work()

        return in_fork(there, self._answer(name))

    def _answer(self, name: str) -> Path:
        return self.folder / f"{name}.answer"


def _outcome(point: Point, answer: Answer, tried: bool) -> Outcome:
    return Outcome(*point, str(answer.get("error") or answer["problem"]), answer.get("again", 0), tried)


def _crash_problem(crashed: Answer, mode: str, operation: Operation) -> str:
    """What is wrong with the process that met its crash."""
    if "error" in crashed:
        return str(crashed["error"])
    if not crashed["met"] or not same(Operation(**crashed["met"]), operation):
        return f"it took another way: {crashed['met']}; ended with {crashed.get('code')}: {crashed.get('text')}"
    if mode not in (*DEATHS, "twice") and crashed["code"] is None:
        return str(crashed["text"])
    return ""


def _trained() -> int:
    """Epochs that the task's processes have trained so far."""
    path = Path(os.environ[COUNTED])
    return path.stat().st_size if path.exists() else 0
