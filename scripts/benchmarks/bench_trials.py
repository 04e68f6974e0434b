"""What a trial costs beyond its training: sepsearch's stages beside plain Ray Tune."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench_table import Figure, Part, Settings

REPEATS = 1
TRIALS = 24
AT_ONCE = 2
EPOCHS = 5
EPOCH_SECONDS = 0.1
AIM = 10.0
PATIENCE = 300  # seconds for one driver
SCRIPTS = Path(__file__).resolve().parent
HOW = f"""\
Seconds a trial costs beyond its training: (wall time × {AT_ONCE} workers − training seconds) / {TRIALS} trials.
{TRIALS} trials, {AT_ONCE} at once, of {EPOCHS} epochs of {EPOCH_SECONDS} s: each trial imports torch as a training
function does, sleeps for its epochs (so that training takes the same time however busy the machine is), reports each
one, and adds up how long its epochs took.

- *sepsearch*: `sepsearch.distributed.tune_runner.run_stage` with a plan that hands out {TRIALS} units.
- *Beside it*: the same function under `ray.tune.Tuner` with `num_samples={TRIALS}, max_concurrent_trials={AT_ONCE}` and
  nothing else set but the folder it writes to: a new process per trial, Ray Tune's own loggers.

Both run in one Ray that was started before the clock; every repeat of each is a driver process of its own, in an
environment of its own, so that none of sepsearch's settings reach plain Ray Tune. The clock runs from the call until it
returns: the start of the two workers is part of it, the start of Ray is not. Aim: a tenth of plain Ray Tune's cost.
"""


def measure(settings: Settings) -> Part:
    """Both in turn, each time in a fresh driver."""
    # As it was before the session below adds sepsearch's settings, and what lets a driver into a Ray on loopback.
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    from sepsearch.distributed.session import ray_session

    ours, plain = [], []
    with ray_session(cpus=AT_ONCE, dashboard=False):
        import ray  # not before the session: Ray reads its settings when it is imported

        address = ray.get_runtime_context().gcs_address
        for _ in range(settings.repeats or REPEATS):
            ours.append(drive("sepsearch", address, environment))
            plain.append(drive("plain", address, environment))
    costs = [[(run["wall"] * AT_ONCE - run["training"]) / TRIALS for run in runs] for runs in (ours, plain)]
    walls = [f"{name} {min(r['wall'] for r in runs):.1f}" for name, runs in (("sepsearch", ours), ("plain", plain))]
    return Part(
        "trials",
        HOW,
        [Figure("a trial beyond its training", "s", *costs, "plain Ray Tune", False, least_ratio=AIM)],
        [
            f"wall time of {TRIALS} trials, best repeat, s: {', '.join(walls)};"
            f" the ideal is {TRIALS * EPOCHS * EPOCH_SECONDS / AT_ONCE:.1f}",
            f"of sepsearch's wall time {median(run['first'] for run in ours):.1f} s pass before the first report:"
            " the start of the workers and their imports, once per stage and not per trial",
        ],
    )


def drive(variant: str, address: str, environment: dict[str, str]) -> dict[str, float]:
    """Run one variant in a driver of its own; returns its "wall" and "training" seconds."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        command = [sys.executable, str(SCRIPTS / "bench_trials.py"), variant, address, folder]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        raise RuntimeError(f"driver of {variant} failed:\n{done.stderr[-2000:]}")
    facts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if facts["ended"] != TRIALS:
        raise RuntimeError(f"{variant}: {facts['ended']} of {TRIALS} trials came to their end:\n{done.stderr[-2000:]}")
    return facts


def train(config: dict[str, Any]) -> None:
    """A trial's training: no more than time that passes, and reports."""
    import time

    import torch  # noqa: F401  what every training function imports
    from ray import tune

    seconds = 0.0
    for epoch in range(1, EPOCHS + 1):
        begin = time.perf_counter()
        time.sleep(EPOCH_SECONDS)
        seconds += time.perf_counter() - begin
        tune.report({"epoch": epoch, "training": seconds})


class Units:
    """A plan of `TRIALS` units that all run to their end; see `sepsearch.search.protocol.Plan`."""

    def __init__(self) -> None:
        self.begun, self.ended_well, self.first_result = 0, 0, 0.0
        self.seconds: dict[str, float] = {}

    def next(self) -> tuple[str, dict[str, Any]] | None:
        """The next unit, until there are enough."""
        if self.begun >= TRIALS:
            return None
        self.begun += 1
        return f"t{self.begun:04d}", {}

    def result(self, unit: str, result: dict[str, Any]) -> None:
        """Remember how long the unit has trained."""
        self.first_result = self.first_result or time.perf_counter()
        self.seconds[unit] = result["training"]

    def ended(self, unit: str, problem: str | None, checkpoint: Path | None) -> None:
        """Count it."""
        self.ended_well += problem is None


def run_sepsearch(address: str, folder: Path) -> dict[str, float]:
    """The trials as a stage of sepsearch."""
    from sepsearch.distributed.session import ray_session

    with ray_session(address=address):
        from sepsearch.distributed.tune_runner import run_stage
        from sepsearch.search.protocol import StopSignal, Workers

        plan = Units()
        begin = time.perf_counter()
        run_stage("bench", plan, train, Workers(AT_ONCE, 1, 0), folder, StopSignal())
        wall = time.perf_counter() - begin
    facts = {"wall": wall, "training": sum(plan.seconds.values()), "ended": plan.ended_well}
    return facts | {"first": plan.first_result - begin}


def run_plain(address: str, folder: Path) -> dict[str, float]:
    """The same trials as the documentation of Ray Tune runs them."""
    import ray
    from ray import tune

    ray.init(address=address)
    begin = time.perf_counter()
    tuner = tune.Tuner(
        train,
        tune_config=tune.TuneConfig(num_samples=TRIALS, max_concurrent_trials=AT_ONCE),
        run_config=tune.RunConfig(storage_path=str(folder)),
    )
    results = tuner.fit()
    wall = time.perf_counter() - begin
    training = sum(result.metrics["training"] for result in results if result.metrics)
    return {"wall": wall, "training": training, "ended": len(results) - results.num_errors}


if __name__ == "__main__":
    run = {"sepsearch": run_sepsearch, "plain": run_plain}[sys.argv[1]]
    print(json.dumps(run(sys.argv[2], Path(sys.argv[3]))))
