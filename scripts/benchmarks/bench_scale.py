"""What a result costs the driver, and what a trial leaves in its memory, as a search goes on to 10,000 trials.

python scripts/benchmarks/bench_scale.py simulated  # 10,000 trials, 1,000 at once, workers in virtual time
python scripts/benchmarks/bench_scale.py real --trials 1000 --at-once 2  # the same with Ray's own workers
python scripts/benchmarks/bench_scale.py resume  # reading back a journal of 10,000 trials
"""

import argparse
import functools
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from scale_workers import Params, SimulatedActors, reports, simulated

EPOCHS, GRACE, FACTOR = 9, 1, 3
SPACE = Path(__file__).resolve().parents[2] / "search_spaces" / "detector.yaml"
CODES = ("vn", "vc")
PARTS = ("sampler", "journal", "state", "screen", "tracking", "plan", "Ray Tune and stage")


class Stopwatch:
    """Seconds of this thread's processor by part; what a part calls of another part counts there alone."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._stack: list[str] = []
        self._since = time.thread_time()

    def _switch(self) -> None:
        now = time.thread_time()
        self.spent[self._stack[-1] if self._stack else PARTS[-1]] += now - self._since
        self._since = now

    def wrap(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, on the clock."""

        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            self._switch()
            self._stack.append(part)
            try:
                return function(*arguments, **options)
            finally:
                self._switch()
                self._stack.pop()

        return timed

    def read(self) -> Counter[str]:
        """All so far."""
        self._switch()
        return Counter(self.spent)


class Client:
    """An MLflow that takes everything and keeps nothing."""

    def __init__(self) -> None:
        self.made = 0

    def get_experiment_by_name(self, name: str) -> Any:
        """There is one."""
        return SimpleNamespace(experiment_id="0")

    def search_runs(self, *arguments: Any, **options: Any) -> Any:
        """No run is there."""
        page = type("Page", (list,), {"token": None})
        return page()

    def create_run(self, *arguments: Any, **options: Any) -> Any:
        """A new one."""
        self.made += 1
        return SimpleNamespace(info=SimpleNamespace(run_id=f"{self.made:032x}"))

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **options: None


def memory() -> float:
    """Resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Marks:
    """A row of numbers for every tenth of the trials that have ended."""

    def __init__(self, watch: Stopwatch, trials: int, results: Callable[[], int], stop: Any):
        self.watch, self.tenth, self.results, self.stop = watch, trials // 10, results, stop
        self.rows: list[dict[str, Any]] = []
        self.ended = 0
        self._last: tuple[Counter[str], float, int, float] | None = None

    def begin(self) -> None:
        """Look at all clocks."""
        self._last = (self.watch.read(), time.perf_counter(), self.results(), SimulatedActors.seconds)

    def handle(self, event: Params) -> None:
        """A journal listener."""
        if self._last is None and event["event"] == "epoch":
            self.begin()  # as many trials as run at once were asked for by now
        if event["event"] != "trial_end" or self._last is None or len(self.rows) == 10:
            return
        self.ended += 1
        if self.ended % self.tenth:
            return
        spent, wall, results, workers = self._last
        self.begin()
        count = max(1, self._last[2] - results)
        parts = {part: (self._last[0][part] - spent[part]) / count * 1e3 for part in PARTS}
        parts[PARTS[-1]] -= (self._last[3] - workers) / count * 1e3
        self.rows.append(
            {
                "ended": self.ended,
                "results": count,
                "wall": (self._last[1] - wall) / count * 1e3,
                "cpu": sum(parts.values()),
                **parts,
                "memory": memory(),
            }
        )
        if len(self.rows) == 10:
            self.stop.reason = "measured"
        print(f"{self.ended} trials: {self.rows[-1]['cpu']:.2f} ms a result, {memory():.0f} MB", file=sys.stderr)


def build(folder: Path, trials: int, watch: Stopwatch, resume: bool = False) -> tuple[Any, Any]:
    """Plan and journal of a real search."""
    from sepsearch.search.journal import Journal
    from sepsearch.search.sampling.sampler import Sampler
    from sepsearch.search.scheduler import SearchPlan
    from sepsearch.search.stopping.asha import Rungs
    from sepsearch.spaces.space import load_space

    sampler = Sampler(load_space(SPACE), folder / "study.log", "scale", 0)
    journal = Journal(folder / "journal.jsonl", resume)
    plan = SearchPlan(sampler, Rungs(GRACE, FACTOR, EPOCHS), journal, trials, EPOCHS, 0)
    watched: list[tuple[str, Any, tuple[str, ...]]] = [
        ("sampler", sampler, ("ask", "report", "tell")),
        ("journal", journal, ("append",)),
        ("plan", plan, ("next", "result", "ended", "finished")),
    ]
    for part, thing, names in watched:
        for name in names:
            setattr(thing, name, watch.wrap(part, getattr(thing, name)))
    return plan, journal


def begin_journal(journal: Any, trials: int) -> None:
    """The first event, as `sepsearch.data.prepared` writes it."""
    from sepsearch.spaces.space import load_space

    dataset = {"source": "none", "pieces": 0, "clips": 0, "rows": 0, "split": {}, "fingerprint": ""}
    settings = {"epochs": EPOCHS, "trials": trials, "seed": 0, "instruments": CODES}
    space = load_space(SPACE).model_dump(mode="json")
    identity = {"validation": {"identity": dict.fromkeys(CODES, 1.0)}}
    begin = {"event": "search", "name": "scale", "run": "scale", "reference": "t0000", "seconds": 0.0}
    more = {"versions": {}, "caveats": {}, "dataset": dataset, "baselines": identity}
    journal.append({**begin, **more, "space": space, "settings": settings})


def search(folder: Path, trials: int, at_once: int, real: bool, store: str) -> list[dict[str, Any]]:
    """Run a search; a row per tenth."""
    from rich.console import Console

    from sepsearch.distributed.tune_runner import run_stage
    from sepsearch.monitoring.console import Screen
    from sepsearch.runs.state import RunState
    from sepsearch.search.protocol import StopSignal, Workers
    from sepsearch.tracking.tracker import Tracker

    watch, stop = Stopwatch(), StopSignal()
    # More than are measured: otherwise none is asked for while the last ones run.
    plan, journal = build(folder, trials + at_once, watch)
    tracker = Tracker("stub", connect=lambda uri: Client()) if store == "stub" else Tracker(f"sqlite:///{folder}/db")
    counted = Counter[str]()
    journal.listen(lambda event: counted.update([event["event"]]))
    marks = Marks(watch, trials, lambda: counted["epoch"] if real else SimulatedActors.handled, stop)
    with (folder / "screen.txt").open("w") as file:
        run = RunState()
        screen = Screen(Console(file=file), run)
        journal.listen(watch.wrap("state", run.handle))
        journal.listen(watch.wrap("tracking", tracker.handle))
        journal.listen(watch.wrap("screen", screen.handle))
        journal.listen(marks.handle)
        begin_journal(journal, trials)
        screen.begin("search")
        workers = Workers(at_once, 1.0, 0.0)
        if real:
            run_stage("search", plan, train, workers, folder / "ray", stop)
        else:
            with simulated(lambda config: reports(config, EPOCHS, CODES)):
                run_stage("search", plan, lambda config: None, workers, folder / "ray", stop)
    plan.sampler.close("over")
    begin = time.perf_counter()
    arrived = tracker.close(600)
    print(f"tracker: {'all' if arrived else 'not all'} arrived, {time.perf_counter() - begin:.1f} s later")
    return marks.rows


def train(config: Params) -> None:
    """A trial of a real worker that only reports."""
    from ray import tune

    for report in reports(config, EPOCHS, CODES):
        tune.report(report)


def restore(folder: Path, trials: int) -> None:
    """What `--resume` does before anything is trained, on the clock."""
    from sepsearch.runs.state import reduce_events
    from sepsearch.search.journal import read_run

    begin = time.perf_counter()
    events = list(read_run(folder / "journal.jsonl"))
    read = time.perf_counter()
    reduce_events(events).unfinished()
    looked = time.perf_counter()
    plan, journal = build(folder, trials, Stopwatch(), resume=True)
    opened = time.perf_counter()
    plan.restore(events)
    print(
        f"{len(events)} events: read {read - begin:.1f} s, state {looked - read:.1f} s, journal opened"
        f" {opened - looked:.1f} s, plan and study {time.perf_counter() - opened:.1f} s, {memory():.0f} MB"
    )
    journal.close()


def show(rows: list[dict[str, Any]]) -> None:
    """The table, and the two figures that count."""
    heading = ("trials", "results", "wall", "CPU", *PARTS, "memory, MB")
    print("| " + " | ".join(heading) + " |\n" + "| --- " * len(heading) + "|")
    for row in rows:
        cells = [str(row["ended"]), str(row["results"])]
        cells += [f"{row[key]:.2f}" for key in ("wall", "cpu", *PARTS)] + [f"{row['memory']:.0f}"]
        print("| " + " | ".join(cells) + " |")
    for key in ("wall", "cpu"):
        print(f"{key}: a result in the last tenth costs {rows[-1][key] / rows[0][key]:.2f}x that of the first")
    growth = (rows[-1]["memory"] - rows[0]["memory"]) / (rows[-1]["ended"] - rows[0]["ended"])
    print(f"memory: {growth * 1e3:.1f} kB a trial")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench_scale.py", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("part", choices=("simulated", "real", "resume"))
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=1000)
    parser.add_argument("--store", choices=("stub", "sqlite"), default="stub", help="MLflow's (default: stub)")
    parser.add_argument("--folder", type=Path, help="kept; a temporary one by default")
    parser.add_argument("-o", "--output", type=Path, help="the rows, JSON")
    options = parser.parse_args()
    from sepsearch.distributed.session import ray_session

    with tempfile.TemporaryDirectory(prefix="scale-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.part == "resume":
            restore(folder, options.trials)
            return
        real = options.part == "real"
        with ray_session(cpus=options.at_once if real else 1, dashboard=False):
            rows = search(folder, options.trials, options.at_once, real, options.store)
    show(rows)
    if options.output:
        options.output.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
