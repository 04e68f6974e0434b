"""Warm start: completed trials of earlier runs that a new run's sampler begins with, if they are comparable."""

import contextlib
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepsearch.models.families import config_params, make_config
from sepsearch.runs.differences import differences
from sepsearch.runs.folder import follow_run
from sepsearch.runs.run_folder import JOURNAL, find_run
from sepsearch.runs.state import RunState, reduce_events
from sepsearch.search.events import KnownRun, KnownTrialRecord
from sepsearch.search.journal import read_run
from sepsearch.search.sampling.known_trials import best_known, known_trials
from sepsearch.spaces.configurations import configuration_key, holds
from sepsearch.spaces.space import Space
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import is_there

OPTION = "--warm-start"
TOLERANCE = 1e-4  # relative, of baselines: the same examples on another machine


@dataclass(frozen=True)
class Source:
    """An earlier run: `place` as it was named, and its state."""

    place: str
    run: RunState


def read_sources(places: Sequence[str], runs: Path, storage: str | None) -> list[Source]:
    """The runs to start from.

    Args:
        places: of each a name in `runs` or else in `storage`, the path of a run's folder, or a URI such as
            s3://bucket/runs/first.
        runs: where this machine keeps runs.
        storage: of the new run; None for none.

    Raises:
        UserError: one is no run, is named twice, never began, or its journal cannot be read.
    """
    sources: list[Source] = []
    for place in places:
        run = _read(place, runs, storage)
        if not run.search:
            raise UserError(f"{OPTION} {place}: it never began, expected a run with completed trials: leave it out")
        if any(run.search["run"] == other.run.search["run"] for other in sources):
            raise UserError(f"{OPTION} {place}: the run {run.name} is named twice: leave one of them out")
        sources.append(Source(place, run))
    return sources


def _read(place: str, runs: Path, storage: str | None) -> RunState:
    """The state of one run."""
    if "://" in place:
        address, _, name = place.rstrip("/").rpartition("/")
        return _read_elsewhere(runs, address, name)
    if "/" in place:
        folder = Path(place)
        if not is_there(folder / JOURNAL):
            raise UserError(f"{OPTION} {place}: no {JOURNAL} there, expected the folder of a run, such as runs/first")
        return reduce_events(read_run(folder / JOURNAL))
    if storage and not is_there(runs / place / JOURNAL):
        return _read_elsewhere(runs, storage, place)
    return reduce_events(read_run(find_run(runs, place, OPTION) / JOURNAL))


def _read_elsewhere(runs: Path, address: str, name: str) -> RunState:
    """The state of a run in a shared folder or behind a URI; nothing of it stays on this machine."""
    with tempfile.TemporaryDirectory(prefix="sepsearch-known-") as copies:
        try:
            _, refresh = follow_run(runs, address, name, Path(copies))
            return reduce_events(read_run(refresh()))
        except UserError as error:
            raise UserError(f"{OPTION}: {error}") from error


def known_runs(sources: Sequence[Source], space: Space, facts: Mapping[str, Any], most: int) -> list[KnownRun]:
    """What enters the sampler's study of a new run, a record for every source.

    Args:
        sources: the runs.
        space: of the new run.
        facts: what the new run depends on (`record.search_facts`).
        most: training examples of an epoch at most, whatever the space file says: as many as there are.

    Raises:
        UserError: trials of a source are not comparable with the new run's, or it has none that completed.
    """
    seen: set[bytes] = set()
    known = []
    for source in sources:
        _require_comparable(source, facts, most)
        known.append(_known_run(source, space, seen))
    return known


def _known_run(source: Source, space: Space, seen: set[bytes]) -> KnownRun:
    """The trials of one run that this space holds; `seen` are configurations of runs before it, and gets these."""
    trials: list[KnownTrialRecord] = []
    outside = repeated = of_reference = 0
    reference = configuration_key(space.reference_params())
    jobs = [job for job in source.run.jobs_of("search").values() if job.state == "completed"]
    completed = [(job, job.ratio) for job in jobs if job.ratio is not None and math.isfinite(job.ratio)]
    if not completed:
        raise UserError(f"{OPTION} {source.place}: none of its trials has completed: leave it out")
    for job, ratio in completed:
        params = _inside(space, job.params)
        key = configuration_key(params if params is not None else job.params)
        if key == reference or job.id == source.run.search["reference"]:
            of_reference += 1
        elif params is None:
            outside += 1
        elif key in seen:
            repeated += 1
        else:
            seen.add(key)
            trials.append({"id": job.id, "params": params, "ratio": ratio})
    return {
        "name": source.run.name,
        "run": source.run.search["run"],
        "place": source.place,
        "completed": len(completed),
        "outside": outside,
        "repeated": repeated,
        "reference": of_reference,
        "trials": trials,
    }


def _inside(space: Space, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """A configuration as this space spells it; None where the space does not hold it."""
    for spelling in (dict, lambda values: config_params(make_config(values))):
        # A family or a parameter that this version does not have; or values that no run writes.
        with contextlib.suppress(UserError, TypeError):
            if holds(space, found := spelling(params)):
                return found
    return None


def _require_comparable(source: Source, facts: Mapping[str, Any], most: int) -> None:
    """Raise `UserError` at the first thing by which a ratio there means something else than here."""
    before = _comparable(source.run.search, most)
    now = _comparable(facts, most)
    for what, advice in ADVICE.items():
        if found := differences(before[what], now[what], f"{what}."):
            raise UserError(
                f"{OPTION} {source.place}: its ratios are not comparable with this run's: {found[0]} (there → here):"
                f" {advice}, or leave that run out"
            )
    _require_same_baselines(source, facts)


# What must be the same, in the order in which it is compared, and what to do where it is not.
ADVICE = {
    "front_end": "give this run the same front_end",
    "recordings": "give this run the same recordings with --data",
    "instruments": "give this run the same --instruments",
    "split": "give this run the same --seed and the same split in its space file",
    "search": "give this run's space file the same values, or --max-epochs",
    "objective": "give this run the same objective",
}


def _comparable(facts: Mapping[str, Any], most: int) -> dict[str, dict[str, Any]]:
    """What ratios depend on, beside the configuration, from the facts of a run."""
    settings, space, dataset = facts["settings"], facts["space"], facts["dataset"]
    search = space.get("search", {})
    examples = search.get("examples_per_epoch", most)
    return {
        "front_end": dict(space.get("front_end", {})),
        "recordings": {"fingerprint": dataset["fingerprint"]},
        "instruments": {"codes": sorted(settings["instruments"])},
        "split": {name: sorted(titles) for name, titles in dataset["split"].items()},
        "search": {
            "epochs": settings["epochs"],
            "examples_per_epoch": min(examples, most),
            "validation_examples": search.get("validation_examples"),
        },
        "objective": {"objective": space.get("objective"), "search.objective": search.get("objective")},
    }


def _require_same_baselines(source: Source, facts: Mapping[str, Any]) -> None:
    """Raise `UserError` unless identity losses agree: they are those of the validation examples, drawn by the seed."""
    there, here = (one["baselines"]["validation"]["identity"] for one in (source.run.search, facts))
    for code, loss in here.items():
        if not math.isclose(there.get(code, math.nan), loss, rel_tol=TOLERANCE, abs_tol=1e-12):
            raise UserError(
                f"{OPTION} {source.place}: its validation examples are others: identity loss of {code} is"
                f" {there.get(code)} there, expected {loss} as here: give this run --seed"
                f" {source.run.search['settings']['seed']}, or leave that run out"
            )


def warm_start_lines(runs: Sequence[KnownRun], space: Space, trials: int) -> list[str]:
    """What entered from which run, a line each, and which configuration is trained again.

    Args:
        runs: as `known_runs` gives them.
        space: of the new run.
        trials: of the new run.
    """
    lines = []
    for run in runs:
        parts = [f"warm start: {len(run['trials'])} of {run['completed']} completed trials of {run['name']}"]
        if outside := run["outside"]:
            parts.append(f"{outside} {'is' if outside == 1 else 'are'} outside this space")
        if repeated := run["repeated"]:
            parts.append(f"{repeated} {'is' if repeated == 1 else 'are'} known from a run named before")
        if run["reference"]:
            parts.append("the reference network's is trained again anyway")
        lines.append("; ".join(parts))
    if best := best_known(space, known_trials(runs)):
        known = f"the best of them, {best.source} with ratio {best.ratio:.3f},"
        room = len(space.points) + 1 < trials  # beside the reference network
        after = f" after the {len(space.points)} points of the space file" if space.points else " first"
        lines.append(f"{known} is trained again{after}" if room else f"{known} is not trained again: too few trials")
    return lines
