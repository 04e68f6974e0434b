"""What a worker of a pool runs: a stage's job, or the imports that jobs need before there is a stage."""

from typing import Any

import sepsearch.distributed.trainable as trainable  # torch and all that jobs need, when a worker starts

STAGE = "stage_function"  # key of a job's configuration: reference to what the stage trains with


def run_pooled(config: dict[str, Any]) -> None:
    """Run a job with its stage's function; one without a stage says that its worker is ready."""
    import ray
    from ray import tune

    if STAGE not in config:
        tune.report({"epoch": 1, "ratio": 1.0, "ready": trainable.__name__})
        return
    ray.get(config[STAGE])({key: value for key, value in config.items() if key != STAGE})
