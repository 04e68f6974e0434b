"""Mapping of a journal's events to MLflow: names, tags, parameters, metrics and states of runs, without MLflow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sepsearch.reporting.curves import draw_curves, png
from sepsearch.reporting.size_plots import measures, size_figure, size_points
from sepsearch.reporting.style import REFERENCE
from sepsearch.runs.state import RunState
from sepsearch.search.events import (
    ContinueEvent,
    EndEvent,
    EpochEvent,
    Event,
    FinalEvent,
    FinalistsEvent,
    JobEndEvent,
    ResumeEvent,
    ScoresEvent,
    SearchEvent,
    TrialEvent,
)
from sepsearch.tracking.descriptions import describe
from sepsearch.tracking.final_models import NAMED_SCORES, FinalRuns
from sepsearch.tracking.records import PARENT, Work, flat, yaml_bytes
from sepsearch.training.metrics import mean_and_sd

MEMBER_METRICS = ("ratio", "val_loss", "train_loss", "identity_loss", "gradient_norm", "zero_share")
STATUS = {"completed": "FINISHED", "stopped": "FINISHED", "finished": "FINISHED", "failed": "FAILED"}  # else KILLED
IDENTITY = ("event", "time", "name", "run")  # of a search, which no resuming changes


class Projection:
    """Turns events into `Work`, without MLflow.

    Args:
        folder: of the run, where the run report, pictures and audio are; without it MLflow gets none.

    Attributes:
        work: what is still to be written, by run.
        state: of the run.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.work: dict[str, Work] = {}
        self.state = RunState(history=True)
        self._starts: dict[str, int] = {}
        self._ends = 0  # where an end is taken back, a step is still not used twice
        self._final = FinalRuns(self._run, folder, self.state)
        self._outdated = False  # the figures
        self._stopped = False  # the run says that its search was stopped
        self._report: tuple[str, int] | None = None  # the run report's file, and when it was written

    @property
    def search(self) -> SearchEvent:
        """The event "search" with all later changes; empty before it."""
        return self.state.search

    def apply(self, event: Event) -> None:
        """Add what follows from one event to `work`."""
        if not self.state.search and event["event"] != "search":
            raise ValueError("no search event came before it")
        before = self.state.search
        if event["event"] in ("resume", "continue") and (strangers := event["units"].keys() - self.state.jobs.keys()):
            raise ValueError(f"resumed, but never begun: {', '.join(sorted(strangers))}")
        self.state.handle(event)
        self._map(event, int(event["time"] * 1000), before)

    def _map(self, event: Event, now: int, before: SearchEvent) -> None:
        match event["event"]:
            case "search":
                self._search(event, now)
            case "trial" | "final":
                self._child(event, now)
            case "epoch" | "final_epoch":
                self._epoch(event, now)
            case "spared":
                self._run(event["id"], now).tags["spared"] = str(event["rung"])
            case "paused":
                self._run(event["id"], now).tags["state"] = "paused"
            case "promoted":
                self._begin(event["id"], now)
            case "retry" if self._shown(event["id"]):
                tags = {"retries": str(event["attempt"]), "last_retry": event["reason"]}
                self._run(event["id"], now).tags |= tags
            case "trial_end" | "final_end":
                self._finish(event, now)
            case "resume" | "continue":
                self._resume(event, now, before)
            case "search_stopped":
                self._run(PARENT, now).tags["stopped"] = f"{event['rule']}: {event['reason']}"
                self._stopped = True
            case "finalists":
                self._finalists(event, now)
            case "eliminated":
                self._final.eliminated(event, now)
            case "scores":
                self._scores(event, now)
            case "registered":
                self._final.registered(event["models"], now)
                self._describe(now)
            case "report":
                self._report = (event["file"], now)
            case "end":
                self._end(event, now)

    def _shown(self, id: str) -> bool:
        """Whether a job has a run: of training without one title no model comes, only a score."""
        return self.state.jobs[id].stage != "leave-one-title-out"

    def _is_reference(self, id: str) -> bool:
        """Whether a job trains the reference network."""
        run = self.state.finals.get(id)
        return run.finalist.reference if run else id == self.search["reference"]

    def _run(self, id: str, now: int) -> Work:
        return self.work.setdefault(id, Work(id, self._starts.setdefault(id, now)))

    def _begin(self, id: str, now: int) -> Work:
        run = self._run(id, now)
        run.tags["state"] = "running"
        run.status = ("RUNNING", now)
        return run

    def _close(self, id: str, now: int, state: str) -> Work:
        run = self._run(id, now)
        run.tags["state"] = state
        run.status = (STATUS.get(state, "KILLED"), now)
        return run

    def _search(self, event: SearchEvent, now: int) -> None:
        run = self._begin(PARENT, now)
        run.params |= _settings(event)
        run.metric("seconds/prepare", event["seconds"], now)
        if known := event.get("known"):
            run.tags["warm_start"] = ", ".join(f"{one['name']}: {len(one['trials'])} trials" for one in known)
        self._search_facts(now)

    def _search_facts(self, now: int) -> None:
        """All that the search depends on, but for the parameters, which cannot be changed."""
        run, search = self._run(PARENT, now), self.search
        run.tags |= {"stage": "search", "fingerprint": search["dataset"].get("fingerprint", "")}
        run.tags["versions"] = ", ".join(f"{name} {version}" for name, version in search["versions"].items())
        run.files["space.yaml"] = yaml_bytes(search["space"])
        run.files["dataset.yaml"] = yaml_bytes({**search["dataset"], "baselines": search["baselines"]})
        self._describe(now)

    def _resume(self, event: ResumeEvent | ContinueEvent, now: int, before: SearchEvent) -> None:
        """The same runs go on: an end that an interruption, or the end of the run, gave them is taken back."""
        run = self._begin(PARENT, now)
        if event["event"] == "continue":
            run.tags["extended"] = f"to {self.search['settings']['trials']} trials"
            if self._stopped:
                run.tags["stopped"], self._stopped = "", False
        else:
            run.tags["resumed"] = str(self.state.resumes)
        for id, epoch in event["units"].items():
            if self._shown(id):
                self._begin(id, now).tags |= {"reason": "", "epochs": str(epoch)}
        if any(key not in IDENTITY for key in event["changed"]):
            old, new = _settings(before), _settings(self.search)
            tags = {key: new.get(key, "") for key in {**old, **new} if old.get(key) != new.get(key)}
            self._run(PARENT, now).tags |= {f"changed/{key}": value for key, value in sorted(tags.items())}
            self._search_facts(now)

    def _child(self, event: TrialEvent | FinalEvent, now: int) -> None:
        run = self._begin(event["id"], now)
        run.params |= flat(event["params"])
        run.metric("parameters", self.state.jobs[event["id"]].size, now)
        if event["event"] == "trial":
            run.tags["stage"] = "trial"
        else:
            # Of all instruments: those with an instrument's own code hold a final model.
            run.tags |= {"stage": "finalist", "instrument": "all", "configuration": event["configuration"]}
            run.tags["seed"] = str(event["seed"])
        if self._is_reference(event["id"]):
            run.tags["reference"] = "true"

    def _epoch(self, event: EpochEvent, now: int) -> None:
        id, epoch = event["id"], event["epoch"]
        run = self._run(id, now)
        run.metric("ratio", event["ratio"], now, epoch)
        run.metric("examples_per_second", event.get("examples_per_second"), now, epoch)
        for member in event["members"]:
            for key in MEMBER_METRICS:
                run.metric(f"{key}/{member['instrument']}", member.get(key), now, epoch)
        run.metric("discontinuities", self.state.jobs[id].jumps, now, epoch)

    def _finish(self, event: JobEndEvent, now: int) -> None:
        job = self.state.jobs[event["id"]]
        # A trial that Ctrl-C ended goes on when the run is resumed: it was killed, not stopped by ASHA.
        run = self._close(job.id, now, "interrupted" if job.interrupted else job.state)
        run.tags |= {"reason": job.reason, "epochs": str(event["epochs"])}
        if job.dead:
            run.tags["dead"] = ", ".join(job.dead)
        if weights := event.get("weights"):
            run.tags["weights"] = weights
        if event["event"] == "final_end":
            self._final.end(event, now)
        elif not job.interrupted:
            self._ends += 1
            parent = self._run(PARENT, now)
            for name in ("completed", "stopped", "failed"):
                parent.metric(f"trials_{name}", self.state.ended["search", name], now, self._ends)
            parent.metric("best_ratio", self.state.best.ratio if self.state.best else None, now, self._ends)

    def _finalists(self, event: FinalistsEvent, now: int) -> None:
        run = self._run(PARENT, now)
        run.tags["finalists"] = ", ".join(f"{c['id']} = {c['trial']}" for c in event["configurations"])
        run.metric("seconds/search", event["seconds"], now)
        if self.search["space"].get("constraints"):
            run.metric("proposals_too_large", self.state.too_large, now)
            run.metric("trials_infeasible", self.state.infeasible, now)
        self._outdated = True

    def _scores(self, event: ScoresEvent, now: int) -> None:
        run, final, reference = self._run(PARENT, now), event["final"], event["reference_final"]
        for code, scores in final.items():
            run.metric(f"final_ratio/{code}", scores["ratio"], now)
            for key in ("test_ratio", "si_sdr_gain_db", "identity_loss", *NAMED_SCORES):
                run.metric(f"{key}/{code}", scores.get(key), now)
        for code, scores in reference.items():
            run.metric(f"reference_ratio/{code}", scores["ratio"], now)
        for key, table in (("final_ratio_mean", final), ("reference_ratio_mean", reference)):
            ratios = [scores["ratio"] for scores in table.values() if scores["ratio"] is not None]
            run.metric(key, mean_and_sd(ratios)[0], now)
        run.metric("seconds/retrain", event["seconds"], now)
        self._final.scores(event, now)
        self._describe(now)

    def _end(self, event: EndEvent, now: int) -> None:
        for id in sorted({*self.state.running, *self.state.paused}):
            if self._shown(id):
                self._close(id, now, "interrupted")
        self._close(PARENT, now, event["state"])
        self._outdated = True

    def _describe(self, now: int) -> None:
        text = describe(self.search, self.state.scores, self.state.models)
        self._run(PARENT, now).tags["mlflow.note.content"] = text

    def draw(self) -> None:
        """Add figures, the report page and audio, where events since the last time call for them.

        Once for many events: figures take seconds.

        Raises:
            UserError: the pictures or the audio of a final model are damaged.
        """
        if self._outdated:
            self._outdated = False
            run = self._run(PARENT, self._starts[PARENT])
            for name, figure in draw_curves(*self._curves()):
                run.files[f"curves/{name}.png"] = png(figure)
            for name, figure in self._sizes():
                run.files[f"size/{name}.png"] = png(figure)
        if self._report and self.folder:
            (name, now), self._report = self._report, None
            file = self.folder / Path(name).name
            if file.is_file():
                self._run(PARENT, now).files[file.name] = file.read_bytes()
        self._final.add_samples()

    def _sizes(self) -> Iterator[tuple[str, Any]]:
        """Figures of the trials' ratios against the size and the speed of their networks, where these are known."""
        limits = self.search["space"].get("constraints") or {}
        trials = self.state.jobs_of("search")
        colours = {id: REFERENCE for id in trials if self._is_reference(id)}
        points = size_points(trials, limits, {id: f"{id} (reference)" for id in colours}, colours)
        for measure, name in zip(measures(limits), ("ratio_by_parameters", "ratio_by_speed"), strict=True):
            if any(measure.value(point) is not None for point in points):
                yield name, size_figure(points, measure)

    def _curves(self) -> tuple[dict[str, dict[str, list[tuple[int, float]]]], dict[str, float], set[str]]:
        """Validation losses by instrument and job, identity losses by instrument, ids of the reference network's."""
        curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
        jobs = [job for job in self.state.jobs.values() if self._shown(job.id)]
        for job in jobs:
            for code, points in job.losses.items():
                if known := [(epoch, loss) for epoch, loss in points if loss is not None]:
                    curves.setdefault(code, {})[job.id] = known
        identity = self.search["baselines"].get("validation", {}).get("identity", {})
        return curves, identity, {job.id for job in jobs if self._is_reference(job.id)}


def _settings(search: SearchEvent) -> dict[str, str]:
    """The parameters of a search's run: its settings and, but for the split, its data set."""
    dataset = {key: value for key, value in search["dataset"].items() if key not in ("split", "fingerprint")}
    return flat(search["settings"]) | flat(dataset, "dataset/")
