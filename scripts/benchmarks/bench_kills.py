"""What a search loses when its driver is killed: sepsearch beside plain Ray Tune, with the same seeded kills.

python scripts/benchmarks/bench_kills.py  # 50 kills, 30 trials: an hour or more; the table
python scripts/benchmarks/bench_kills.py --kills 5 --trials 6  # a taste of it
python scripts/benchmarks/bench_kills.py --output docs/benchmarks.md  # the table as the section "kills" of that page
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

from bench_table import Part, Settings, machine, write_section
from kills_life import LEAST, MOST, Drivers, Side, leftovers, live, read_lines

SCRIPTS = Path(__file__).resolve().parent
KILLS, TRIALS, SEED, WORKERS = 50, 30, 2, 2
PAUSE = 6.0  # seconds that every epoch is made longer, so that all kills fall within the search
SAME_KILLS, SAME_TRIALS, SAME_PAUSE = 10, 10, 2.0  # one trial at a time, beside a search that is never killed
STARTING = 0.3  # share of the kills that hit a process on its way to its first epoch
FINAL_KILLS = 3  # beyond the others, ours alone: while the finalists are trained
PIECES = ("01_Jupiter_vn_vc", "02_Sonata_vn_vn", "03_Dance_fl_cl", "12_Spring_vn_vn_vc", "19_Pavane_cl_vn_vc")
SPACE = """\
family: report
parameters:
  filters: [4, 8]
  head: [mask]
  activation: [elu, gelu, silu]
  preparer_kernel_1: [3, 5]
  learning_rate: {low: 1e-4, high: 1e-2, log: true}
front_end: {preset: mel}
search:
  trials: TRIALS
  epochs: 18
  examples_per_epoch: 32
  validation_examples: 16
  sampler: tpe
  startup_trials: 8
  grace_epochs: 2
  reduction_factor: 3
final: {configurations: 1, seeds: 2, epochs: 3}
"""
HOW = """\
The driver of a search of {trials} trials ({workers} at once, 18 epochs at most, rungs at 2 and 6, reduction factor 3)
is killed with SIGKILL {kills} times and started again each time, until it comes to its end. The moments are the same
seeded sequence for both: {starting} of them on the way to a process's first epoch, the others {least} to
{most} s after it. Data (five miniature pieces), networks, training, space, seeds and the checkpoint after every epoch
are the same; an epoch lasts {pause:g} s longer than it needs, so that all kills fall within the search. What is counted
comes from a trace that the workers write themselves, line by line, of every epoch begun and ended.

- *sepsearch*: `python -m sepsearch.run`, then `--resume`.
- *plain Ray Tune*: `Tuner(…, num_samples={trials}, max_concurrent_trials={workers})` with `OptunaSearch` (seeded TPE),
  `ASHAScheduler` (its time is the epoch) and `MLflowLoggerCallback` (sqlite), and then
  `Tuner.restore(…, resume_unfinished=True, resume_errored=True)` wherever `Tuner.can_restore` allows it.

*Epochs lost* were begun before a kill and had to be begun again after it, or belong to a trial that no log has after
it; they are counted at the kill that lost them. *Killed by forgotten rungs*: stopped, though one scheduler of the same
kind that had received all epochs since the beginning would have let the trial go on. A *late value* stands in a rung
though it was reached after more epochs than the rung's. *Zombie trials* are RUNNING in the Optuna study after the end.
Doubled runs and points: more than one MLflow run of a trial, or value of an epoch of it.
"""
ROWS = {
    "kills within the search": "kills",
    "trials in the end": "trials",
    "trials trained and then forgotten": "lost trials",
    "trials in the end twice": "doubled trials",
    "epochs that were needed": "epochs needed",
    "epochs completed more than once": "completed twice",
    "epochs begun more than once": "begun twice",
    "epochs lost, all kills": "lost",
    "epochs lost, most at one kill": "most at a kill",
    "epochs lost, most of one running trial at one kill": "most of a trial",
    "trials killed by forgotten rungs": "killed by forgotten rungs",
    "late values in early rungs": "late values in rungs",
    "zombie trials": "zombie trials",
    "trials in the Optuna study": "study trials",
    "doubled MLflow runs": "doubled runs",
    "MLflow runs that never end": "unended runs",
    "doubled points in MLflow": "doubled points",
    "restarts that failed or hung": "failed restarts",
    "wall time, min": "minutes",
}


def planned_kills(kills: int, seed: int) -> list[tuple[str, float]]:
    """How each process is killed; see `live`."""
    order = random.Random(seed)
    kinds = ["start" if order.random() < STARTING else "search" for _ in range(kills)]
    return [(kind, order.random()) for kind in kinds]


def run_side(side: Side, kills: int, trials: int, seed: int, workers: int, finals: int = 0) -> None:
    """All lives of one side, until the search has come to its end by itself; they are kept in `lives.jsonl`."""
    program = import_module(f"kills_{side.name}")
    orders = [*planned_kills(kills, seed), *[("final", random.Random(seed + n).random()) for n in range(finals)]]
    drivers, failures = Drivers(side), 0
    while not side.lives or side.lives[-1]["killed"] or side.lives[-1]["code"]:
        if failures > 4:
            raise RuntimeError(f"{side.name}: five drivers in a row failed: see {side.folder / 'log.txt'}")
        life, killed = len(side.lives), sum(entry["killed"] for entry in side.lives)
        kill = orders[killed] if killed < len(orders) else ("last", 0.0)
        if kill[0] in ("start", "search") and program.searched(side.folder):
            kill = ("last", 0.0)
        entry = live(side, drivers, life, program.arguments(side.folder, trials, seed, workers, failures), kill)
        entry["searched"] = program.searched(side.folder)
        failures = failures + 1 if entry.get("hung") or (not entry["killed"] and entry["code"]) else 0
        side.lives.append(entry)
        with (side.folder / "lives.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")
        print(f"{side.name}: {entry}", file=sys.stderr, flush=True)
    drivers.close()
    time.sleep(5)
    for pid in leftovers(side.folder, 10**6):
        os.kill(pid, signal.SIGKILL)
    for entry in side.lives:
        for path in Path(tempfile.gettempdir(), "ray").glob(f"session_*_{entry['pid']}"):
            shutil.rmtree(path, ignore_errors=True)


def make_side(name: str, folder: Path, trials: int, pause: float) -> Side:
    """One side in a folder of its own, beside the recordings and the search space that both share.

    What an earlier run of this program has finished there is taken as it is.
    """
    if not (folder / "space.yaml").exists():
        sys.path.insert(0, str(SCRIPTS.parents[1] / "tests" / "support"))
        from recording_fixtures import write_urmp_tree

        write_urmp_tree(folder / "recordings", [(piece, 2.0) for piece in PIECES])
        (folder / "space.yaml").write_text(SPACE.replace("TRIALS", str(trials)))
    own = folder / name
    own.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "SEPSEARCH_CACHE": str(folder / "cache"),
        "KILLS_TRACE": str(own / "trace.jsonl"),
        "KILLS_PAUSE": str(pause),
        "MLFLOW_TRACKING_URI": f"sqlite:///{own / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # a worker of Ray's is nice; where others are at work it would hardly ever begin
    }
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(SCRIPTS.parents[1]), str(SCRIPTS), os.environ.get("PYTHONPATH")])
    )
    return Side(name, own, environment, read_lines(own / "lives.jsonl"))


def epoch_facts(side: Side, units: list[str]) -> dict[str, Any]:
    """What the trace tells of epochs; `units` are those that are known in the end."""
    begins: dict[tuple[str, int], list[int]] = {}
    lines = [line for line in read_lines(side.trace) if not re.match(r"c\d+-s", line["unit"])]  # finalists
    for line in lines:
        if line["what"] == "begin":
            begins.setdefault((line["unit"], line["epoch"]), []).append(line["life"])
    ends = Counter((line["unit"], line["epoch"]) for line in lines if line["what"] == "end")
    lost = Counter[tuple[str, int]]()
    for (unit, _), lives in begins.items():
        for life in lives[:-1] if unit in units else lives:
            lost[unit, life] += 1
    by_kill = Counter[int]()
    for (_, life), count in lost.items():
        by_kill[life] += count
    return {
        "epochs needed": sum(unit in units for unit, _ in ends),
        "completed twice": sum(ends.values()) - len(ends),
        "begun twice": sum(map(len, begins.values())) - len(begins),
        "lost": sum(lost.values()),
        "most at a kill": max(by_kill.values(), default=0),
        "most of a trial": max(lost.values(), default=0),
    }


def life_facts(side: Side) -> dict[str, Any]:
    """What the harness saw of a side's processes."""
    lives = side.lives
    return {
        "kills": sum(entry["killed"] and not entry.get("hung") and not entry["searched"] for entry in lives),
        "kills at a start": sum(entry["killed"] and entry["first"] is None for entry in lives),
        "kills of finalists": sum(entry["killed"] and entry["searched"] for entry in lives),
        "failed restarts": sum(entry.get("hung") or (not entry["killed"] and bool(entry["code"])) for entry in lives),
        "left behind": sum(entry.get("left", 0) for entry in lives),
        "minutes": round((lives[-1]["end"] - lives[0]["begin"]) / 60),
    }


def facts_of(side: Side, trials: int) -> dict[str, Any]:
    """All that is counted of one side."""
    facts: dict[str, Any] = import_module(f"kills_{side.name}").measure(side.folder, trials)
    return facts | epoch_facts(side, facts["units"]) | life_facts(side)


def compare_same(folder: Path, most_kills: int, most_trials: int, seed: int) -> str:
    """One trial at a time: a search that is killed again and again beside one that never is; what differs."""
    found, trials = [], min(SAME_TRIALS, most_trials)
    for name, kills, pause in (("whole", 0, 0.0), ("killed", min(SAME_KILLS, most_kills), SAME_PAUSE)):
        side = make_side("ours", folder / name, trials, pause)
        run_side(side, kills, trials, seed, workers=1)
        found.append(json.loads((side.folder / "runs" / "ours" / "results.json").read_text()))
    keys = ("id", "params", "state", "reason", "epochs", "ratio", "ratios")
    rows = [[{key: trial[key] for key in keys} for trial in results["trials"]] for results in found]
    apart = ("model_uri", "examples_per_second")
    scores = [{code: {k: v for k, v in s.items() if k not in apart} for code, s in r["final"].items()} for r in found]
    count = sum(a == b for a, b in zip(*rows, strict=True))
    same = "the same" if scores[0] == scores[1] else "not the same"
    return (
        f"sepsearch, one trial at a time, {life_facts(side)['kills']} kills: of {len(rows[0])} trials {count} have"
        " configuration, state, epochs and ratios to the last digit of a search that was never killed;"
        f" the final models' scores are {same}"
    )


def table(ours: dict[str, Any], plain: dict[str, Any]) -> str:
    """The Markdown table, side by side."""
    rows = [f"| {title} | {ours[key]} | {plain[key]} |" for title, key in ROWS.items()]
    return "\n".join(["| | sepsearch | plain Ray Tune |", "| --- | ---: | ---: |", *rows])


def notes_of(ours: dict[str, Any], plain: dict[str, Any]) -> list[str]:
    """What does not fit in a column."""
    states = ", ".join(f"{count} {state}" for state, count in sorted(ours["states"].items()))
    return [
        f"sepsearch: {states}; {ours['kills of finalists']} more kills while the finalists were trained;"
        f" {ours['disagreements']} disagreements between journal, study, MLflow and `results.json`;"
        f" {ours['epochs doubled in the journal']} epochs in the journal twice; its study does not get the reference"
        " network, which lies outside this space",
        f"plain Ray Tune: the search was begun {plain['begun anew']} times, {plain['errors']} trials ended in an error,"
        f" {plain['passed forgotten rungs']} trials passed a rung at which one scheduler would have stopped them;"
        f" {plain['unexplained decisions']} decisions that its scheduler, emptied at every restart, does not explain",
        f"kills on the way to a process's first epoch: {ours['kills at a start']} and {plain['kills at a start']};"
        f" processes of a killed driver's Ray that were still there when the next one had its first epoch:"
        f" {ours['left behind']} and {plain['left behind']}",
        "every driver is forked from a process that has imported its libraries, and its Ray has no dashboard, log"
        " monitor or autoscaler: that shortens a hundred starts and is alike for both",
    ]


def measure(settings: Settings, options: argparse.Namespace | None = None) -> Part:
    """All of it, one after the other."""
    options = options or read_arguments([])
    with tempfile.TemporaryDirectory(prefix="kills-") as scratch:
        folder = (options.folder or Path(scratch)).absolute()
        found = []
        for name in (options.side,) if options.side else ("ours", "plain"):
            side = make_side(name, folder, options.trials, options.pause)
            finals = FINAL_KILLS if name == "ours" else 0
            run_side(side, options.kills, options.trials, options.seed, WORKERS, finals)
            found.append(facts_of(side, options.trials))
        if options.side:
            return Part("kills", json.dumps(found[0], indent=2), [])
        same = compare_same(folder, options.kills, options.trials, options.seed)
    starts = sum(kind == "start" for kind, _ in planned_kills(options.kills, options.seed))
    how = HOW.format(
        trials=options.trials,
        kills=options.kills,
        workers=WORKERS,
        starting=starts,
        pause=options.pause,
        least=LEAST,
        most=MOST,
    )
    return Part("kills", f"{how}\n{table(*found)}", [], [same, *notes_of(*found)])


def read_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(prog="bench_kills.py", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=KILLS, help=f"kills within each search (default: {KILLS})")
    parser.add_argument("--trials", type=int, default=TRIALS, help=f"trials of each search (default: {TRIALS})")
    parser.add_argument("--seed", type=int, default=SEED, help="of the kills, the sampler and the networks")
    parser.add_argument("--pause", type=float, default=PAUSE, help="seconds that an epoch is made longer")
    parser.add_argument("--folder", type=Path, help="where to work, and to go on after an interruption")
    parser.add_argument("--side", choices=("ours", "plain"), help="one of the two alone; with --folder, to go on later")
    parser.add_argument("--output", type=Path, help="page of which the table becomes a section")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Kill, count, print, write."""
    options = read_arguments(arguments)
    facts = machine()
    part = measure(Settings(), options)
    print("\n".join([part.how, "", *(f"- {note}" for note in part.notes)]))
    if options.output:
        write_section(options.output, part, facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
