"""The peers: what their documentation, or somebody who knows them well, would write for the task of `task.py`.

    python drivers.py optuna|ray_plain|ray_expert|syne_tune   # in an empty folder with data.pt; again: goes on

None of them ends by itself: peers.py kills them.
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import task

MANY = 100_000  # trials


def optuna() -> None:
    """One of two processes on one study, TPE with constant liar, successive halving."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    from sepsearch.search.sampling.optuna_space import suggest

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, data = task.space(), task.load_data(Path())

    def objective(trial: optuna.Trial) -> float:
        found = [1.0]

        def report(epoch: int, ratio: float, state: Any) -> None:
            found[0] = ratio
            trial.report(ratio, epoch)
            if epoch < task.space().search.epochs and trial.should_prune():
                raise optuna.TrialPruned

        try:
            task.train(suggest(space, trial), data, f"t{trial.number}", report)
        finally:
            task.trace_end(f"t{trial.number}")
        return found[0]

    seed = int(os.environ[task.SEED]) * 1000 + int(os.environ["PEERS_PROCESS"])
    study = optuna.create_study(
        study_name="peers",
        storage=JournalStorage(JournalFileBackend("optuna.log")),
        sampler=optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=task.space().search.startup_trials, constant_liar=True
        ),
        pruner=optuna.pruners.SuccessiveHalvingPruner(
            min_resource=task.space().search.grace_epochs, reduction_factor=task.space().search.reduction_factor
        ),
        load_if_exists=True,
    )
    study.optimize(objective, catch=(Exception,))


def ray_plain() -> None:
    """`tune.Tuner` with random search and nothing else set."""
    from ray import tune

    seed = int(os.environ[task.SEED])
    domains: dict[str, Any] = {}
    for name, parameter in task.space().parameters.items():
        if parameter.choices is not None:
            domains[name] = tune.choice(list(parameter.choices))
        elif steps := parameter.steps:
            domains[name] = tune.randint(steps[0], steps[-1] + 1)
        else:
            domains[name] = tune.loguniform(parameter.low, parameter.high)

    def train(config: dict[str, Any], data: Any) -> None:
        name = tune.get_context().get_trial_id()
        task.train(config, data, name, lambda epoch, ratio, state: tune.report({"ratio": ratio, "epoch": epoch}))

    trainable = tune.with_parameters(train, data=task.load_data(Path()))
    if tune.Tuner.can_restore(str(Path("plain").absolute())):
        tuner = tune.Tuner.restore(str(Path("plain").absolute()), trainable, resume_unfinished=True)
    else:
        from ray.tune.search.basic_variant import BasicVariantGenerator

        tuner = tune.Tuner(
            trainable,
            param_space=domains,
            tune_config=tune.TuneConfig(
                metric="ratio",
                mode="min",
                num_samples=MANY,
                search_alg=BasicVariantGenerator(max_concurrent=2, random_state=seed),
            ),
            run_config=tune.RunConfig(name="plain", storage_path=str(Path().absolute()), callbacks=[end_tracer()]),
        )
    tuner.fit()


def ray_expert() -> None:
    """TPE, ASHA, workers that are reused, data in the object store, a checkpoint after every epoch."""
    import optuna
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    ray.init(log_to_driver=False, logging_level="error")
    seed = int(os.environ[task.SEED])
    trainable = tune.with_parameters(train_checkpointed, data=task.load_data(Path()))
    path = str(Path("expert").absolute())
    if tune.Tuner.can_restore(path):
        tuner = tune.Tuner.restore(path, trainable, resume_unfinished=True, resume_errored=True)
    else:
        sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=task.space().search.startup_trials, constant_liar=True
        )
        asha = ASHAScheduler(
            time_attr="epoch",
            max_t=task.space().search.epochs,
            grace_period=task.space().search.grace_epochs,
            reduction_factor=task.space().search.reduction_factor,
        )
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                metric="ratio",
                mode="min",
                num_samples=MANY,
                search_alg=OptunaSearch(define, sampler=sampler, metric="ratio", mode="min"),
                scheduler=asha,
                max_concurrent_trials=2,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="expert", storage_path=str(Path().absolute()), verbose=0, callbacks=[end_tracer()]
            ),
        )
    tuner.fit()


def end_tracer() -> Any:
    """A callback of Ray Tune that writes down which trials have ended."""
    from ray import tune

    class EndTracer(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            task.trace_end(trial.trial_id)

    return EndTracer()


def define(trial: Any) -> None:
    """The space, define-by-run."""
    from sepsearch.search.sampling.optuna_space import suggest

    suggest(task.space(), trial)


def train_checkpointed(config: dict[str, Any], data: Any) -> None:
    """A trial of the expert's: it goes on from its checkpoint after its worker died."""
    from ray import tune

    from sepsearch.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from sepsearch.utils.storage import open_storage

    state = None
    if before := tune.get_checkpoint():
        with before.as_directory() as folder:
            found = load_checkpoint(open_storage(folder), "state", {})
            assert found is not None
            state = found.state

    def report(epoch: int, ratio: float, state: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(open_storage(folder), "state", {}, Checkpoint(state(), {}, {}))
            checkpoint = tune.Checkpoint.from_directory(folder)
            tune.report({"ratio": ratio, "epoch": epoch}, checkpoint=checkpoint)

    task.train(config, data, tune.get_context().get_trial_id(), report, state)


def syne_tune() -> None:
    """ASHA with its model-based sampler (CQR), two local workers, and a process per trial as the backend has it."""
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend import LocalBackend
    from syne_tune.config_space import choice, loguniform, randint
    from syne_tune.optimizer.baselines import ASHACQR
    from syne_tune.tuner_callback import TunerCallback

    class EndTracer(TunerCallback):
        """Writes down which trials have ended."""

        def on_trial_result(self, trial: Any, status: str, result: Any, decision: str) -> None:
            if decision != "CONTINUE":
                task.trace_end(str(trial.trial_id))

        def on_trial_complete(self, trial: Any, result: Any) -> None:
            task.trace_end(str(trial.trial_id))

    domains: dict[str, Any] = {}
    for name, parameter in task.space().parameters.items():
        if parameter.choices is not None:
            domains[name] = choice(list(parameter.choices))
        elif steps := parameter.steps:
            domains[name] = randint(steps[0], steps[-1])
        else:
            domains[name] = loguniform(parameter.low, parameter.high)
    saved = sorted(Path(os.environ["SYNETUNE_FOLDER"]).glob("*/tuner.dill"))
    if saved:
        with contextlib.suppress(Exception):  # then it begins anew
            Tuner.load(str(saved[-1].parent)).run()
    scheduler = ASHACQR(
        {**domains, "folder": str(Path().absolute())},
        metric="ratio",
        time_attr="epoch",
        max_t=task.space().search.epochs,
        grace_period=task.space().search.grace_epochs,
        reduction_factor=task.space().search.reduction_factor,
        random_seed=int(os.environ[task.SEED]),
    )
    Tuner(
        trial_backend=LocalBackend(entry_point=str(Path(__file__).with_name("syne_trial.py")), num_gpus_per_trial=0),
        scheduler=scheduler,
        stop_criterion=StoppingCriterion(max_num_trials_started=MANY),
        n_workers=2,
        sleep_time=0.5,  # 5 by default: it would look for results that seldom
        max_failures=MANY,
        tuner_name="peers",
        callbacks=[EndTracer()],
    ).run()


if __name__ == "__main__":
    {"optuna": optuna, "ray_plain": ray_plain, "ray_expert": ray_expert, "syne_tune": syne_tune}[sys.argv[1]]()
