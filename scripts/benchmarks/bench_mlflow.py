"""Recording a search: MLflow's file on this machine against the team's server (PostgreSQL, users), 1 to 6 at once.

`python scripts/benchmarks/bench_mlflow.py` starts both and prints a table. Every writer is a process that records one
search as a running search does, a write an epoch; the stores take turns, and only ratios mean something on a shared
machine. It needs Debian's PostgreSQL and the packages of `cluster/mlflow`.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WRITERS = (1, 2, 6)
TRIALS, EPOCHS, CODES = 6, 8, ("vn", "va", "vc", "fl", "cl")
STORES = ("file", "server")


def events(run: str) -> list[dict[str, Any]]:
    """A search's journal: every epoch 32 metrics, as with five instruments."""
    found: list[dict[str, Any]] = [
        {
            "event": "search",
            "time": 1.0,
            "name": run,
            "run": run,
            "space": {},
            "settings": {"epochs": EPOCHS},
            "versions": {},
            "baselines": {},
            "caveats": {},
            "reference": "t0000",
            "dataset": {"source": "bench", "pieces": 4, "clips": 9, "rows": 27},
        }
    ]
    for trial in range(TRIALS):
        id = f"t{trial:04d}"
        found.append({"event": "trial", "time": 2.0, "id": id, "params": {"filters": 8, "head": "mask"}})
        for epoch in range(1, EPOCHS + 1):
            keys = ("ratio", "val_loss", "train_loss", "identity_loss", "gradient_norm", "zero_share")
            members = [{"instrument": code, **dict.fromkeys(keys, 1.0 / epoch)} for code in CODES]
            epoch_event = {"event": "epoch", "time": 2.0 + epoch, "id": id, "epoch": epoch, "ratio": 1.0 / epoch}
            found.append(epoch_event | {"examples_per_second": 9.0, "members": members})
        found.append(
            {"event": "trial_end", "time": 99.0, "id": id, "state": "completed", "reason": "", "epochs": EPOCHS}
        )
    return found


def write(uri: str, run: str, ready: Path, go: Path) -> None:
    """One writer: says that it is ready, waits, and prints the seconds of each write as JSON."""
    from sepsearch.tracking.mapping import Projection
    from sepsearch.tracking.tracker import connect, make_writer

    connect(uri).get_experiment_by_name("sepsearch")  # imports and schema are not what is measured

    def refused(text: str) -> None:
        raise RuntimeError(text)

    writer, projection = make_writer(uri, refused), Projection()
    ready.touch()
    while not go.exists():
        time.sleep(0.01)
    seconds = []
    for event in events(run):
        projection.apply(event)
        begin = time.perf_counter()
        attempts = 0
        while projection.work:
            try:
                writer.write(projection.search, projection.work)
            except RuntimeError:
                raise
            except Exception:  # as the tracker does it: what was not written is written the next time
                attempts += 1
                if attempts > 20:
                    raise
        seconds.append(time.perf_counter() - begin)
    print(json.dumps(seconds))


def side_by_side(folder: Path, uri: str, environment: dict[str, str], writers: int, label: str) -> list[float]:
    """The seconds of all writes of so many writers that begin together."""
    go = folder / f"{label}.go"
    processes = []
    for number in range(writers):
        ready = folder / f"{label}-{number}.ready"
        command = [sys.executable, __file__, "write", uri, f"{label}-{number}", str(ready), str(go)]
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True)
        processes.append((process, ready))
    for process, ready in processes:
        while not ready.exists():
            if process.poll() is not None:
                sys.exit(f"a writer of {label} ended before it began")
            time.sleep(0.05)
    go.touch()
    seconds: list[float] = []
    for process, _ in processes:
        output, _ = process.communicate(timeout=600)
        if process.returncode:
            sys.exit(f"a writer of {label} failed")
        seconds += json.loads(output)
    return seconds


def main(repeats: int = 3) -> None:
    """Start both stores, let them take turns, print the table."""
    sys.path.insert(0, str(ROOT / "tests" / "cluster"))
    from team import Postgres, TeamServer, quiet_environment

    folder = Path(tempfile.mkdtemp(prefix="bench-mlflow-"))
    postgres = Postgres()
    server = TeamServer(folder, postgres)
    try:
        postgres.start()
        server.start()
        if server.users("add", "alice").returncode:
            sys.exit("no user could be made")
        environments = {"file": quiet_environment(), "server": quiet_environment() | server.credentials("alice")}
        uris = {"file": f"sqlite:///{folder / 'mlflow.db'}", "server": server.uri}
        environments = {name: {**values, "OMP_NUM_THREADS": "1"} for name, values in environments.items()}
        side_by_side(folder, uris["file"], environments["file"], 1, "schema")
        print(f"load before: {os.getloadavg()[0]:.1f}; {repeats} repeats, {TRIALS} trials of {EPOCHS} epochs a writer")
        print("| writers at once | file: median, p95 ms a write | server: median, p95 ms a write | server / file |")
        print("|---|---|---|---|", flush=True)
        for writers in WRITERS:
            found: dict[str, list[float]] = {name: [] for name in STORES}
            for repeat in range(repeats):
                for name in STORES:
                    label = f"{name}-{writers}-{repeat}"
                    found[name] += side_by_side(folder, uris[name], environments[name], writers, label)
            print(row(writers, found), flush=True)
    finally:
        server.kill()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def row(writers: int, found: dict[str, list[float]]) -> str:
    """A line of the table."""
    middle = {name: 1e3 * statistics.median(values) for name, values in found.items()}
    cells = [f"{middle[name]:.0f}, {1e3 * statistics.quantiles(found[name], n=20)[-1]:.0f}" for name in STORES]
    return f"| {writers} | {cells[0]} | {cells[1]} | {middle['server'] / middle['file']:.2f} |"


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        write(sys.argv[2], sys.argv[3], Path(sys.argv[4]), Path(sys.argv[5]))
    else:
        main(*map(int, sys.argv[1:]))
