"""Data of the run report: the state of the run, its results, rungs and audio samples."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.evaluation.audio_samples import Sample, read_sample, sample_folders
from sepsearch.reporting.importance import spaced
from sepsearch.reporting.rung_audit import RungAudit, audit_rungs
from sepsearch.runs.job import Job
from sepsearch.runs.results import build_results
from sepsearch.runs.run_folder import JOURNAL
from sepsearch.runs.state import RunState, reduce_events
from sepsearch.search.events import FinalistRecord
from sepsearch.search.journal import read_run
from sepsearch.utils.errors import UserError, one_line

MOST_CANDIDATES = 4  # of an instrument's clip: each is 0.2 MB
MOST_SHOWN = 1000  # trials; a page of 10,000 is larger than browsers take with ease


def _last_ratio(job: Job) -> float:
    return math.inf if job.ratio is None else job.ratio


@dataclass(frozen=True)
class RunFacts:
    """A run, at any state.

    Attributes:
        folder: of the run.
        run: its state, with the history of every job.
        results: as in `results.json`.
        audit: rungs and study; None where they cannot be restored.
        samples: by instrument.
        problems: what of the run's files could not be shown, a sentence each.
    """

    folder: Path
    run: RunState
    results: Mapping[str, Any]
    audit: RungAudit | None
    samples: Mapping[str, Sample]
    problems: Sequence[str]

    @property
    def search(self) -> Mapping[str, Any]:
        """The event "search" with all later changes; empty for a run that never began."""
        return cast(Mapping[str, Any], self.run.search)

    @functools.cached_property
    def trials(self) -> Mapping[str, Job]:
        """By id, in the order in which they began."""
        return self.run.jobs_of("search")

    @functools.cached_property
    def finals(self) -> Mapping[str, Job]:
        """Finalists with one seed each, likewise."""
        return self.run.jobs_of("finalists")

    @functools.cached_property
    def folds(self) -> Mapping[str, Job]:
        """Models trained without one title, likewise."""
        return self.run.jobs_of("leave-one-title-out")

    @property
    def finalists(self) -> Sequence[FinalistRecord]:
        """The chosen configurations; empty while the search goes on."""
        return self.run.configurations or ()

    @property
    def name(self) -> str:
        """Of the run."""
        return self.search.get("name") or self.folder.name

    @property
    def codes(self) -> list[str]:
        """The run's instruments in score order, then unknown codes."""
        found = list(self.search.get("settings", {}).get("instruments") or [])
        found += [code for code in self.results["final"] if code not in found]
        found += [code for job in self.finals.values() for code in job.losses if code not in found]
        order = list(INSTRUMENTS)
        return sorted(dict.fromkeys(found), key=lambda code: order.index(code) if code in order else len(order))

    @property
    def caveats(self) -> Mapping[str, str]:
        """How an instrument's scores must be read, by code."""
        return self.search.get("caveats", {})

    @functools.cached_property
    def shown(self) -> dict[str, Job]:
        """The trials that tables and figures show: all, or of more than MOST_SHOWN as many.

        Those are the finalists' and the reference network's, the best that completed, and some of the others, evenly
        spaced.
        """
        if len(self.trials) <= MOST_SHOWN:
            return dict(self.trials)
        kept = {self.reference, *(str(one.get("trial", "")) for one in self.finalists)} & self.trials.keys()
        ended = [job for job in self.trials.values() if job.state == "completed" and job.ratios]
        best = sorted(ended, key=_last_ratio)[: MOST_SHOWN // 2]
        kept |= {job.id for job in best}
        kept |= set(spaced([id for id in self.trials if id not in kept], MOST_SHOWN - len(kept)))
        return {id: job for id, job in self.trials.items() if id in kept}

    @property
    def reference(self) -> str:
        """The id of the reference network's trial."""
        return self.search.get("reference", "")


def gather_facts(folder: Path) -> RunFacts:
    """Read a run's folder; a sample that is damaged becomes one of the `problems`.

    Raises:
        UserError: the journal cannot be read, is damaged, or does not hold what a run writes.
    """
    events = list(read_run(folder / JOURNAL))
    run, problems = reduce_events(events, history=True), []
    audit = None
    try:
        audit = audit_rungs(run.search, events) if run.search else None
    except UserError as error:
        problems.append(f"Rungs and parameters are not shown: {error}.")
    samples = {}
    for code, path in sample_folders(folder).items():
        try:
            samples[code] = _with_candidates(read_sample(path))
        except UserError as error:
            problems.append(f"The sample of {code} is not shown: {one_line(error)}.")
    return RunFacts(folder, run, build_results(run), audit, samples, problems)


def _with_candidates(sample: Sample) -> Sample:
    """The sample with the estimates and predictions of other candidates beside its own, MOST_CANDIDATES at most."""
    audio, spectrograms = dict(sample.audio), dict(sample.spectrograms)
    for name, candidate in list(sample.candidates.items())[:MOST_CANDIDATES]:
        audio[name] = candidate.audio["estimate"]
        spectrograms[name] = candidate.spectrograms["prediction"]
    return replace(sample, audio=audio, spectrograms=spectrograms)
