"""A search of 1,500 trials, 150 at once, on simulated workers: what the driver does for a trial does not grow."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TRIALS, AT_ONCE, TENTH = 1500, 150, 150

# In a process of its own: Ray's settings are read when it is imported.
SEARCH = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from bench_scale import CODES, EPOCHS, Stopwatch, build
from scale_workers import SimulatedActors, reports, simulated
from sepsearch.search.protocol import StopSignal, Workers
from sepsearch.distributed.session import ray_session

folder = Path(sys.argv[2])
plan, journal = build(folder, 1500, Stopwatch())
facts = {"seen": [], "kept": [], "results": [], "open": []}
with ray_session(cpus=1, dashboard=False):
    from ray.tune.execution.tune_controller import TuneController
    from sepsearch.distributed import tune_runner

    controllers, ended = [], 0
    before = TuneController.__init__

    def note(controller, *arguments, **options):
        before(controller, *arguments, **options)
        controllers.append(controller)

    def handle(event):
        global ended
        if event["event"] == "trial_end":
            ended += 1
            if ended % 150 == 0:
                controller = controllers[0]
                tables = [value for value in vars(controller).values() if isinstance(value, list | set | dict)]
                facts["seen"].append(plan.sampler.study._storage.seen)
                facts["kept"].append(max(map(len, tables)))
                facts["results"].append(SimulatedActors.handled)
                facts["open"].append(sum(asked.live is not None for asked in plan.sampler._asked.values()))

    TuneController.__init__ = note
    journal.listen(handle)
    with simulated(lambda config: reports(config, EPOCHS, CODES)):
        tune_runner.run_stage("search", plan, lambda config: None, Workers(150, 1.0, 0.0), folder / "ray", StopSignal())
states = [trial.state for trial in plan.trials.values()]
facts["states"] = {state: states.count(state) for state in sorted(set(states))}
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scale")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "TUNE_"))}
    command = [sys.executable, "-c", SEARCH, str(ROOT / "scripts" / "benchmarks"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def tenths(totals: list[int]) -> list[int]:
    return [later - earlier for earlier, later in itertools.pairwise(totals)]


def test_every_trial_comes_to_its_end(facts):
    assert sum(facts["states"].values()) == TRIALS
    assert set(facts["states"]) == {"completed", "stopped"}


def test_the_sampler_looks_at_as_many_trials_for_the_last_as_for_those_in_the_middle(facts):
    seen = tenths(facts["seen"])
    # The last tenth asks for none: all have begun.
    assert max(seen[-4:-1]) <= 1.1 * max(seen[3:5])


def test_ray_tunes_controller_keeps_those_that_run_and_forgets_the_others(facts):
    assert max(facts["kept"]) <= 3 * AT_ONCE + 32


def test_the_sampler_holds_what_it_needs_to_report_for_running_trials_alone(facts):
    assert max(facts["open"]) <= AT_ONCE + 1


def test_a_trial_takes_as_many_results_at_the_end_as_before(facts):
    results = tenths(facts["results"])
    assert max(results) < 10 * TENTH
