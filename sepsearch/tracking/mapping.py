"""What the journal's events mean for MLflow: names, tags, parameters, metrics and states of runs, without MLflow."""

import math
from collections import Counter
from pathlib import Path

from sepsearch.reporting.curves import draw_curves, png
from sepsearch.search.events import Event
from sepsearch.tracking.descriptions import describe
from sepsearch.tracking.final_models import FinalRuns
from sepsearch.tracking.records import PARENT, Work, flat, yaml_bytes
from sepsearch.training.metrics import mean_and_sd

MEMBER_METRICS = ("ratio", "val_loss", "train_loss", "identity_loss", "gradient_norm", "zero_share")
STATUS = {"completed": "FINISHED", "stopped": "FINISHED", "finished": "FINISHED", "failed": "FAILED"}  # else KILLED
IDENTITY = ("event", "time", "name", "run")  # of a search, which no resuming changes


class Projection:
    """Turns events into `Work`; knows nothing of MLflow.

    Args:
        folder: of the run, where the report page, pictures and audio are; without it MLflow gets none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.work: dict[str, Work] = {}
        self.search: Event = {}
        self.starts: dict[str, int] = {}
        self.open: set[str] = set()
        self.ratios: dict[str, float] = {}
        self.jumps: Counter[str] = Counter()
        self.states: Counter[str] = Counter()
        self.ended: dict[str, str] = {}  # the trials that `states` counts
        self.ends = self.resumes = 0
        self.best = math.inf
        self.reference: set[str] = set()  # the ids of the report's trial and finalist
        self.curves: dict[str, dict[str, list[tuple[int, float]]]] = {}  # instrument → id → (epoch, validation loss)
        self.identity: dict[str, float] = {}
        self.scores: Event = {}
        self.models: dict[str, str] = {}
        self.final = FinalRuns(self._run, folder)
        self.unshown: set[str] = set()  # trainings without one title: no model comes of them, only a score
        self.outdated = False  # the figures
        self.report: tuple[str, int] | None = None  # the report page's file, and when it was written

    def apply(self, event: Event) -> None:
        """Add what follows from one event to `work`."""
        kind, now = event["event"], int(event["time"] * 1000)
        if not self.search and kind != "search":
            raise ValueError("no search event came before it")
        if kind == "fold":
            self.unshown.add(event["id"])
        if event.get("id") in self.unshown:
            return
        match kind:
            case "search":
                self._search(event, now)
            case "trial" | "final":
                self._child(event, now)
            case "epoch" | "final_epoch":
                self._epoch(event, now)
            case "spared":
                self._run(event["id"], now).tags["spared"] = str(event["rung"])
            case "retry":
                tags = {"retries": str(event["attempt"]), "last_retry": event["reason"]}
                self._run(event["id"], now).tags |= tags
            case "trial_end" | "final_end":
                self._finish(event, now)
            case "resume":
                self._resume(event, now)
            case "finalists":
                self._finalists(event, now)
            case "eliminated":
                self.final.eliminated(event, now)
            case "scores":
                self._scores(event, now)
            case "registered":
                self.models |= event["models"]
                self.final.registered(event["models"], now)
                self._describe(now)
            case "report":
                self.report = (event["file"], now)
            case "end":
                self._end(event, now)

    def _run(self, id: str, now: int) -> Work:
        return self.work.setdefault(id, Work(id, self.starts.setdefault(id, now)))

    def _begin(self, id: str, now: int) -> Work:
        run = self._run(id, now)
        run.tags["state"] = "running"
        run.status = ("RUNNING", now)
        self.open.add(id)
        return run

    def _close(self, id: str, now: int, state: str) -> Work:
        run = self._run(id, now)
        run.tags["state"] = state
        run.status = (STATUS.get(state, "KILLED"), now)
        self.open.discard(id)
        return run

    def _search(self, event: Event, now: int) -> None:
        self.search = event
        self.reference.add(event.get("reference", ""))
        run = self._begin(PARENT, now)
        run.params |= _settings(event)
        run.metric("seconds/prepare", event.get("seconds"), now)
        self._tell_search(now)

    def _tell_search(self, now: int) -> None:
        """All that the search depends on, but for the parameters, which cannot be changed."""
        run, search = self._run(PARENT, now), self.search
        run.tags |= {"stage": "search", "fingerprint": search["dataset"].get("fingerprint", "")}
        run.tags["versions"] = ", ".join(f"{name} {version}" for name, version in search["versions"].items())
        run.files["space.yaml"] = yaml_bytes(search["space"])
        run.files["dataset.yaml"] = yaml_bytes({**search["dataset"], "baselines": search["baselines"]})
        self._describe(now)

    def _resume(self, event: Event, now: int) -> None:
        """The same runs go on: an end that an interruption gave them is taken back."""
        units = {id: epoch for id, epoch in event["units"].items() if id not in self.unshown}
        if strangers := set(units) - set(self.starts):
            raise ValueError(f"resumed, but never begun: {', '.join(sorted(strangers))}")
        self.resumes += 1
        self._begin(PARENT, now).tags["resumed"] = str(self.resumes)
        for id, epoch in units.items():
            self._begin(id, now).tags |= {"reason": "", "epochs": str(epoch)}
            if id in self.ended:
                self.states[self.ended.pop(id)] -= 1
        changed = {key: value for key, value in event["changed"].items() if key not in IDENTITY}
        if changed:
            before = _settings(self.search)
            self.search = {**self.search, **changed}
            after = _settings(self.search)
            tags = {key: after.get(key, "") for key in {**before, **after} if before.get(key) != after.get(key)}
            self._run(PARENT, now).tags |= {f"changed/{key}": value for key, value in sorted(tags.items())}
            self._tell_search(now)

    def _child(self, event: Event, now: int) -> None:
        run = self._begin(event["id"], now)
        run.params |= flat(event["params"])
        if event["event"] == "trial":
            run.tags |= {"stage": "trial"} | ({"reference": "true"} if event["id"] in self.reference else {})
            return
        # Of all instruments: those with an instrument's own code hold a final model.
        run.tags |= {"stage": "finalist", "instrument": "all", "configuration": event["configuration"]}
        run.tags["seed"] = str(event["seed"])
        self.final.begin(event)
        if event["configuration"] in self.reference:
            self.reference.add(event["id"])
            run.tags["reference"] = "true"

    def _epoch(self, event: Event, now: int) -> None:
        id, epoch = event["id"], event["epoch"]
        run = self._run(id, now)
        self.ratios[id] = math.nan if event["ratio"] is None else event["ratio"]
        run.metric("ratio", event["ratio"], now, epoch)
        run.metric("examples_per_second", event.get("examples_per_second"), now, epoch)
        for member in event["members"]:
            code = member["instrument"]
            for key in MEMBER_METRICS:
                run.metric(f"{key}/{code}", member.get(key), now, epoch)
            self.jumps[id] += bool(member.get("discontinuity"))
            if member.get("identity_loss") is not None:
                self.identity[code] = member["identity_loss"]
            if member.get("val_loss") is not None:
                self.curves.setdefault(code, {}).setdefault(id, []).append((epoch, member["val_loss"]))
        run.metric("discontinuities", self.jumps[id], now, epoch)
        self.final.epoch(event)

    def _finish(self, event: Event, now: int) -> None:
        id, state = event["id"], event["state"]
        # A trial that Ctrl-C ended is to go on one day: it was killed, not stopped by anyone's judgement.
        run = self._close(id, now, "interrupted" if event.get("reason") == "interrupted" else state)
        run.tags |= {"reason": event.get("reason") or "", "epochs": str(event["epochs"])}
        if event.get("weights"):
            run.tags["weights"] = event["weights"]
        if event["event"] == "final_end":
            self.final.end(event, now, self.search["name"])
            return
        if event.get("reason") == "interrupted":
            return
        self.states[state] += 1
        self.ended[id] = state
        self.ends += 1  # where an end is taken back, a step is still not used twice
        parent, step = self._run(PARENT, now), self.ends
        for name in ("completed", "stopped", "failed"):
            parent.metric(f"trials_{name}", self.states[name], now, step)
        # A trial that was stopped early is no candidate: only those with the full budget are compared.
        if state == "completed" and event["epochs"] >= self.search["settings"].get("epochs", 0):
            self.best = min(self.best, self.ratios.get(id, math.inf))
        parent.metric("best_ratio", self.best, now, step)

    def _finalists(self, event: Event, now: int) -> None:
        configurations = event["configurations"]
        self.reference |= {c["id"] for c in configurations if c["reference"]}
        self.final.reference |= {c["id"] for c in configurations if c["reference"]}
        run = self._run(PARENT, now)
        run.tags["finalists"] = ", ".join(f"{c['id']} = {c['trial']}" for c in configurations)
        run.metric("seconds/search", event.get("seconds"), now)
        self.outdated = True

    def _scores(self, event: Event, now: int) -> None:
        self.scores, self.models = event, {}
        run, final, reference = self._run(PARENT, now), event["final"], event["reference_final"]
        for code, scores in final.items():
            run.metric(f"final_ratio/{code}", scores["ratio"], now)
            for key in ("test_ratio", "si_sdr_gain_db", "identity_loss"):
                run.metric(f"{key}/{code}", scores.get(key), now)
        for code, scores in reference.items():
            run.metric(f"reference_ratio/{code}", scores["ratio"], now)
        for key, table in (("final_ratio_mean", final), ("reference_ratio_mean", reference)):
            ratios = [scores["ratio"] for scores in table.values() if scores["ratio"] is not None]
            run.metric(key, mean_and_sd(ratios)[0], now)
        run.metric("seconds/retrain", event.get("seconds"), now)
        self.final.scores(event, self.search, now)
        self._describe(now)

    def _end(self, event: Event, now: int) -> None:
        for id in sorted(self.open - {PARENT}):
            self._close(id, now, "interrupted")
        self._close(PARENT, now, event["state"])
        self.outdated = True

    def _describe(self, now: int) -> None:
        text = describe(self.search, self.scores, self.models)
        self._run(PARENT, now).tags["mlflow.note.content"] = text

    def draw(self) -> None:
        """Add figures, the report page and audio, where events since the last time call for them.

        Once for many events: figures take seconds.

        Raises:
            UserError: the pictures or the audio of a final model are damaged.
        """
        if self.outdated:
            self.outdated = False
            run = self._run(PARENT, self.starts[PARENT])
            for name, figure in draw_curves(self.curves, self.identity, self.reference):
                run.files[f"curves/{name}.png"] = png(figure)
        if self.report and self.folder:
            (name, now), self.report = self.report, None
            file = self.folder / Path(name).name
            if file.is_file():
                self._run(PARENT, now).files[file.name] = file.read_bytes()
        self.final.add_samples()


def _settings(search: Event) -> dict[str, str]:
    """The parameters of a search's run: its settings and, but for the split, its data set."""
    dataset = {key: value for key, value in search["dataset"].items() if key not in ("split", "fingerprint")}
    return flat(search["settings"]) | flat(dataset, "dataset/")
