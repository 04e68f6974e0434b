"""A run as a Python object: its state, its numbers as pandas data frames, its models."""

import html
import shutil
import tempfile
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.data.instruments import parse_codes
from sepsearch.models.saved_model import load_model
from sepsearch.pipeline.model_handle import Model
from sepsearch.pipeline.python_caller import python_errors
from sepsearch.pipeline.run_tables import curves_table, finalists_table, trials_table
from sepsearch.runs.folder import fetch_run, follow_run
from sepsearch.runs.results import build_results
from sepsearch.runs.run_folder import JOURNAL
from sepsearch.runs.state import RunState
from sepsearch.runs.verdict import Verdict, best_instrument, decibels, judge_models, verdict_sentences
from sepsearch.search.journal import Follower
from sepsearch.search.run_lock import lock_holder
from sepsearch.utils.errors import UserError
from sepsearch.utils.formatting import number

if TYPE_CHECKING:
    from pandas import DataFrame


class Run:
    """A run: finished, interrupted, or still at work; made by `search`, `resume` and `open_run`.

    Everything is read from the run's journal when it is asked for, so that a run that is at work can be looked at
    again and again, from any process that sees its folder or storage. Nothing is written but by `report`, and where a
    run in a bucket is brought to this machine.

    Attributes:
        name: of the run.
        folder: of the run on this machine; `best` and `report` bring a run from a bucket there.

    Args:
        name: of the run.
        runs: folder of run folders.
        storage: where the run is, if not there: a shared folder, or a URI such as s3://bucket/runs.

    Raises:
        UserError: there is no such run.
    """

    def __init__(self, name: str, runs: Path, storage: str | None = None):
        self.name = name
        copies = Path(tempfile.mkdtemp(prefix="sepsearch-run-"))  # of a journal in a bucket; removed with this object
        weakref.finalize(self, shutil.rmtree, copies, ignore_errors=True)
        found, self._refresh = follow_run(runs, storage, name, copies)
        self._address = storage if found == copies else None
        self.folder = runs / name if self._address else found
        self._follower, self._read = Follower(), RunState(history=True)

    def _now(self) -> RunState:
        """The state, with what was written since the last look; raises `UserError` for a damaged journal."""
        with python_errors():
            for event in self._follower.read(self._refresh()):
                self._read.handle(event)
        return self._read

    def _here(self) -> Path:
        """The run's folder on this machine, with what the bucket has now."""
        if self._address:
            fetch_run(self._address, self.name, self.folder)
        return self.folder

    @property
    def state(self) -> str:
        """ "running", "finished", "interrupted", "failed", or "killed": no end was written, and no process is at work.

        Of a run in a bucket "killed" means that nothing was written for long (5 minutes and 3 epochs).
        """
        run = self._now()
        if run.end:
            return run.end
        if self._address:
            return "killed" if run.silence(time.time()) else "running"
        return "running" if lock_holder(self.folder / JOURNAL) else "killed"

    @property
    def results(self) -> dict[str, Any]:
        """The content of `results.json` as it is now; what does not exist yet is empty or None."""
        return build_results(self._now())

    @property
    def trials(self) -> "DataFrame":
        """Trials of the search in the order in which they began, a row each, by id (the index, `trial`).

        Columns:

        - `reference`: whether it is the reference network. `state`: "running", "completed", "stopped" or "failed";
          `reason`: why it was stopped or failed, else "".
        - `epochs`: done so far. `seconds`: how long they took together. `finished_at`: seconds of the search when the
          last one was done, without pauses of an interrupted run.
        - `ratio`: after the last epoch, validation loss / identity loss, mean over instruments; below 1 beats doing
          nothing. `best_ratio`: the smallest of its epochs. `ratio_vn`, …: of each instrument after the last epoch. NaN
          where there is none.
        - `exempt`: whether it ran on where early stopping would have ended it. `dead`: codes of the instruments whose
          network puts out nothing but zeros, separated by spaces.
        - `params_filters`, …: its configuration; missing where its family has no such parameter.
        """
        return trials_table(self._now())

    @property
    def curves(self) -> "DataFrame":
        """Learning curves: a row for every epoch and instrument, of trials, finalists and models without one title.

        Columns:

        - `stage`: "search", "finalists" or "leave-one-title-out". `job`: id of the trial ("t0003") or of what was
          trained again ("c0-s1"), with its `configuration` ("c0") and `seed`; a trial has neither.
        - `epoch`: from 1 on. `seconds`: how long it took. `at`: seconds of work on the stage when it was done.
        - `instrument`: its code. `ratio`: `val_loss` / identity loss. `val_loss` and `train_loss`: mean squared errors
          of compressed amplitudes. `discontinuity`: whether the validation loss jumped.
        - `mean_ratio`: mean of `ratio` over instruments, what the search minimizes.
        """
        return curves_table(self._now())

    @property
    def finalists(self) -> "DataFrame":
        """The finalists' models, a row for every instrument, configuration and seed.

        Columns:

        - `candidate`: what `best` takes, such as "c0-s1". `instrument`: its code. `configuration` and `seed`; the
          `trial` that it comes from; `reference`: whether it is the reference network.
        - `state`: "running", "completed", "stopped" or "failed"; `epochs`: done so far.
        - `epoch`: the best one, with its `val_loss` and `ratio` on validation titles. `discontinuities`: how often the
          loss jumped.
        - `chosen`: whether it is the instrument's final model.
        - `test_ratio`, `si_sdr_gain_db` (dB): on test titles, of the best seed of each configuration; else NaN.
        - `ratio_mean`, `ratio_sd`: of `ratio` over the configuration's seeds. `eliminated`: why the configuration gets
          no further seeds, else "".
        - `params_filters`, …: the configuration.
        """
        return finalists_table(self._now())

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """By code of the instrument, whether its final model separates its voice; the largest gain first.

        A verdict has `kind` ("works", "gains a little", "uncertain", "volume knob" or "not scored"), `gain` (SI-SDR on
        test titles, dB), `reason` and `name`. Empty before the final models are scored.
        """
        run = self._now()
        found = judge_models(run.scores["final"], run.search["baselines"]["validation"]) if run.scores else []
        return {one.instrument: one for one in found}

    def best(self, instrument: str | None = None, candidate: str | None = None) -> Model:
        """The run's final model of an instrument; before there is one, the provisional one of its best trial.

        Args:
            instrument: code or name, such as "vn" or "violin"; the one with the best verdict without it.
            candidate: a finalist's model instead, by its name in `finalists`, such as "c1-s0".

        Raises:
            UserError: an unknown instrument, or no such model (yet).
        """
        from sepsearch.tracking.resolve import choose_models

        with python_errors():
            code = self._best_code() if instrument is None else one_code(instrument)
            folder = self._here()
            if candidate is not None:
                return _candidate(folder, candidate, code)
            return Model(*choose_models([code], str(folder))[code])

    def _best_code(self) -> str:
        results = self.results
        if not results["final"]:
            raise UserError(f"run {self.name}: no final models yet, expected an instrument: name one")
        return best_instrument(results["final"], results["baselines"])

    def report(self) -> Path:
        """Write the run report, one HTML file, from what there is now; gives its path.

        Raises:
            UserError: it cannot be written, or the journal is damaged.
        """
        from sepsearch.reporting.page import write_report

        with python_errors():
            return write_report(self._here())

    def __repr__(self) -> str:
        return f"<run {self.name}: {' '.join(self._sentences())}>"

    def _sentences(self) -> list[str]:
        """State, trials, best so far, and the verdicts."""
        run, state = self._now(), self.state
        ended = sum(run.ended["search", kind] for kind in ("completed", "stopped", "failed"))  # interrupted ones go on
        said = f"{state}, {ended} of {run.wanted('search')} trials"
        said += f", best ratio {number(run.best.ratio)} ({run.best.id})" if run.best else ""
        verdicts = list(self.verdicts.values())
        return [f"{said}.", *(verdict_sentences(verdicts) if verdicts else ())]

    def _repr_html_(self) -> str:
        sentences = "".join(f"<div>{html.escape(sentence)}</div>" for sentence in self._sentences())
        results, rows = self.results, ""
        for code, verdict in self.verdicts.items():
            row = results["final"][code]
            cells = (verdict.kind, decibels(verdict.gain), number(row.get("ratio")), number(row.get("test_ratio")))
            rows += (
                f"<tr><th>{html.escape(verdict.name)}</th>{''.join(f'<td>{html.escape(c)}</td>' for c in cells)}</tr>"
            )
        head = "".join(f"<th>{text}</th>" for text in ("", "verdict", "SI-SDR gain, dB", "ratio", "test ratio"))
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
        return f"<div><strong>{html.escape(self.name)}</strong></div>{sentences}{table}"


def one_code(instrument: str) -> str:
    """The code of one instrument by code or name; raises `UserError` for any other text."""
    codes = parse_codes(str(instrument), "instrument", "one")
    if len(codes) > 1:
        raise UserError(f"instrument: expected one, found {', '.join(codes)}")
    return codes[0]


def _candidate(folder: Path, candidate: str, code: str) -> Model:
    from sepsearch.tracking.finalist_models import make_model, pick_run, read_finals

    finals = read_finals(folder)
    with tempfile.TemporaryDirectory() as temporary:
        made, _ = make_model(finals, pick_run(finals, candidate, code), code, Path(temporary, code))
        return Model(*load_model(made))
