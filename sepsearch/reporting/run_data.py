"""What a run's folder tells of the run, gathered for its report page: from the journal and the samples alone."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.evaluation.audio_samples import Sample, read_sample, sample_folders
from sepsearch.reporting.importance import spaced
from sepsearch.reporting.rung_audit import Hindsight, look_back
from sepsearch.runs.history import History
from sepsearch.runs.results import build_results
from sepsearch.runs.run_folder import JOURNAL
from sepsearch.search.events import Event
from sepsearch.search.journal import read_run
from sepsearch.utils.errors import UserError, one_line

RUNNING = "running"
MOST_SHOWN = 1000  # trials; a page of 10,000 is larger than browsers take with ease


@dataclass
class Unit:
    """A trial, a finalist with one seed, or a model that is trained without a title, epoch by epoch.

    `losses` are (epoch, validation loss) by instrument, `jumps` the epochs of discontinuities by instrument.
    """

    id: str
    params: Mapping[str, Any]
    configuration: str = ""
    seed: int | None = None
    state: str = RUNNING
    reason: str = ""
    ratios: list[tuple[int, float | None]] = field(default_factory=list)
    losses: dict[str, list[tuple[int, float | None]]] = field(default_factory=dict)
    jumps: dict[str, list[int]] = field(default_factory=dict)
    retries: list[str] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """How many epochs are known of it."""
        return self.ratios[-1][0] if self.ratios else 0

    def add_epoch(self, event: Event) -> None:
        """Take in an epoch's numbers."""
        self.ratios.append((event["epoch"], event["ratio"]))
        for member in event["members"]:
            code = member["instrument"]
            self.losses.setdefault(code, []).append((event["epoch"], member.get("val_loss")))
            if member.get("discontinuity"):
                self.jumps.setdefault(code, []).append(event["epoch"])


def _last_ratio(unit: Unit) -> float:
    ratio = unit.ratios[-1][1]
    return math.inf if ratio is None else ratio


@dataclass(frozen=True)
class RunFacts:
    """A run, at any state.

    Attributes:
        folder: of the run.
        search: the event "search" with all later changes; empty for a run that never began.
        results: as in `results.json`.
        trials: by id, in the order in which they began.
        finals: likewise, of finalists and seeds.
        folds: likewise, of models trained without one title.
        finalists: the chosen configurations, see the journal; empty while the search goes on.
        hindsight: rungs and study; None where they cannot be had.
        samples: by instrument.
        problems: what of the run's files could not be shown, a sentence each.
        begin: time of the first event, `last` of the last, seconds since 1970.
        end: how the run ended: finished, interrupted, failed, or "" where no end is written.
        resumes: how often it was resumed.
    """

    folder: Path
    search: Mapping[str, Any]
    results: Mapping[str, Any]
    trials: Mapping[str, Unit]
    finals: Mapping[str, Unit]
    folds: Mapping[str, Unit]
    finalists: Sequence[Mapping[str, Any]]
    hindsight: Hindsight | None
    samples: Mapping[str, Sample]
    problems: Sequence[str]
    begin: float
    last: float
    end: str
    resumes: int

    @property
    def name(self) -> str:
        """Of the run."""
        return self.search.get("name") or self.folder.name

    @property
    def codes(self) -> list[str]:
        """The run's instruments in score order, then unknown codes."""
        found = list(self.search.get("settings", {}).get("instruments") or [])
        found += [code for code in self.results["final"] if code not in found]
        found += [code for unit in self.finals.values() for code in unit.losses if code not in found]
        order = list(INSTRUMENTS)
        return sorted(dict.fromkeys(found), key=lambda code: order.index(code) if code in order else len(order))

    @property
    def caveats(self) -> Mapping[str, str]:
        """How an instrument's scores must be read, by code."""
        return self.search.get("caveats", {})

    @functools.cached_property
    def shown(self) -> dict[str, Unit]:
        """The trials that tables and figures show: all, or of more than MOST_SHOWN as many.

        Those are the finalists' and the report's, the best that came to their end, and of the others some, evenly
        spaced.
        """
        if len(self.trials) <= MOST_SHOWN:
            return dict(self.trials)
        kept = {self.reference, *(str(one.get("trial", "")) for one in self.finalists)} & self.trials.keys()
        ended = [unit for unit in self.trials.values() if unit.state == "completed" and unit.ratios]
        best = sorted(ended, key=_last_ratio)[: MOST_SHOWN // 2]
        kept |= {unit.id for unit in best}
        kept |= set(spaced([id for id in self.trials if id not in kept], MOST_SHOWN - len(kept)))
        return {id: unit for id, unit in self.trials.items() if id in kept}

    @property
    def reference(self) -> str:
        """The id of the report's trial."""
        return self.search.get("reference", "")


def gather_facts(folder: Path) -> RunFacts:
    """Read a run's folder; a sample that is damaged becomes one of the `problems`.

    Raises:
        UserError: the journal cannot be read, is damaged, or does not hold what a run writes.
    """
    path = folder / JOURNAL
    events = list(read_run(path))
    history = History(events)
    search, problems = history.search, []
    results = build_results(events)
    try:
        kinds = _units(events)
    except (KeyError, TypeError, AttributeError) as error:
        problem = f"an event does not hold what a run writes ({type(error).__name__})"
        raise UserError(f"{path}: {problem}, expected numbers of every epoch: restore the file") from error
    hindsight = None
    try:
        hindsight = look_back(search, events) if search else None
    except UserError as error:
        problems.append(f"Rungs and parameters are not shown: {error}.")
    samples = {}
    for code, place in sample_folders(folder).items():
        try:
            samples[code] = read_sample(place)
        except UserError as error:
            problems.append(f"The sample of {code} is not shown: {one_line(error)}.")
    ends = [event for event in events if event["event"] in ("end", "resume")]
    return RunFacts(
        folder=folder,
        search=search,
        results=results,
        trials=kinds["trial"],
        finals=kinds["final"],
        folds=kinds["fold"],
        finalists=history.finalists or [],
        hindsight=hindsight,
        samples=samples,
        problems=problems,
        begin=events[0]["time"] if events else 0.0,
        last=events[-1]["time"] if events else 0.0,
        end=str(ends[-1].get("state", "")) if ends else "",
        resumes=sum(event["event"] == "resume" for event in events),
    )


def _units(events: Sequence[Event]) -> dict[str, dict[str, Unit]]:
    """Units by their kind (trial, final, fold) and id."""
    kinds: dict[str, dict[str, Unit]] = {"trial": {}, "final": {}, "fold": {}}
    units: dict[str, Unit] = {}
    for event in events:
        match event["event"]:
            case "trial" | "final" | "fold" as kind:
                unit = Unit(event["id"], event["params"], event.get("configuration", ""), event.get("seed"))
                kinds[kind][unit.id] = units[unit.id] = unit
            case "epoch" | "final_epoch" | "fold_epoch":
                units[event["id"]].add_epoch(event)
            case "retry":
                units[event["id"]].retries.append(event["reason"])
            case "trial_end" | "final_end" | "fold_end":
                unit = units[event["id"]]
                unit.state, unit.reason = event["state"], event["reason"]
            case "resume":
                for id in event["units"]:
                    if id in units:
                        units[id].state, units[id].reason = RUNNING, ""
    return kinds
