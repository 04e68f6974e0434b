"""Lives of a driver for the kill benchmark: how one is started, watched and killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

SCRIPTS = Path(__file__).resolve().parent
LEAST, MOST = 0.5, 12.0  # seconds from a process's first epoch to its kill
FINAL_MOST = 5.0  # likewise while the finalists are trained, which is soon over
PATIENCE = 900.0  # seconds without an epoch after which a process is taken to hang


@dataclass
class Side:
    """One of the two searches: its name ("ours", "plain"), the folder it works in, and its lives so far."""

    name: str
    folder: Path
    environment: dict[str, str]
    lives: list[dict[str, Any]] = field(default_factory=list)

    @property
    def trace(self) -> Path:
        """One line for every epoch begun and every epoch ended."""
        return self.folder / "trace.jsonl"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON objects; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def append_line(path: str | Path, line: dict[str, Any]) -> None:
    """Append a JSON object; whole even where several processes write, and where they are killed."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, (json.dumps(line) + "\n").encode())
    finally:
        os.close(file)


def trace(what: str, unit: str, epoch: int) -> None:
    """Write down, from a worker, that an epoch begins or has ended."""
    life = int(os.environ["KILLS_LIFE"])
    line = {"life": life, "what": what, "unit": unit, "epoch": epoch, "time": time.time()}
    append_line(os.environ["KILLS_TRACE"], line)


def traced(results: Iterator[Any], unit: str, first: int, last: int) -> Iterator[Any]:
    """A unit's epochs `first` to `last` as they come, each traced and `KILLS_PAUSE` seconds longer than it needs."""
    for epoch in range(first, last + 1):
        trace("begin", unit, epoch)
        time.sleep(float(os.environ["KILLS_PAUSE"]))
        result = next(results)
        trace("end", unit, epoch)
        yield result


def lighten_ray() -> None:
    """Start Ray without dashboard, log monitor and autoscaler: fifty starts cost less, and no search needs them."""
    from ray._private import node

    def no_dashboard(started: Any, **options: Any) -> None:
        started._webui_url = ""

    kind: Any = node.Node
    kind.start_monitor = kind.start_log_monitor = lambda started: None
    kind.start_api_server = no_dashboard


def serve(run: Callable[[list[str]], None], modules: Sequence[str]) -> None:
    """Fork a driver for every line of standard input ({"arguments", "environment", "log"}) and print its process id.

    What `modules` import is imported once and not fifty times; nothing of Ray is started here.
    """
    for module in modules:
        import_module(module)
    lighten_ray()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries the dead
    print("ready", flush=True)
    for line in sys.stdin:
        if pid := os.fork():
            print(pid, flush=True)
        else:
            _drive(run, json.loads(line))


def _drive(run: Callable[[list[str]], None], order: dict[str, Any]) -> None:
    """A driver, in a process of its own; does not return. Its exit code goes to a file: nobody can wait for it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.environ.update(order["environment"])
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for target in (1, 2):
        os.dup2(log, target)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 1
    try:
        run(order["arguments"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        (Path(order["log"]).parent / f"code-{order['environment']['KILLS_LIFE']}").write_text(str(code))
        sys.stdout.flush()
        os._exit(code)


class Drivers:
    """Starts the drivers of one side, one after the other."""

    def __init__(self, side: Side):
        self.side = side
        self._server = subprocess.Popen(
            [sys.executable, str(SCRIPTS / f"kills_{side.name}.py"), "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=side.folder,
            env=side.environment,
        )
        assert self._server.stdout
        self._server.stdout.readline()

    def start(self, life: int, arguments: list[str]) -> int:
        """A new driver; its process id."""
        assert self._server.stdin
        assert self._server.stdout
        environment = {"KILLS_LIFE": str(life)}
        order = {"arguments": arguments, "environment": environment, "log": str(self.side.folder / "log.txt")}
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def close(self) -> None:
        """No more drivers."""
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait()


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def leftovers(folder: Path, before: int) -> list[int]:
    """Processes that Ray started for drivers of lives before this one, in this folder alone."""
    found = []
    mark = f"KILLS_TRACE={folder / 'trace.jsonl'}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes().split(b"\0")
        except OSError:
            continue
        life = next((int(e[11:]) for e in environment if e.startswith(b"KILLS_LIFE=")), None)
        if mark in environment and life is not None and life < before:
            found.append(int(path.parent.name))
    return found


def live(side: Side, drivers: Drivers, life: int, arguments: list[str], kill: tuple[str, float]) -> dict[str, Any]:
    """One process from its start to its kill or its end.

    Args:
        kill: "start" (at that share of the time such a process takes to its first epoch), "search" (after its first
            epoch), "final" (after its first epoch of a finalist) or "last" (never), and a number from 0 to 1.
    """
    kind, chance = kill
    starts = [entry["first"] for entry in side.lives if entry["first"]]
    entry: dict[str, Any] = {"life": life, "kind": kind, "begin": time.time(), "first": None, "killed": False}
    pid = entry["pid"] = drivers.start(life, arguments)
    due = entry["begin"] + (median(starts) if starts else 20.0) * chance if kind == "start" else None
    size, seen = 0, entry["begin"]
    while alive(pid):
        time.sleep(0.03)
        if side.trace.exists() and (grown := side.trace.stat().st_size) != size:
            size, seen = grown, time.time()
            ends = [t for t in read_lines(side.trace) if t["life"] == life and t["what"] == "end"]
            if ends and entry["first"] is None:
                entry |= {"first": ends[0]["time"] - entry["begin"], "left": len(leftovers(side.folder, life))}
            wanted = [t for t in ends if kind == "search" or (kind == "final" and t["unit"][0] == "c")]
            if wanted and due is None:
                due = wanted[0]["time"] + LEAST + ((FINAL_MOST if kind == "final" else MOST) - LEAST) * chance
        entry["hung"] = time.time() - seen > PATIENCE
        if entry["hung"] or (due is not None and time.time() > due):
            os.kill(pid, signal.SIGKILL)
            entry["killed"] = True
            while alive(pid):
                time.sleep(0.01)
    code = side.folder / f"code-{life}"
    # A process that ended by itself has left its exit code; one that died otherwise has not.
    return entry | {"code": int(code.read_text() or 1) if code.exists() else None, "end": time.time()}
