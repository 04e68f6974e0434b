"""Facts of runs side by side: budgets, best trials, best ratio so far, final models, significance of differences."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.runs.comparison.comparability import data_problems, differing_values, instrument_problem
from sepsearch.runs.comparison.significance import LEVEL, WelchTest, holm, sample_problem, welch_test
from sepsearch.runs.job import Job
from sepsearch.runs.locate import locate_journal
from sepsearch.runs.results import build_results
from sepsearch.runs.run_folder import JOURNAL
from sepsearch.runs.state import RunState
from sepsearch.runs.tables import seed_rows
from sepsearch.runs.verdict import judge_models
from sepsearch.search.journal import read_run
from sepsearch.utils.errors import UserError

MOST_RUNS = 12  # colours and dashes of figures; more lines cannot be told apart
LOWER, HIGHER, EQUAL = "lower loss", "higher loss", "no difference shown"


class Improvement(NamedTuple):
    """A smallest ratio so far: epochs of all trials and seconds of the search until then, the trial that reached it."""

    epochs: int
    seconds: float
    ratio: float
    trial: str


@dataclass(frozen=True)
class Final:
    """An instrument's chosen model in one run; numbers that do not exist are None.

    `ratios` are those of its configuration's seeds on validation titles, `mean` and `sd` theirs, `gain` the SI-SDR gain
    on test titles in dB, `verdict` a word of `runs.verdict`.
    """

    configuration: str
    trial: str
    ratios: tuple[float, ...]
    mean: float | None
    sd: float | None
    interval: tuple[float, float] | None
    test_ratio: float | None
    gain: float | None
    verdict: str


@dataclass(frozen=True)
class ComparedRun:
    """One run: `label` is its name, or how it was given where two have one name; `workers`: most trials at once."""

    label: str
    given: str
    run: RunState
    workers: int

    @functools.cached_property
    def results(self) -> Mapping[str, Any]:
        """As `results.json` has them."""
        return build_results(self.run)

    @functools.cached_property
    def trials(self) -> Mapping[str, Job]:
        """By id, in the order in which they began."""
        return self.run.jobs_of("search")

    @property
    def epochs(self) -> int:
        """Epochs trained by all trials of the search; those of finalists do not count."""
        return sum(job.epochs for job in self.trials.values())

    @property
    def state(self) -> str:
        """How the run ended, or "not finished"."""
        return self.run.end or "not finished"

    @functools.cached_property
    def progress(self) -> list[Improvement]:
        """The smallest ratio so far of any trial at any epoch: a point for each improvement, and one at the end."""
        points = sorted(((one.at, job.id, one.ratio) for job in self.trials.values() for one in job.history), key=_at)
        found: list[Improvement] = []
        for number, (at, id, ratio) in enumerate(points, 1):
            if ratio is not None and (not found or ratio < found[-1].ratio):
                found.append(Improvement(number, at, ratio, id))
        if found:
            found.append(found[-1]._replace(epochs=len(points), seconds=points[-1][0]))
        return found

    @functools.cached_property
    def finals(self) -> Mapping[str, Final]:
        """By instrument; of a run without scores the configurations that lead so far, without test scores."""
        final = self.results["final"]
        verdicts = {one.instrument: one.kind for one in judge_models(final, self.results["baselines"])}
        rows = [row for row in seed_rows(self.run) if row["state"] == "completed" and row["ratio"] is not None]
        found = {}
        for code in self.run.codes:
            scored, (choice, _) = final.get(code, {}), self.run.chosen(code)
            if not scored and choice is None:
                continue
            configuration = scored.get("configuration") or (choice.finalist.id if choice else "")
            own = [row for row in rows if (row["instrument"], row["configuration"]) == (code, configuration)]
            found[code] = Final(
                configuration,
                own[0]["trial"] if own else "",
                tuple(row["ratio"] for row in own),
                scored.get("ratio_mean", choice.ratio_mean if choice else None),
                scored.get("ratio_sd", choice.ratio_sd if choice else None),
                scored.get("ratio_interval", choice.interval if choice else None),
                scored.get("test_ratio"),
                scored.get("si_sdr_gain_db"),
                verdicts.get(code, ""),
            )
        return found


def _at(point: tuple[float, str, float | None]) -> float:
    return point[0]


@dataclass(frozen=True)
class SignificanceTest:
    """Comparison of one instrument's final models, `run` with the first run.

    `test` is None with the reason in `problem`; `corrected` is its p-value after Holm's correction over all tests.
    """

    instrument: str
    run: str
    seeds: tuple[int, int]
    test: WelchTest | None
    problem: str = ""
    corrected: float | None = None

    @property
    def conclusion(self) -> str:
        """LOWER, HIGHER or EQUAL at LEVEL, of `run` beside the first run; "not comparable" without a test."""
        if self.test is None or self.corrected is None:
            return "not comparable"
        if self.corrected >= LEVEL:
            return EQUAL
        return LOWER if self.test.ratio < 1 else HIGHER


@dataclass(frozen=True)
class Comparison:
    """Runs side by side; the others are compared with the first."""

    runs: Sequence[ComparedRun]

    @property
    def labels(self) -> list[str]:
        """Of the runs."""
        return [one.label for one in self.runs]

    @property
    def first(self) -> ComparedRun:
        """The run that the others are compared with."""
        return self.runs[0]

    @functools.cached_property
    def codes(self) -> list[str]:
        """Instruments that any run has."""
        found = {code for one in self.runs for code in one.run.codes}
        return [code for code in INSTRUMENTS if code in found] + sorted(found - INSTRUMENTS.keys())

    @functools.cached_property
    def problems(self) -> Mapping[str, Sequence[str]]:
        """By label: why ratios of a run are not of the first run's data; runs of the same data are left out."""
        found = {one.label: data_problems(self.first.run, one.run) for one in self.runs[1:]}
        return {label: problems for label, problems in found.items() if problems}

    @functools.cached_property
    def differences(self) -> Sequence[tuple[str, Sequence[str]]]:
        """Keys of spaces, settings, data and versions that differ, with a text for each run."""
        return differing_values([one.run for one in self.runs])

    @functools.cached_property
    def tests(self) -> Sequence[SignificanceTest]:
        """Every other run against the first on every instrument that both have a final model of."""
        found = [
            self._test(code, other)
            for other in self.runs[1:]
            for code in self.codes
            if code in self.first.finals and code in other.finals
        ]
        tested = [number for number, one in enumerate(found) if one.test]
        corrected = holm([test.p for number in tested if (test := found[number].test)])
        for number, value in zip(tested, corrected, strict=True):
            one = found[number]
            found[number] = SignificanceTest(one.instrument, one.run, one.seeds, one.test, one.problem, value)
        return found

    def _test(self, code: str, other: ComparedRun) -> SignificanceTest:
        one, two = self.first.finals[code].ratios, other.finals[code].ratios
        problem = "; ".join(self.problems.get(other.label, ()))
        problem = problem or instrument_problem(self.first.run, other.run, code) or sample_problem(one, two)
        return SignificanceTest(
            code, other.label, (len(one), len(two)), None if problem else welch_test(one, two), problem
        )


def gather_comparison(given: Sequence[str], runs: Path, copies: Path) -> Comparison:
    """Read runs from their journals.

    Args:
        given: names, paths or URIs of runs (`runs.locate`), each run once.
        runs: folder of run folders.
        copies: an empty folder for journals that are elsewhere.

    Raises:
        UserError: a run is not there, has not begun, is damaged, or is given twice; or there are more than MOST_RUNS.
    """
    if len(given) > MOST_RUNS:
        raise UserError(f"RUN: found {len(given)} runs, expected at most {MOST_RUNS}: compare fewer at once")
    found: list[tuple[str, RunState, int]] = []
    for number, text in enumerate(given):
        folder = copies / str(number)
        folder.mkdir()
        state, workers = _read(locate_journal(text, runs, folder), text)
        for other, before, _ in found:
            if before.search["run"] == state.search["run"]:
                raise UserError(f"RUN {text}: the same run as {other}, expected each run once: leave one out")
        found.append((text, state, workers))
    names = [state.name for _, state, _ in found]
    compared = [
        ComparedRun(state.name if names.count(state.name) == 1 else text, text, state, workers)
        for text, state, workers in found
    ]
    for one in compared:
        _require_whole(one)
    return Comparison(compared)


def _require_whole(one: ComparedRun) -> None:
    """Raise `UserError` for a run whose events lack what is compared: they were made by hand."""
    try:
        _ = one.results, one.progress, one.finals, one.run.constant_gain()
        data_problems(one.run, one.run)
        differing_values([one.run])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        problem = f"an event lacks what is compared ({type(error).__name__}: {error})"
        raise UserError(f"RUN {one.given}: {problem}, expected what a run writes: restore {JOURNAL}") from error


def _read(journal: Path, given: str) -> tuple[RunState, int]:
    """The state of a run with all epochs, and how many trials ran at once at most."""
    run, workers = RunState(history=True), 0
    for event in read_run(journal):
        run.handle(event)
        workers = max(workers, sum(job.stage == "search" for job in run.running.values()))
    if not run.search:
        raise UserError(f"RUN {given}: {JOURNAL} is empty, expected a run that has begun: leave it out")
    return run, workers
