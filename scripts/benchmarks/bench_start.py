"""From the command to the first epoch: seconds, and CPU seconds of all processes by what they are for.

    python scripts/benchmarks/bench_start.py [--times 3] [--tree ANOTHER_CHECKOUT]

Every time, one after the other: *sepsearch* (`python -m sepsearch.run` on the demo ensemble, two instruments, up to the
first epoch in the journal; then it is interrupted) and *Optuna alone* (one process: the same data, one trial of the
same space at a time, up to its first epoch). The demo ensemble and its shards are made before. CPU seconds are those
of the whole tree of processes, those that have ended included; the last tenth of a second of each is missing.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
SPACE = ROOT / "search_spaces" / "laptop.yaml"
CODES = ("vn", "vc")
LOOK = 0.1
KINDS = ("driver", "workers before the search", "workers of the search", "Ray's own")

ALONE = """
import sys
from pathlib import Path
import optuna
from sepsearch.data.demo.rendering import demo_folder
from sepsearch.data.preparation import prepare
from sepsearch.data.prepared import gather_data
from sepsearch.models.families import make_config
from sepsearch.search.sampling.optuna_space import suggest
from sepsearch.spaces.space import load_space
from sepsearch.training.loop import fit
from sepsearch.training.members import Member
import torch

space, codes = load_space(Path(sys.argv[1])), tuple(sys.argv[2].split(","))
recordings, shards = prepare(demo_folder(), space.front_end.resolve(), lambda *step: None)
prepared = gather_data(recordings, shards, codes, 0, space.split.fractions, space.search.validation_examples)
data = prepared.training_data()
study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
config = make_config(space.complete(suggest(space, study.ask())))
torch.set_num_threads(1)
batches = max(1, round(space.search.examples_per_epoch / config.training.batch_size))
next(fit(config, data, [Member(code, 0) for code in codes], epochs=1, batches_per_epoch=batches))
print("epoch", flush=True)
input()
"""


class Watched:
    """A command and all processes below it, with their CPU seconds."""

    def __init__(self, command: list[str], folder: Path, tree: Path):
        environment = {**os.environ, "PYTHONPATH": str(tree), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        self.begin = time.time()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.seen: dict[int, tuple[str, float, float]] = {}  # pid → name, CPU seconds, seconds from the command on

    @property
    def seconds(self) -> float:
        """Since the command."""
        return time.time() - self.begin

    def look(self) -> None:
        """Take in the CPU seconds of all processes that are there."""
        try:
            root = psutil.Process(self.process.pid)
            processes = [root, *root.children(recursive=True)]
        except psutil.Error:
            return
        for process in processes:
            try:
                times, name = process.cpu_times(), process.cmdline()[:1] or [process.name()]
            except psutil.Error:
                continue
            before = self.seen.get(process.pid, ("", 0.0, self.seconds))
            self.seen[process.pid] = (before[0] + " " + name[0][:40], times.user + times.system, before[2])

    def cpu(self) -> dict[str, float]:
        """CPU seconds by kind; workers that are there still are those of the search."""
        found = dict.fromkeys(KINDS, 0.0)
        alive = {pid for pid in self.seen if psutil.pid_exists(pid)}
        for pid, (name, cpu, _) in self.seen.items():
            if pid == self.process.pid:
                kind = "driver"
            elif "ray::" in name and "Dashboard" not in name and "RuntimeEnv" not in name:
                kind = "workers of the search" if pid in alive else "workers before the search"
            else:
                kind = "Ray's own"
            found[kind] += cpu
        return found

    def end(self) -> None:
        """Interrupt it."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def sepsearch(tree: Path) -> dict[str, float]:
    """Seconds of the steps of `sepsearch.run` up to its first epoch, and CPU seconds."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        options = ["--space", str(SPACE), "--instruments", ",".join(CODES), "--trials", "6", "--name", "x"]
        watched = Watched([sys.executable, "-m", "sepsearch.run", *options], folder, tree)
        journal, found = folder / "runs" / "x" / "journal.jsonl", {}
        while "epoch" not in found:
            if watched.process.poll() is not None:
                raise SystemExit(f"sepsearch has ended: {watched.process.communicate()[0].decode()}")
            watched.look()
            for line in journal.read_text().splitlines(keepends=True) if journal.exists() else ():
                if line.endswith("\n"):
                    event = json.loads(line)
                    found.setdefault(event["event"], event["time"] - watched.begin)
            time.sleep(LOOK)
        cpu = watched.cpu()
        watched.end()
    times = {"until the journal begins": found["search"], "until the first epoch": found["epoch"]}
    return {**times, "CPU": sum(cpu.values()), **{f"CPU, {kind}": seconds for kind, seconds in cpu.items()}}


def alone(tree: Path) -> dict[str, float]:
    """Seconds of Optuna alone up to its first epoch, and CPU seconds."""
    with tempfile.TemporaryDirectory() as name:
        watched = Watched([sys.executable, "-c", ALONE, str(SPACE), ",".join(CODES)], Path(name), tree)
        assert watched.process.stdout
        line = watched.process.stdout.readline().decode()
        seconds = watched.seconds
        watched.look()
        cpu = sum(watched.cpu().values())
        watched.process.kill()
        watched.process.wait()
    if "epoch" not in line:
        raise SystemExit("Optuna alone did not reach its first epoch")
    return {"Optuna alone": seconds, "CPU, Optuna alone": cpu}


def main() -> None:
    """Print every time's numbers, and medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--tree", type=Path, default=ROOT, help="checkout whose sepsearch is measured")
    arguments = parser.parse_args()
    tree = arguments.tree.resolve()
    sys.path.insert(0, str(tree))
    from sepsearch.data.demo.rendering import demo_folder
    from sepsearch.data.preparation import prepare
    from sepsearch.spaces.space import load_space

    prepare(demo_folder(), load_space(SPACE).front_end.resolve(), lambda *step: None)
    rows = [{**sepsearch(tree), **alone(tree)} for _ in range(arguments.times)]
    for name in rows[0]:
        values = [row[name] for row in rows]
        print(f"{name:32} {statistics.median(values):6.1f} s   ({', '.join(f'{value:.1f}' for value in values)})")


if __name__ == "__main__":
    main()
