"""sepsearch beside its peers on one task, for the same time: how soon models are good, how many trials, what is lost.

    # Beside sepsearch; without --no-deps Syne Tune's xgboost would bring CUDA.
    pip install --no-deps syne-tune==0.16.0 dill==0.4.1 xgboost-cpu==3.2.0 huggingface_hub==0.36.0 fsspec
    python scripts/benchmarks/peers/peers.py --folder FOLDER  # 3 repeats of 300 s, 5 sides: 85 minutes
    python scripts/benchmarks/peers/peers.py --folder FOLDER --output docs/benchmarks.md  # what is there, as a section

A side's search runs in processes of its own for so many seconds after its command; then all of them are killed at once
with SIGKILL, and it is started again (sepsearch with --resume), until it has an epoch that is new. What is
measured is kept in FOLDER, and is not measured again.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import task
from figures import figures_of, read_journal, read_trace, section

from sepsearch.distributed.session import ENVIRONMENT

SCRIPTS = Path(__file__).resolve().parent
SIDES = ("sepsearch", "optuna", "ray_plain", "ray_expert", "syne_tune")
LOOK, MEMORY_LOOK = 0.1, 5.0  # seconds between two looks at a side, and at its memory
AGAIN = 120.0  # seconds after which a restarted side counts as one that does not go on
# What sepsearch sets for the memory of its workers, for all sides alike.
MEMORY = {name: value for name, value in ENVIRONMENT.items() if name.startswith(("MALLOC_", "ONEDNN_"))}


def commands(side: str, seed: int, life: int) -> list[list[str]]:
    """What is started, two processes for Optuna alone."""
    if side == "sepsearch":
        begin = ["--space", str(task.SPACE), "--instruments", ",".join(task.CODES), "--trials", "1000", "--name", "x"]
        options = ["--resume", "x"] if life else [*begin, "--seed", str(seed)]
        return [[sys.executable, "-m", "sepsearch.run", *options]]
    one = [sys.executable, str(SCRIPTS / "drivers.py"), side]
    return [one, one] if side == "optuna" else [one]


class Side:
    """A side at work: its processes, and what is seen of them."""

    def __init__(self, side: str, seed: int, life: int, folder: Path):
        self.side, self.folder, self.begin = side, folder, time.time()
        self._short = Path(tempfile.mkdtemp(prefix="peer", dir="/tmp"))  # Ray's sockets need a short path
        self.log = (folder / f"log-{life}.txt").open("wb")
        self.memory = [0]
        environment = {
            **os.environ,
            **MEMORY,
            "PYTHONPATH": os.pathsep.join([str(task.ROOT), str(SCRIPTS)]),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
            "SYNETUNE_FOLDER": str(folder / "syne-tune"),
            "RAY_TMPDIR": str(self._short),
            "RAY_USAGE_STATS_ENABLED": "0",
            task.TRACE: str(folder / "trace"),
            task.SEED: str(seed),
        }
        self.processes = [
            subprocess.Popen(
                command,
                cwd=folder,
                env={**environment, "PEERS_PROCESS": str(number)},
                stdout=self.log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            for number, command in enumerate(commands(side, seed, life))
        ]

    def tree(self) -> list[psutil.Process]:
        """All processes."""
        found = []
        for process in self.processes:
            try:
                root = psutil.Process(process.pid)
                found += [root, *root.children(recursive=True)]
            except psutil.Error:
                continue
        return found

    def look_at_memory(self) -> None:
        """Add up what all processes hold, shared memory divided among those that share it (PSS)."""
        total = 0
        for process in self.tree():
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        self.memory.append(total)

    def trained(self) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """Epochs and ends of trials so far."""
        if self.side == "sepsearch":
            return read_journal(self.folder / "runs" / "x" / "journal.jsonl")
        return read_trace(self.folder / "trace")

    def kill(self) -> float:
        """SIGKILL for all processes at once; returns when."""
        doomed, now = self.tree(), time.time()
        for process in doomed:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in self.processes:
            process.wait()
        psutil.wait_procs(doomed, timeout=30)
        self.log.close()
        shutil.rmtree(self._short, ignore_errors=True)
        return now

    def alive(self) -> bool:
        """Whether none of its commands has ended."""
        return all(process.poll() is None for process in self.processes)


def run(side: str, seed: int, seconds: float, folder: Path) -> dict[str, Any]:
    """One repeat of one side: its figures."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "trace").mkdir(parents=True)
    task.write_data(folder / task.DATA, seed)
    time.sleep(2)
    at_work, looked = Side(side, seed, 0, folder), 0.0
    while time.time() < at_work.begin + seconds:
        if not at_work.alive():
            at_work.kill()
            raise SystemExit(f"{side} has ended by itself: see {folder / 'log-0.txt'}")
        if time.time() > looked + MEMORY_LOOK:
            at_work.look_at_memory()
            looked = time.time()
        time.sleep(LOOK)
    killed = at_work.kill()
    before = at_work.trained()[0]
    if not before:
        raise SystemExit(f"{side} has not trained one epoch: see {folder / 'log-0.txt'}")
    again = Side(side, seed, 1, folder)
    new: list[dict[str, Any]] = []
    done = {(epoch["trial"], epoch["epoch"]) for epoch in before}
    while not new and time.time() < again.begin + AGAIN and again.alive():
        time.sleep(LOOK)
        new = [e for e in again.trained()[0] if e["end"] > again.begin and (e["trial"], e["epoch"]) not in done]
    time.sleep(10 if new else 0)  # what both workers go on with shows which trials are continued
    again.kill()
    facts = figures_of(*again.trained(), at_work.begin, killed, again.begin)
    facts["memory"] = max(at_work.memory) / 1e6
    for name in ("trace", "syne-tune", "plain", "expert", "runs", task.DATA):
        path = folder / name
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return facts


def main() -> None:
    """Measure what is not there yet, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where to work, and where what is measured is kept")
    parser.add_argument("--times", type=int, default=3, help="repeats, each with a seed of its own")
    parser.add_argument("--seconds", type=float, default=300.0, help="of a search")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--output", type=Path, help="page of which the table becomes a section")
    options = parser.parse_args()
    kept = options.folder.absolute() / "figures.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    for seed in range(1, options.times + 1):
        for side in options.sides:
            key = f"{side}/{seed}"
            if key not in found:
                found[key] = run(side, seed, options.seconds, kept.parent / side)
                kept.write_text(json.dumps(found, indent=1))
                print(key, json.dumps({name: round(value, 3) for name, value in found[key].items()}), flush=True)
    text = section({side: [found[f"{side}/{n + 1}"] for n in range(options.times)] for side in options.sides})
    print(text)
    if options.output:
        sys.path.insert(0, str(SCRIPTS.parent))
        from bench_table import replace_section

        replace_section(options.output, "peers", text)


if __name__ == "__main__":
    main()
