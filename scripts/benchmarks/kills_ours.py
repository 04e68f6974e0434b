"""The driver of the kill benchmark's own side: `sepsearch.run` with every epoch traced, and its measures.

    KILLS_TRACE=trace.jsonl KILLS_LIFE=3 KILLS_PAUSE=6 python scripts/benchmarks/kills_ours.py --resume ours

What a worker runs is wrapped from outside; nothing else of sepsearch is changed.
"""

import contextlib
import dataclasses
import functools
import json
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kills_life import serve, traced

MODULES = (
    "torch",
    "optuna",
    "mlflow",
    "rich.console",
    "ray",
    "ray.tune",
    "sepsearch.run",
    "sepsearch.data.prepared",
    "sepsearch.data.preparation",
    "sepsearch.monitoring.console",
    "sepsearch.distributed.tune_runner",
    "sepsearch.tracking.registry",
)


def traced_fit(*arguments: Any, unit: str, epochs: int, state: Any = None, **options: Any) -> Iterator[Any]:
    """`sepsearch.training.loop.fit` with every epoch traced."""
    from sepsearch.training.loop import fit

    results = fit(*arguments, epochs=epochs, state=state, **options)
    return traced(results, unit, state.epoch + 1 if state else 1, epochs)


def traced_train_job(config: dict[str, Any], task: Any) -> None:
    """`sepsearch.distributed.trainable.train_job` with `traced_fit`."""
    from sepsearch.distributed.trainable import train_job

    train_job(config, dataclasses.replace(task, fit=functools.partial(traced_fit, unit=config["id"])))


def arguments(folder: Path, trials: int, seed: int, workers: int, failures: int) -> list[str]:
    """The command line of the next process: begin, or go on."""
    journal = folder / "runs" / "ours" / "journal.jsonl"
    if journal.exists() and b"\n" in journal.read_bytes():
        return ["--resume", "ours"]
    data = [f"--space={folder.parent / 'space.yaml'}", f"--data={folder.parent / 'recordings'}", "--instruments=vn,vc"]
    return [*data, "--name=ours", f"--trials={trials}", f"--seed={seed}", f"--workers={workers}"]


def searched(folder: Path) -> bool:
    """Whether the search is over and its finalists are chosen."""
    journal = folder / "runs" / "ours" / "journal.jsonl"
    return journal.exists() and b'"event":"finalists"' in journal.read_bytes()


def run(argv: list[str]) -> None:
    """`sepsearch.run` with traced workers."""
    import sepsearch.distributed.trainable
    from sepsearch.run import main
    from sepsearch.utils.errors import exit_on_user_error

    sepsearch.distributed.trainable.train_job = traced_train_job
    exit_on_user_error(lambda: main(argv))


def measure(folder: Path, trials: int) -> dict[str, Any]:
    """What the journal, and all that follows from it, say of the search in the end; 0 everywhere if all is well."""
    from sepsearch.search.journal import read_journal

    run = folder / "runs" / "ours"
    events = list(read_journal(run / "journal.jsonl"))
    epochs = Counter((e["id"], e["epoch"]) for e in events if e["event"] in ("epoch", "final_epoch"))
    begun = Counter(e["id"] for e in events if e["event"] == "trial")
    ends = {e["id"]: e for e in events if e["event"] == "trial_end"}
    counts = Counter(e["id"] for e in events if e["event"] == "trial_end")
    results = json.loads((run / "results.json").read_text())
    ended = {id: (e["state"], e["epochs"]) for id, e in ends.items()}
    states = {"completed": "COMPLETE", "stopped": ("COMPLETE", "PRUNED"), "failed": "FAIL"}
    study = _study(run)
    said = {trial: state for trial, state in study if trial in ends}
    odd = [id for id, state in said.items() if state not in states[ends[id]["state"]]]
    odd += [t["id"] for t in results["trials"] if ended.get(t["id"]) != (t["state"], t["epochs"])]
    odd += [
        id for id, end in ends.items() if {e for unit, e in epochs if unit == id} != set(range(1, end["epochs"] + 1))
    ]
    runs, points = mlflow_facts(folder / "mlflow.db", "sepsearch.key")
    odd += [
        key for key, epoch in points if key.rpartition("/")[2] in ends and (key.rpartition("/")[2], epoch) not in epochs
    ]
    odd += [f"{id}/{epoch}" for id, epoch in epochs if not any(k.endswith(f"/{id}") for k, e in points if e == epoch)]
    wrong, late = _judged(events, ends, run)
    return {
        "trials": len(begun),
        "lost trials": trials - len(ends),
        "doubled trials": sum(n - 1 for n in begun.values()) + sum(n - 1 for n in counts.values()),
        "epochs doubled in the journal": sum(n - 1 for n in epochs.values()),
        "killed by forgotten rungs": wrong,
        "late values in rungs": late,
        "zombie trials": sum(state in ("RUNNING", "WAITING") for _, state in study),
        "study trials": sum(bool(trial) for trial, _ in study),
        "doubled runs": sum(n - 1 for n, _ in runs.values()),
        "unended runs": sum(open for _, open in runs.values()),
        "doubled points": sum(n - 1 for n in points.values()),
        "disagreements": len(odd),
        "units": [e["id"] for e in events if e["event"] in ("trial", "final")],
        "states": dict(Counter(end["state"] for end in ends.values())),
        "resumes": sum(e["event"] == "resume" for e in events),
    }


def _study(run: Path) -> list[tuple[str, str]]:
    """(trial, state) of all trials of the Optuna study."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(run / "study.log")))
    study = optuna.load_study(study_name=None, storage=storage)
    return [(trial.user_attrs.get("trial", ""), trial.state.name) for trial in study.trials]


def _judged(events: list[dict[str, Any]], ends: dict[str, dict[str, Any]], run: Path) -> tuple[int, int]:
    """How many epochs were judged otherwise than by one judge of all of them, in order; and late values in rungs.

    The rungs are those that a search restored from this journal goes on with.
    """
    from sepsearch.search.sampling.sampler import Sampler
    from sepsearch.search.scheduler import SearchPlan
    from sepsearch.search.stopping.asha import Rungs
    from sepsearch.spaces.space import load_space

    space = load_space(run / "space.yaml")
    search = space.search
    judge, restored = (Rungs(search.grace_epochs, search.reduction_factor, search.epochs) for _ in range(2))
    plan = SearchPlan(Sampler(space, None, "kills", 0), restored, _Nothing(), len(ends), search.epochs, 0)
    plan.restore(events)
    wrong, values = 0, {}
    for event in events:
        if event["event"] == "epoch" and event["epoch"] < search.epochs:
            values[event["id"], event["epoch"]] = event["ratio"]
            stops = judge.report(event["id"], event["epoch"], event["ratio"]) is not None
            wrong += stops != (ends[event["id"]]["reason"] == f"stopped at rung {event['epoch']}")
    late = sum(values[trial, rung] != value for rung, row in restored.values.items() for trial, value in row.items())
    return wrong, late


class _Nothing:
    def append(self, event: dict[str, Any]) -> None:
        raise AssertionError("a search that is over has nothing more to tell")


def mlflow_facts(database: Path, tag: str) -> tuple[dict[str, tuple[int, int]], Counter[tuple[str, int]]]:
    """Runs by the value of a tag: (how many, how many RUNNING of them); and ratios by (tag, step)."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        join = "join tags t on t.run_uuid = r.run_uuid and t.key = ?"
        rows = connection.execute(f"select t.value, r.status from runs r {join}", (tag,)).fetchall()
        points = connection.execute(
            f"select t.value, m.step from runs r {join} join metrics m on m.run_uuid = r.run_uuid and m.key = 'ratio'",
            (tag,),
        ).fetchall()
    runs = {
        key: (len(s), s.count("RUNNING")) for key in {k for k, _ in rows} if (s := [t for k, t in rows if k == key])
    }
    return runs, Counter(points)


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        from sepsearch.distributed import session

        # As `ray_session` does before Ray is imported.
        os.environ.update(session.ENVIRONMENT)
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        session._provide_token()
        serve(run, MODULES)
    else:
        run(sys.argv[1:])
