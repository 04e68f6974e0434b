"""Figures of the peers' benchmark from the epochs that a side has trained, and their table."""

import json
from pathlib import Path
from statistics import median
from typing import Any

Epochs = list[dict[str, Any]]  # "trial", "epoch", "ratio", "begin" and "end", seconds since 1970
Ends = dict[str, float]  # trial → when it was stopped or complete
EARLY = 120.0  # seconds
WORKERS = 2
IDENTITY = 1.0  # ratio of doing nothing: what there is before the first epoch
NAMES = {
    "sepsearch": "sepsearch",
    "optuna": "Optuna, 2 processes",
    "ray_plain": "plain Ray Tune",
    "ray_expert": "expert's Ray Tune",
    "syne_tune": "Syne Tune",
}
# Key → (what, digits, whether less is better).
ROWS = {
    "first": ("command → first epoch, s", 1, True),
    "early": ("mean of the best ratio so far, 0 to 120 s", 3, True),
    "all": ("mean of the best ratio so far, 0 to 300 s", 3, True),
    "best": ("best ratio after 300 s", 3, True),
    "epochs": ("epochs a minute", 1, False),
    "trials": ("trials a minute", 1, False),
    "overhead": ("a trial beyond its epochs, s", 2, True),
    "memory": ("memory of all processes, at most, MB", 0, True),
    "restart": ("after SIGKILL: command → first new epoch, s", 1, True),
    "lost": ("after SIGKILL: finished epochs lost or trained again", 0, True),
}
HOW = """\
One task for all: `laptop.yaml`'s space, front end and budgets (4 epochs, rungs from the first, reduction factor 2), the
demo ensemble, violin and cello, the same `fit`, rows and seeds, two trials at once of one thread each, and the same
settings of the allocator. Every search runs alone on the machine for 300 s from its command on; then all of its
processes get SIGKILL at once, and it is started again (sepsearch with `--resume`). Median
(minimum to maximum) of {times} seeds; bold is best.

- *sepsearch*: `python -m sepsearch.run`, all of it: recordings are checked again, corners of the space are tried
  first, the reference network is one of the trials, Ray's dashboard, MLflow, journal, provisional models. TPE,
  ASHA with promotion.
- *Optuna, 2 processes*: one study in a journal file, TPE with constant liar, `SuccessiveHalvingPruner`. No checkpoints.
- *plain Ray Tune*: `Tuner(…)` with random search and nothing else set; `Tuner.restore` after the kill.
- *expert's Ray Tune*: `OptunaSearch` (TPE), `ASHAScheduler`, `reuse_actors`, data in the object store, a checkpoint
  every epoch; `Tuner.restore` after the kill.
- *Syne Tune* 0.16.0: `ASHACQR` on the local backend, results looked for every 0.5 s; `Tuner.load` after the kill.

The peers load rows that are ready in a file, and only search: they write no report, models or metrics. Before the first
epoch the best ratio is 1, that of doing nothing. Epochs of larger networks take longer, so that a side which prefers
them trains fewer a minute.
"""


def _lines(path: Path) -> list[dict[str, Any]]:
    """Lines of JSON; one that is half written is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def read_trace(folder: Path) -> tuple[Epochs, Ends]:
    """Epochs of a peer, in the order of their ends, and the ends of its trials."""
    lines = [line for path in folder.glob("*.jsonl") for line in _lines(path)]
    epochs = sorted((line for line in lines if "epoch" in line), key=lambda epoch: float(epoch["end"]))
    return epochs, {line["trial"]: line["ended"] for line in lines if "ended" in line}


def read_journal(path: Path) -> tuple[Epochs, Ends]:
    """The same of sepsearch, from its journal. A trial that is paused has ended as long as it is not promoted."""
    epochs, ends = [], {}
    for event in _lines(path):
        if event["event"] == "epoch":
            begin = event["time"] - event["seconds"]
            facts = {"trial": event["id"], "epoch": event["epoch"], "ratio": event["ratio"]}
            epochs.append({**facts, "begin": begin, "end": event["time"]})
        elif event["event"] in ("paused", "trial_end"):
            ends[event["id"]] = event["time"]
        elif event["event"] == "promoted":
            ends.pop(event["id"], None)
    return epochs, ends


def mean_best(epochs: Epochs, begin: float, seconds: float) -> float:
    """Mean of the best ratio so far over the first `seconds`."""
    best, now, area = IDENTITY, begin, 0.0
    for epoch in epochs:
        if epoch["end"] > begin + seconds:
            break
        area += best * (epoch["end"] - now)
        now, best = epoch["end"], min(best, epoch["ratio"])
    return (area + best * (begin + seconds - now)) / seconds


def lost_epochs(before: Epochs, after: Epochs, ends: Ends) -> int:
    """Epochs finished before a kill, of trials that had not ended, which are trained again or not gone on from.

    A trial that is stopped as soon as the search goes on has lost nothing.
    """
    last = {epoch["trial"]: epoch["epoch"] for epoch in before}
    lost = 0
    for trial, epoch in last.items():
        goes_on = [other["epoch"] for other in after if other["trial"] == trial]
        if trial not in ends and min(goes_on, default=0) != epoch + 1:
            lost += epoch
        elif goes_on and min(goes_on) <= epoch:
            lost += epoch - min(goes_on) + 1
    return lost


def figures_of(epochs: Epochs, ends: Ends, begin: float, killed: float, again: float) -> dict[str, float]:
    """All rows but the memory.

    Args:
        epochs: all of them in the end.
        ends: of trials.
        begin: of the command.
        killed: when.
        again: when the command was given again.
    """
    before = [epoch for epoch in epochs if epoch["end"] <= killed]
    done = {(epoch["trial"], epoch["epoch"]) for epoch in before}
    later = [epoch for epoch in epochs if epoch["end"] > again]
    new = [epoch for epoch in later if (epoch["trial"], epoch["epoch"]) not in done]
    seconds, trials = killed - begin, len({epoch["trial"] for epoch in before})
    trained = sum(epoch["end"] - epoch["begin"] for epoch in before)
    return {
        "first": before[0]["end"] - begin,
        "early": mean_best(before, begin, EARLY),
        "all": mean_best(before, begin, seconds),
        "best": min(epoch["ratio"] for epoch in before),
        "epochs": 60 * len(before) / seconds,
        "trials": 60 * trials / seconds,
        "overhead": (WORKERS * (killed - before[0]["begin"]) - trained) / trials,
        "restart": new[0]["end"] - again if new else float("inf"),
        "lost": lost_epochs(before, later, ends),
    }


def section(found: dict[str, list[dict[str, float]]]) -> str:
    """The text and the table of the section."""
    times = len(next(iter(found.values())))
    lines = [HOW.format(times=times), "| | " + " | ".join(NAMES[side] for side in found) + " |"]
    lines.append("| --- |" + " ---: |" * len(found))
    missed = []
    for key, (what, digits, less) in ROWS.items():
        middles = {side: median(run[key] for run in runs) for side, runs in found.items()}
        best = (min if less else max)(middles.values())
        cells = []
        for side, runs in found.items():
            values = [run[key] for run in runs]
            middle = f"{middles[side]:.{digits}f}"
            middle = f"**{middle}**" if middles[side] == best else middle
            cells.append(f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})")
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
        of_best = [run[key] for side, runs in found.items() if middles[side] == best for run in runs]
        ours = middles.get("sepsearch", best)
        if ours > max(of_best) if less else ours < min(of_best):
            missed.append(what)
    if missed:
        lines += [
            "",
            f"Worse than the best side in every one of its repeats: sepsearch's median of {'; '.join(missed)}.",
        ]
    return "\n".join(lines) + "\n"
