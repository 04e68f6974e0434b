"""Recorded searches: the curves of their trials, and an audit of ASHA by the trials that were exempt from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepsearch.runs.run_folder import JOURNAL, find_run
from sepsearch.runs.state import RunState, reduce_events
from sepsearch.search.events import SearchEvent
from sepsearch.search.journal import read_run
from sepsearch.simulation.curve_table import Curve, Pool, recorded_curves
from sepsearch.spaces.space import Space, journal_space
from sepsearch.utils.errors import UserError

# What must be the same for ratios to be comparable: (where it stands in the journal's first event, in words).
SAME = {
    ("space", "parameters"): "parameters",
    ("space", "fixed"): "fixed parameters",
    ("space", "family"): "family",
    ("dataset", "fingerprint"): "recordings or front end",
    ("settings", "instruments"): "instruments",
    ("space", "search", "examples_per_epoch"): "examples_per_epoch",
    ("space", "search", "validation_examples"): "validation_examples",
}


@dataclass(frozen=True)
class Audit:
    """Audit of stopping, by trials that were exempt from it ("spared").

    Counts of trials that ASHA `stopped`, that it `spared`, and of the spared ones that `ended`: those better than the
    best that it let finish (`winners`), and those that would have been `finalists`.
    """

    stopped: int = 0
    spared: int = 0
    ended: int = 0
    winners: int = 0
    finalists: int = 0

    def __add__(self, other: "Audit") -> "Audit":
        return Audit(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Recorded:
    """Runs that can be replayed together: their common space, full budget, curves, audit and notes."""

    names: tuple[str, ...]
    space: Space
    epochs: int
    curves: list[Curve]
    audit: Audit
    notes: tuple[str, ...]


def load_runs(runs: Path, names: Sequence[str]) -> Recorded:
    """Read runs of the same space; raises `UserError` for an unknown run, or runs that do not compare."""
    begins: list[SearchEvent] = []
    curves: list[Curve] = []
    audit = Audit()
    for name in dict.fromkeys(names):
        path = find_run(runs, name, "RUN") / JOURNAL
        run = reduce_events(read_run(path), history=True)
        if not run.search:
            raise UserError(f"{path}: no event, expected a search: was it interrupted at its start?")
        begins.append(run.search)
        _refuse_differences(begins[0], run.search)
        curves += recorded_curves(run)
        audit += audit_run(run, run.search["space"]["final"]["configurations"])
    space = journal_space(begins[0]["space"], f"run {begins[0]['name']}")
    seeds = {begin["settings"]["seed"] for begin in begins}
    notes = ["the runs' seeds differ, and so do their validation titles"] if len(seeds) > 1 else []
    epochs = min(begin["settings"]["epochs"] for begin in begins)
    return Recorded(tuple(dict.fromkeys(names)), space, epochs, curves, audit, tuple(notes))


def _refuse_differences(first: SearchEvent, other: SearchEvent) -> None:
    for place, words in SAME.items():
        values: list[Any] = [first, other]
        for key in place:
            values = [value.get(key) for value in values]
        one, two = values
        if one == two:
            continue
        if isinstance(one, dict) and isinstance(two, dict):
            key = sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key))[0]
            words, one, two = f"{words}: {key}", one.get(key), two.get(key)
        raise UserError(
            f"runs {first['name']} and {other['name']} differ in {words}: {_short(one)} and {_short(two)},"
            " expected runs of one space over the same recordings: replay them apart"
        )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def audit_run(run: RunState, configurations: int) -> Audit:
    """Whether exempt trials of one run ended well although ASHA would have stopped them.

    Args:
        run: its state.
        configurations: how many finalists it has.
    """
    trials = run.jobs_of("search").values()
    spared = [job for job in trials if job.spared]
    let_finish = [job.ratio for job in trials if job.state == "completed" and not job.spared and job.ratio is not None]
    over = [job for job in spared if job.state in ("completed", "failed")]
    ahead = [
        sum(other <= job.ratio for other in let_finish)
        for job in over
        if job.state == "completed" and job.ratio is not None
    ]
    stopped = sum(job.reason.startswith("stopped at rung") for job in trials)
    return Audit(stopped, len(spared), len(over), ahead.count(0), sum(count < configurations for count in ahead))


def make_pool(recorded: Recorded, epochs: int | None, partial: bool) -> Pool:
    """The pool of runs; raises `UserError` where there is too little to search in, or more epochs than there are."""
    if epochs is not None and epochs > recorded.epochs:
        raise UserError(f"--epochs {epochs}: the runs have {recorded.epochs}, expected at most as many")
    pool = Pool(recorded.space, recorded.curves, epochs or recorded.epochs, partial)
    if pool.full < 2:
        raise UserError(
            f"{', '.join(recorded.names)}: {pool.full} of {pool.distinct} trials have a curve of {pool.epochs} epochs,"
            " expected at least 2: give more runs, or fewer --epochs"
        )
    return pool
