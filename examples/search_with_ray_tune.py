"""Search any function's parameters with sepsearch's ASHA and Optuna searcher in a plain `tune.Tuner`.

python examples/search_with_ray_tune.py [FOLDER]     # where Ray Tune and the rungs are stored; ray-example by default
"""

import sys
from pathlib import Path

import optuna
from ray import tune

from sepsearch.distributed.halving_scheduler import AsyncHalvingScheduler
from sepsearch.distributed.study_search import StudySearch


def train(config):
    for epoch in range(1, 10):
        tune.report({"loss": (config["rate"] - 0.1) ** 2 + 1 / epoch})


def search(folder):
    searcher = StudySearch(max_t=9, sampler=optuna.samplers.TPESampler(seed=0))
    tuner = tune.Tuner(
        train,
        param_space={"rate": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            num_samples=12,
            max_concurrent_trials=2,
            search_alg=searcher,
            scheduler=AsyncHalvingScheduler(max_t=9, grace_period=1, reduction_factor=3, log=f"{folder}/rungs.jsonl"),
        ),
        run_config=tune.RunConfig(name="example", storage_path=str(folder)),
    )
    return tuner.fit(), searcher._ot_study


if __name__ == "__main__":
    _, study = search(Path(sys.argv[1] if len(sys.argv) > 1 else "ray-example").resolve())
    print(f"best of {len(study.trials)} trials: rate {study.best_params['rate']:.3f}, loss {study.best_value:.4f}")
