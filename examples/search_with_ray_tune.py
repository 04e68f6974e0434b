"""Search any function's parameters with sepsearch's ASHA and Optuna searcher in a plain `tune.Tuner`.

python examples/search_with_ray_tune.py [FOLDER]     # where Ray Tune and the rungs are stored; ray-example by default
"""

import sys
from pathlib import Path

import optuna
from ray import tune

from sepsearch.distributed.halving_scheduler import AsyncHalvingScheduler, RungFile
from sepsearch.distributed.study_search import StudySearch
from sepsearch.search.sampling.optuna_study import OptunaStudy


def train(config):
    for epoch in range(1, 10):
        tune.report({"loss": (config["rate"] - 0.1) ** 2 + 1 / epoch})


def search(folder):
    space = {"rate": optuna.distributions.FloatDistribution(0, 1)}
    study = OptunaStudy(space, sampler=optuna.samplers.TPESampler(seed=0), stopped="extrapolated")
    rungs = RungFile(f"{folder}/rungs.jsonl", max_t=9, grace_period=1, reduction_factor=3)
    config = tune.TuneConfig(
        metric="loss",
        mode="min",
        num_samples=12,
        max_concurrent_trials=2,
        search_alg=StudySearch(study, "loss", max_t=9),
        scheduler=AsyncHalvingScheduler(rungs),
    )
    run = tune.RunConfig(name="example", storage_path=str(folder))
    return tune.Tuner(train, tune_config=config, run_config=run).fit(), study.study


if __name__ == "__main__":
    _, study = search(Path(sys.argv[1] if len(sys.argv) > 1 else "ray-example").resolve())
    print(f"best of {len(study.trials)} trials: rate {study.best_params['rate']:.3f}, loss {study.best_value:.4f}")
