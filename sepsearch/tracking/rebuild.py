"""Write a run into MLflow from its journal: add what is missing there, duplicate nothing."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sepsearch.runs.results import write_results
from sepsearch.runs.run_folder import JOURNAL
from sepsearch.search.journal import Journal, read_run
from sepsearch.tracking.descriptions import champion_lines
from sepsearch.tracking.mapping import Projection
from sepsearch.tracking.registry import register_models
from sepsearch.tracking.server_errors import refused_status, why_away, without_password
from sepsearch.tracking.tracker import make_writer, tracking_uri
from sepsearch.utils.errors import UserError
from sepsearch.utils.progress import Progress, Steps

Answer = TypeVar("Answer")
TRIES, PAUSE = 4, 0.5  # until MLflow counts as away, and the seconds between them
LONGEST = 10.0  # seconds after which there is no further try


def open_journal(path: Path) -> Journal | str:
    """The journal, opened for writing; or why it can only be read, such as a search that writes to it."""
    try:
        return Journal(path, resume=True)
    except UserError as error:
        return str(error)  # for a damaged file, reading it raises the same


class Rebuild:
    """Rebuilds the MLflow runs of one search.

    Args:
        folder: of the run.
        uri: MLflow's address.
        journal: gets the registered models; or why it can only be read.
        progress: of the stages.
        problems: gets a line for everything that failed.
    """

    def __init__(self, folder: Path, uri: str, journal: Journal | str, progress: Progress, problems: list[str]) -> None:
        self.folder, self.uri, self.journal, self.progress, self.problems = folder, uri, journal, progress, problems
        self.projection = Projection(folder)
        self.notes: list[str] = []
        self.writer = make_writer(uri, lambda text: problems.append(f"not recorded: {text}"), folder)
        self.wanted = self.recorded = 0  # runs of the journal, and those of them that MLflow has
        self.registered: dict[str, str] = {}

    def runs(self) -> None:
        """Send the journal. The turn is held, since a search that is running does not see the runs created here."""
        with self.writer.turn.taken():
            path = self.folder / JOURNAL
            for event in read_run(path):
                self.projection.apply(event)
            run = self.projection.state
            if not run.search:
                raise UserError(f"{path}: empty, expected a search that has begun: wait for it or run it again")
            if not run.end and not isinstance(self.journal, str):
                # The journal has no end and no search writes to it: none of its MLflow runs is running any more.
                self.projection.apply({"event": "end", "time": run.written, "state": "interrupted"})
            try:
                self.projection.draw()
            except UserError as error:  # a damaged picture or sound
                self.problems.append(str(error))
            wanted = set(self.projection.work)
            self._send("sending runs")
            recorded = self._asking(lambda: self.writer.recorded(self.projection.search))
            self.wanted, self.recorded = len(wanted), len(wanted & recorded)

    def models(self) -> None:
        """Register the chosen models that the run's folder still holds, unless a running search will do that."""
        scores = self.projection.state.scores
        chosen = scores["final"] if scores else {}
        folders = {code: self.folder / "models" / code for code in chosen}
        folders = {code: folder for code, folder in folders.items() if folder.is_dir()}
        run_id = self.writer.run_id(self.projection.search["run"])
        if not folders or isinstance(self.journal, str) or run_id is None:
            return
        noted = dict(self.projection.state.models)
        advance = self._steps("registering models", len(folders))
        done = register_models(folders, run_id, self.uri, advance, settled=noted)
        self.registered = done.models
        self.problems += done.problems
        uri = None if self.uri == tracking_uri() else self.uri
        self.notes += champion_lines({code: outcome.facts() for code, outcome in done.outcomes.items()}, uri)
        new = {code: model for code, model in self.registered.items() if code not in noted}
        if new:
            champions = {code: outcome.facts() for code, outcome in done.outcomes.items() if code in new}
            self.journal.append({"event": "registered", "models": new, "champions": champions})
            write_results(self.folder)
        if any(noted.get(code) != model for code, model in self.registered.items()):
            # Version numbers of this MLflow may differ from those in the journal.
            self.projection.apply({"event": "registered", "time": time.time(), "models": self.registered})
            self._send("describing the search")

    def summary(self, name: str) -> str:
        """What was done, in one line."""
        part = "" if self.recorded == self.wanted else f" of {self.wanted}"
        text = f"{name}: {self.recorded}{part} runs are in MLflow at {without_password(self.uri)}"
        if self.problems:
            text += ", but not complete: see the warnings"
        if self.registered:
            text += f"; registered: {', '.join(self.registered.values())}"
        if isinstance(self.journal, str):
            text += f"; no models registered: {self.journal}"
        return text

    def facts(self, name: str) -> dict[str, Any]:
        """What was done, as plain values, with keys as docs/command-line.md lists them."""
        return {
            "name": name,
            "mlflow": without_password(self.uri),
            "runs": self.wanted,
            "recorded": self.recorded,
            "registered": self.registered,
            "not_registered": self.journal if isinstance(self.journal, str) else None,
            "champions": self.notes,
            "problems": self.problems,
        }

    def _steps(self, stage: str, total: int) -> Callable[[], object]:
        return Steps(lambda done, total: self.progress(stage, done, total), total)

    def _send(self, stage: str) -> None:
        search, work = self.projection.search, self.projection.work
        self._asking(lambda: self.writer.write(search, work, self._steps(stage, len(work))))

    def _asking(self, call: Callable[[], Answer]) -> Answer:
        """Result of a call of MLflow, tried a few times; raises `UserError` where it is away."""
        begin = time.monotonic()
        for attempt in range(TRIES):
            try:
                return call()
            except Exception as error:  # MLflow's errors and its database's
                if attempt + 1 == TRIES or time.monotonic() - begin > LONGEST:
                    start = "" if refused_status(error) else "start it, or "
                    raise UserError(
                        f"MLflow at {without_password(self.uri)} cannot be reached ({why_away(error)}): {start}name"
                        " another with --uri, then run this again"
                    ) from error
            time.sleep(PAUSE)
        raise AssertionError("the last try returns or raises")
