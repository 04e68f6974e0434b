"""A search as its journal tells it, for tests of what is made of a journal."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sepsearch.runs.state import RunState, reduce_events
from sepsearch.search.events import Event
from sepsearch.search.journal import Journal

CODES = ("vn", "vc")
PARAMS = {"family": "report", "filters": 16, "learning_rate": 0.001}


def members(epoch: int, seed: int = 0, **changes: Any) -> list[dict[str, Any]]:
    return [
        {
            "instrument": code,
            "seed": seed,
            "train_loss": 0.4 / epoch,
            "val_loss": 0.5 / epoch,
            "identity_loss": 1.0,
            "ratio": 0.5 / epoch,
            "gradient_norm": 1.5,
            "zero_share": 0.25,
            "discontinuity": False,
            **changes,
        }
        for code in CODES
    ]


def scores(ratio: float) -> dict[str, dict[str, Any]]:
    keys = {"ratio_mean": ratio, "ratio_sd": 0.01, "test_ratio": ratio + 0.1, "si_sdr_gain_db": 6.0}
    return {code: {"ratio": ratio, "identity_loss": 1.0, **keys} for code in CODES}


def search_event() -> tuple[str, dict[str, Any]]:
    losses = {"identity": {"vn": 1.0, "vc": 1.0}}
    return "search", {
        "name": "duets",
        "run": "abc123",
        "space": {"filters": [8, 16]},
        "settings": {"trials": 3, "epochs": 2, "retrain": {"seeds": 2}},
        "versions": {"torch": "2.13"},
        "dataset": {"source": "demo", "pieces": 4, "clips": 9, "rows": 27, "fingerprint": "f1", "split": {"train": []}},
        "baselines": {"validation": losses},
        "caveats": {"vc": "one title only"},
        "reference": "t0000",
        "seconds": 1.0,
    }


def epoch_event(kind: str, id: str, epoch: int, of: list[dict[str, Any]] | None = None) -> tuple[str, dict[str, Any]]:
    of = members(epoch) if of is None else of
    return kind, {
        "id": id,
        "epoch": epoch,
        "ratio": of[0]["ratio"],
        "seconds": 1.0,
        "examples_per_second": 10.0,
        "members": of,
    }


def story() -> Iterator[tuple[str, dict[str, Any]]]:
    """A search with three trials (the report's, a stopped one, a failed one) and one finalist with two seeds."""
    yield search_event()
    for id, epochs, state, reason in (
        ("t0000", 2, "completed", ""),
        ("t0001", 1, "stopped", "rung 1"),
        ("t0002", 1, "failed", "NaN: the training loss of vn is nan in epoch 2"),
    ):
        yield "trial", {"id": id, "params": PARAMS}
        for epoch in range(1, epochs + 1):
            yield epoch_event("epoch", id, epoch)
        yield "trial_end", {"id": id, "state": state, "reason": reason, "epochs": epochs}
    chosen = {"id": "c0", "trial": "t0000", "params": PARAMS, "reference": True}
    yield "finalists", {"configurations": [chosen], "seconds": 2.0}
    for seed in (0, 1):
        id = f"c0-s{seed}"
        yield "final", {"id": id, "configuration": "c0", "seed": seed, "params": PARAMS}
        yield epoch_event("final_epoch", id, 1, members(1, seed))
        yield "final_end", {"id": id, "state": "completed", "reason": "", "epochs": 1, "weights": f"models/{id}"}
    yield "scores", {"final": scores(0.25), "reference_final": scores(0.5), "seconds": 3.0}
    yield "registered", {"models": {"vn": "models:/sepsearch-vn/1"}}
    yield "end", {"state": "finished"}


def interrupted_story() -> Iterator[tuple[str, dict[str, Any]]]:
    """A search of two trials: Ctrl-C ends both, a resumed process finishes one and is killed, another the other."""
    yield search_event()
    for id in ("t0000", "t0001"):
        yield "trial", {"id": id, "params": PARAMS}
        yield epoch_event("epoch", id, 1)
    for id in ("t0000", "t0001"):
        yield "trial_end", {"id": id, "state": "stopped", "reason": "interrupted", "epochs": 1}
    yield "end", {"state": "interrupted"}
    settings = {"trials": 2, "epochs": 3, "retrain": {"seeds": 2}}
    yield "resume", {"units": {"t0000": 1, "t0001": 0}, "changed": {"settings": settings, "caveats": {}}}
    yield epoch_event("epoch", "t0000", 2)
    yield "retry", {"id": "t0001", "reason": "worker died", "epochs": 0, "attempt": 1}
    yield epoch_event("epoch", "t0000", 3)
    yield "trial_end", {"id": "t0000", "state": "completed", "reason": "", "epochs": 3}
    yield "resume", {"units": {"t0001": 1}, "changed": {}}
    yield "spared", {"id": "t0001", "rung": 1}
    yield epoch_event("epoch", "t0001", 2)
    yield "trial_end", {"id": "t0001", "state": "stopped", "reason": "rung 2", "epochs": 2}


def journal(story: Iterable[tuple[str, dict[str, Any]]]) -> list[Event]:
    """Events a second apart, from second 1000 on."""
    return [
        {"event": kind, "time": 1000.0 + i, "elapsed": float(i), **fields} for i, (kind, fields) in enumerate(story)
    ]


def state_of(events: Iterable[dict[str, Any]], history: bool = False) -> RunState:
    """The state after some events; what an event has to hold and does not matter in a test is added."""
    defaults = {"members": [], "seconds": 0.0, "epochs": 0, "reason": "", "reference_final": {}, "params": {}}
    begin = {**search_event()[1], "event": "search", "settings": {}, "space": {}, "reference": "t0000"}
    events = list(events)
    begun = any(event["event"] == "search" for event in events)
    whole = [*([] if begun else [begin]), *events]
    return reduce_events(
        ({"time": 1000.0 + number, **defaults, **event} for number, event in enumerate(whole)), history
    )


def until(events: list[Event], kind: str, id: str | None = None) -> list[Event]:
    """The events up to the first of a kind, that one included."""
    last = next(i for i, e in enumerate(events) if e["event"] == kind and id in (None, e.get("id")))
    return events[: last + 1]


def write_run(folder: Path, events: Iterable[Event]) -> Path:
    """A run's folder with a journal of these events."""
    file = Journal(folder / "journal.jsonl")
    for event in events:
        file.append(event)
    file.close()
    return folder


def steps(events: Iterable[Event], id: str) -> list[int]:
    """The epochs that a journal has of a unit."""
    return [event["epoch"] for event in events if event["event"].endswith("epoch") and event["id"] == id]


def runs(uri: str) -> dict[str, Any]:
    """MLflow's runs by name."""
    from sepsearch.tracking.tracker import connect

    client = connect(uri)
    experiment = client.get_experiment_by_name(os.environ.get("MLFLOW_EXPERIMENT_NAME", "sepsearch"))
    found = client.search_runs([experiment.experiment_id])
    assert len({run.data.tags["sepsearch.key"] for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def histories(uri: str) -> dict[str, list[int]]:
    """The steps of `ratio` of every trial and finalist, each as often as MLflow has it."""
    from sepsearch.tracking.tracker import connect

    client = connect(uri)
    children = {name: run for name, run in runs(uri).items() if "mlflow.parentRunId" in run.data.tags}
    return {
        name: sorted(metric.step for metric in client.get_metric_history(run.info.run_id, "ratio"))
        for name, run in children.items()
    }
