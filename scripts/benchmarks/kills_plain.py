"""The driver of the kill benchmark's other side: plain Ray Tune as its documentation shows it, and its measures.

`Tuner.restore` with `ASHAScheduler`, `OptunaSearch` and `MLflowLoggerCallback`; a checkpoint every epoch. The training,
the data, the space and the seeds are sepsearch's. Epochs are traced as on the other side; beyond that the program
writes down what ASHA decides, which changes nothing.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kills_life import append_line, read_lines, serve, traced

MODULES = ("torch", "optuna", "mlflow", "ray", "ray.tune", "ray.tune.search.optuna", "ray.air.integrations.mlflow")
GRACE, FACTOR, EPOCHS = 2, 3, 18
# OptunaSearch keeps its study in memory by default, and with it in Ray Tune's snapshots.
STORED = bool(os.environ.get("KILLS_STORED_STUDY"))


def train(config: dict[str, Any]) -> None:
    """A trial: `sepsearch.training.loop.fit` with a checkpoint and a report after every epoch."""
    import torch
    from ray import tune

    from sepsearch.models.families import make_config
    from sepsearch.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from sepsearch.training.loop import fit
    from sepsearch.training.members import Member
    from sepsearch.utils.storage import open_storage

    torch.set_num_threads(1)
    unit = tune.get_context().get_trial_id()
    data = torch.load(config["data"], weights_only=False)
    network = make_config(config["params"])
    state = None
    if before := tune.get_checkpoint():
        with before.as_directory() as folder:
            found = load_checkpoint(open_storage(folder), "state", {})
            assert found is not None
            state = found.state
    batches = max(1, round(config["examples_per_epoch"] / network.training.batch_size))
    members = [Member(code, config["seed"]) for code in config["instruments"]]
    results = fit(network, data, members, epochs=EPOCHS, batches_per_epoch=batches, state=state)
    for result in traced(results, unit, state.epoch + 1 if state else 1, EPOCHS):
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(open_storage(folder), "state", {}, Checkpoint(result.state(), {}, {}))
            checkpoint = tune.Checkpoint.from_directory(folder)
            tune.report({"epoch": result.epoch, "ratio": result.ratio}, checkpoint=checkpoint)


def suggest(trial: Any) -> dict[str, Any]:
    """The space of `bench_kills.SPACE`, define-by-run."""
    from sepsearch.spaces.space import load_space

    values: dict[str, Any] = {}
    for name, parameter in load_space(Path("../space.yaml")).parameters.items():
        if parameter.choices is not None:
            values[name] = trial.suggest_categorical(name, parameter.choices)
        else:
            values[name] = trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log)
    return values


def prepare_data(folder: Path, seed: int) -> Path:
    """The data set of sepsearch's own side, in a file that workers load."""
    import torch

    from sepsearch.data.dataset import Dataset, Rows
    from sepsearch.data.preparation import prepare
    from sepsearch.data.prepared import gather_data
    from sepsearch.data.shards import spectrograms
    from sepsearch.spaces.space import load_space

    path = folder / "data.pt"
    if not path.exists():
        space = load_space(folder.parent / "space.yaml")
        recordings, shards = prepare(folder.parent / "recordings", space.front_end.resolve(), lambda *args: None)
        prepared = gather_data(
            recordings, shards, ("vn", "vc"), seed, space.split.fractions, space.search.validation_examples
        )
        rows = Rows([spectrograms(table) for table in shards.tables()], "cpu")
        data = Dataset(rows, prepared.examples, prepared.baselines["validation"]["identity"])
        torch.save(data, folder / "data.tmp")
        (folder / "data.tmp").rename(path)
    return path


def arguments(folder: Path, trials: int, seed: int, workers: int, failures: int) -> list[str]:
    """Trials, seed, workers, and the number of the experiment: a new one after two processes in a row have failed."""
    number = folder / "experiment"
    current = int(number.read_text()) if number.exists() else 0
    if failures and failures % 2 == 0:
        current += 1
    number.write_text(str(current))
    return [str(trials), str(seed), str(workers), str(current)]


def searched(folder: Path) -> bool:
    """Whether the search is over."""
    return (folder / "results.json").exists()


def run(argv: list[str]) -> None:
    """Begin the search, or restore it where Ray Tune says it can be restored."""
    trials, seed, workers, number = map(int, argv)
    import optuna
    import ray
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    from sepsearch.spaces.space import load_space

    folder = Path.cwd()
    data = prepare_data(folder, seed)
    space = load_space(folder.parent / "space.yaml")
    log_decisions(ASHAScheduler, folder / "decisions.jsonl")
    studies = remember_studies(OptunaSearch)
    ray.init(include_dashboard=False, log_to_driver=False)
    complete = {"data": str(data), "seed": seed, "instruments": ["vn", "vc"]}
    complete["examples_per_epoch"] = space.search.examples_per_epoch

    def trainable(config: dict[str, Any]) -> None:
        train({"params": space.complete(config), **complete})

    path = folder / "ray" / f"plain{number}"
    event = "restored"
    if tune.Tuner.can_restore(str(path)):
        tuner = tune.Tuner.restore(str(path), trainable, resume_unfinished=True, resume_errored=True)
    else:
        event = "begun"
        search = OptunaSearch(
            suggest,
            metric="ratio",
            mode="min",
            study_name="plain",
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=space.search.startup_trials),
            storage=JournalStorage(JournalFileBackend(str(folder / "study.log"))) if STORED else None,
        )
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                num_samples=trials,
                max_concurrent_trials=workers,
                search_alg=search,
                scheduler=ASHAScheduler(
                    time_attr="epoch",
                    metric="ratio",
                    mode="min",
                    max_t=EPOCHS,
                    grace_period=GRACE,
                    reduction_factor=FACTOR,
                ),
            ),
            run_config=tune.RunConfig(
                name=path.name,
                storage_path=str(path.parent),
                verbose=0,
                callbacks=[
                    MLflowLoggerCallback(tracking_uri=os.environ["MLFLOW_TRACKING_URI"], experiment_name="plain")
                ],
            ),
        )
    append_line(folder / "events.jsonl", {"life": int(os.environ["KILLS_LIFE"]), "event": event, "time": time.time()})
    results = tuner.fit()
    found = [
        {
            "id": r.metrics.get("trial_id"),
            "epoch": r.metrics.get("epoch"),
            "ratio": r.metrics.get("ratio"),
            "error": str(r.error or ""),
        }
        for r in results
    ]
    study = [trial.state.name for trial in studies[-1].trials] if studies else None
    (folder / "results.json").write_text(json.dumps({"trials": found, "study": study}))


def remember_studies(search: type) -> list[Any]:
    """The studies that searchers of this class use, the one in use last; filled as the search goes on."""
    studies: list[Any] = []

    def remembering(method: Any) -> Any:
        def call(self: Any, *arguments: Any, **options: Any) -> Any:
            if self._ot_study is not None:
                studies[:] = [self._ot_study]
            return method(self, *arguments, **options)

        return call

    for name in ("suggest", "on_trial_result", "on_trial_complete"):
        setattr(search, name, remembering(getattr(search, name)))
    return studies


def log_decisions(scheduler: type, path: Path) -> None:
    """Have every decision of a scheduler's class written down as it is taken."""
    decide = scheduler.on_trial_result

    def on_trial_result(self: Any, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision: str = decide(self, controller, trial, result)
        line = {"life": int(os.environ["KILLS_LIFE"]), "unit": trial.trial_id, "epoch": result.get("epoch")}
        append_line(path, {**line, "ratio": result.get("ratio"), "decision": decision, "time": time.time()})
        return decision

    scheduler.on_trial_result = on_trial_result  # type: ignore[attr-defined]


def measure(folder: Path, trials: int) -> dict[str, Any]:
    """What Ray Tune, the study and MLflow say of the search in the end, and what its schedulers did."""
    from kills_ours import mlflow_facts

    found = json.loads((folder / "results.json").read_text())
    results, study = found["trials"], found["study"]
    runs, points = mlflow_facts(folder / "mlflow.db", "trial_name")
    wrong, late, passed, differ = judged(read_lines(folder / "decisions.jsonl"))
    begun = {line["unit"] for line in read_lines(folder / "trace.jsonl")}
    kept = {result["id"] for result in results}
    return {
        "trials": len(results),
        "lost trials": len(begun - kept),
        "doubled trials": len(results) - len(kept),
        "killed by forgotten rungs": wrong,
        "passed forgotten rungs": passed,
        "late values in rungs": late,
        "zombie trials": sum(state in ("RUNNING", "WAITING") for state in study),
        "study trials": len(study),
        "doubled runs": sum(n - 1 for n, _ in runs.values()),
        "unended runs": sum(open for _, open in runs.values()),
        "doubled points": sum(n - 1 for n in points.values()),
        "units": sorted(kept),
        "errors": sum(bool(result["error"]) for result in results),
        "begun anew": sum(event["event"] == "begun" for event in read_lines(folder / "events.jsonl")),
        "unexplained decisions": differ,
    }


def judged(decisions: list[dict[str, Any]]) -> tuple[int, int, int, int]:
    """Every decision beside that of one ASHA, Ray Tune's own, that was never killed and heard of all epochs in order.

    Returns: trials that were stopped and would have passed; values of later epochs that trials left in a rung; trials
    that passed a rung and would have been stopped; decisions that an ASHA as empty as the process's would not take.
    """
    from types import SimpleNamespace

    from ray.tune.schedulers.async_hyperband import _Bracket

    whole, condemned, stopped, passed = _Bracket(GRACE, EPOCHS, FACTOR, 0), {}, set(), set()
    late = differ = 0
    life, own = None, whole
    for line in decisions:
        if line["life"] != life:
            life, own = line["life"], _Bracket(GRACE, EPOCHS, FACTOR, 0)
        trial, epoch, reward = SimpleNamespace(trial_id=line["unit"]), line["epoch"], -line["ratio"]
        stop = line["decision"] == "STOP"
        if epoch >= EPOCHS:
            continue
        late += sum(epoch > rung for rung in _written(own, trial, epoch, reward, stop, line))
        differ += line.pop("differs")
        if line["unit"] not in condemned and whole.on_result(trial, epoch, reward) == "STOP":
            condemned[line["unit"]] = epoch
        if stop and line["unit"] not in condemned:
            stopped.add(line["unit"])
        if not stop and condemned.get(line["unit"]) == epoch:
            passed.add(line["unit"])
    return len(stopped), late, len(passed), differ


def _written(own: Any, trial: Any, epoch: int, reward: float, stop: bool, line: dict[str, Any]) -> list[int]:
    """Give a value to a process's own ASHA; the rungs that it was recorded in."""
    before = {rung: len(row) for rung, row in own._rungs}
    line["differs"] = (own.on_result(trial, epoch, reward) == "STOP") != stop
    if stop:  # Ray Tune gives it the last result once more when the trial has ended
        own.on_result(trial, epoch, reward)
    return [rung for rung, row in own._rungs if len(row) > before[rung]]


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve(run, MODULES)
    else:
        run(sys.argv[1:])
