"""Stages on a real Ray: failures, ends, reuse of workers, names, stops."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState

from sepsearch.distributed.storage_wait import StorageWait
from sepsearch.search.journal import Journal, read_journal
from sepsearch.search.protocol import StopSignal
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan
from sepsearch.search.stopping.asha import Rungs
from sepsearch.spaces.space import parse_space
from sepsearch.utils.errors import StorageFault


class Listed:
    """A plan that runs given units and remembers what it hears."""

    def __init__(self, units: list[dict]):
        self.units = [(f"u{number}", unit) for number, unit in enumerate(units)]
        self.heard: dict[str, list[dict]] = {}
        self.ends: list[tuple[str, str, str]] = []

    def next(self):
        return self.units.pop(0) if self.units else None

    def finished(self):
        return not self.units

    def give_up(self, reason):
        self.given_up = reason

    def result(self, unit, result):
        self.heard.setdefault(unit, []).append(result)
        return "bad" if result.get("ratio", 0) > 1 else None

    def ended(self, unit, ending):
        self.ends.append((unit, ending.how, ending.reason))


def run(plan, train, workers, tmp_path, stop=None, **options):
    from ray import cloudpickle

    from sepsearch.distributed.tune_runner import run_stage

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests

    run_stage("stage", plan, train, workers, tmp_path / "ray", stop or StopSignal(), **options)


def well(config):
    from ray import tune

    for epoch in range(1, 3):
        tune.report({"epoch": epoch, "ratio": 0.5, "pid": os.getpid()})


def test_every_unit_runs_to_its_end_and_is_told_once(ray_workers, tmp_path):
    plan = Listed([{}] * 5)
    run(plan, well, ray_workers, tmp_path)
    assert sorted(unit for unit, _, _ in plan.ends) == ["u0", "u1", "u2", "u3", "u4"]
    assert {how for _, how, _ in plan.ends} == {"returned"}
    assert all([r["epoch"] for r in heard][:2] == [1, 2] for heard in plan.heard.values())


def test_workers_are_reused_from_unit_to_unit(ray_workers, tmp_path):
    plan = Listed([{}] * 6)
    run(plan, well, ray_workers, tmp_path)
    assert len({result["pid"] for heard in plan.heard.values() for result in heard}) <= ray_workers.concurrent


def test_units_are_seen_under_their_own_id_and_not_under_one_function_name(ray_workers, tmp_path):
    plan = Listed([{}] * 4)

    def named(config):
        from ray import tune

        title = Path(f"/proc/{os.getpid()}/cmdline").read_text()
        tune.report({"epoch": 1, "ratio": 0.5, "title": title})

    run(plan, named, ray_workers, tmp_path)
    assert all(f"ray::{unit}" in heard[0]["title"] for unit, heard in plan.heard.items())


def test_a_reason_from_the_plan_ends_a_unit_at_once(ray_workers, tmp_path):
    def worse(config):
        from ray import tune

        for epoch in range(1, 100):
            tune.report({"epoch": epoch, "ratio": epoch / 2})

    plan = Listed([{}])
    run(plan, worse, ray_workers, tmp_path)
    assert [result["epoch"] for result in plan.heard["u0"]] == [1, 2, 3]
    assert plan.ends == [("u0", "returned", "")]


def test_an_exception_and_a_dead_worker_end_their_own_units_only(ray_workers, tmp_path):
    def train(config):
        from ray import tune

        tune.report({"epoch": 1, "ratio": 0.5})
        if config["how"] == "raise":
            raise ValueError("planted")
        if config["how"] == "die":
            os._exit(1)

    plan = Listed([{"how": "raise"}, {"how": "die"}, {"how": "well"}, {"how": "well"}])
    run(plan, train, ray_workers, tmp_path)
    ends = {unit: (how, reason) for unit, how, reason in plan.ends}
    assert ends["u0"][0] == "raised"
    assert "planted" in ends["u0"][1]
    assert ends["u1"][0] == "died"
    assert "worker died" in ends["u1"][1]
    assert (ends["u2"], ends["u3"]) == (("returned", ""), ("returned", ""))


def test_the_deadline_ends_running_units_with_its_reason_and_starts_no_more(ray_workers, tmp_path):
    def endless(config):
        from ray import tune

        for epoch in range(1, 10_000):
            time.sleep(0.05)
            tune.report({"epoch": epoch, "ratio": 0.5})

    plan = Listed([{}] * 50)
    run(plan, endless, ray_workers, tmp_path, StopSignal(deadline=time.monotonic() + 6))
    assert plan.ends
    assert {end[1:] for end in plan.ends} == {("halted", "time budget")}
    assert plan.units


def plant(config):
    """Of 30 trials 10 fail: by NaN, by a reported failure, by an exception, by the death of the worker."""
    from ray import tune

    number = int(config["id"][1:])
    numbers = {"seconds": 0.0, "examples_per_second": 1.0, "members": []}
    tune.report({"epoch": 1, "ratio": float("nan") if number in (3, 15, 27) else 0.5, **numbers})
    if number in (5, 17, 29):
        tune.report({"failed": "dead: planted"})
        return
    if number in (7, 19):
        raise ValueError("planted")
    if number in (10, 22):
        os._exit(1)
    tune.report({"epoch": 2, "ratio": 0.4 + number / 100, **numbers})


def test_ten_failing_configurations_among_thirty_leave_twenty_good_trials_and_none_running(ray_workers, tmp_path):
    space = parse_space({"parameters": {"filters": {"low": 8, "high": 64}, "head": ["relu", "mask"]}}, "space")
    sampler = Sampler(space, tmp_path / "study.log", "x", seed=0)
    journal = Journal(tmp_path / "journal.jsonl")
    plan = SearchPlan(sampler, Rungs(1, 2, 1), journal, trials=30, epochs=2, seed=0)
    run(plan, plant, ray_workers, tmp_path)
    states = [trial.state for trial in plan.trials.values()]
    assert (states.count("completed"), states.count("failed")) == (20, 10)
    told = [trial.state for trial in sampler.study.trials if "trial" in trial.user_attrs]
    assert (told.count(TrialState.COMPLETE), told.count(TrialState.FAIL), told.count(TrialState.RUNNING)) == (20, 10, 0)
    reasons = {event["reason"] for event in read_journal(journal.path) if event["event"] == "trial_end"}
    assert any("NaN" in reason for reason in reasons)
    assert any("worker died" in reason for reason in reasons)


def test_a_trial_that_was_stopped_before_it_had_a_folder_is_no_error_of_the_stage(ray_workers, tmp_path, monkeypatch):
    from ray.tune.experiment import Trial

    class Late(StopSignal):
        """Says stop as soon as a trial is made, as Ctrl-C in that moment would."""

        def check(self):
            self.reason = self.reason or ("interrupted" if made else "")
            return self.reason

    made = []
    before = Trial.__init__

    def note(trial, *arguments, **options):
        before(trial, *arguments, **options)
        made.append(trial)

    monkeypatch.setattr(Trial, "__init__", note)
    plan = Listed([{}] * 3)
    run(plan, well, ray_workers, tmp_path, Late())
    assert made
    assert plan.given_up == "interrupted"


class Retried(Listed):
    """Hands a unit out again after its first death, and never ends while one is at work."""

    def __init__(self, units: list[dict]):
        super().__init__(units)
        self.working: set[str] = set()
        self.configs = dict(self.units)

    def next(self):
        unit = super().next()
        self.working |= {unit[0]} if unit else set()
        return unit

    def finished(self):
        return not self.units and not self.working

    def ended(self, unit, ending):
        super().ended(unit, ending)
        self.working.discard(unit)
        if ending.how == "deferred" or [how for id, how, _ in self.ends if id == unit].count("died") == 1:
            self.units.append((unit, self.configs[unit]))


@pytest.mark.parametrize("how", ["sleeps", "stopped"])
def test_a_unit_that_hangs_is_ended_and_handed_out_again_and_the_others_go_on(how, ray_workers, tmp_path, monkeypatch):
    def hang(config):
        from ray import tune

        tune.report({"node": "n"})
        tune.report({"epoch": 1, "ratio": 0.5})
        if config["how"] == "sleeps":
            time.sleep(10_000)
        if config["how"] == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        tune.report({"epoch": 2, "ratio": 0.5})

    for name, seconds in {"LEAST": 3.0, "FACTOR": 2.0}.items():
        monkeypatch.setattr(f"sepsearch.distributed.watchdog.{name}", seconds)
    plan = Retried([{"how": how}, {"how": ""}, {"how": ""}, {"how": ""}])
    run(plan, hang, ray_workers, tmp_path)
    assert sorted((unit, how) for unit, how, _ in plan.ends) == [
        ("u0", "died"),
        ("u0", "died"),
        ("u1", "returned"),
        ("u2", "returned"),
        ("u3", "returned"),
    ]
    assert all("worker died: no report for" in reason for unit, _, reason in plan.ends if unit == "u0")


def full(config):
    """Every worker's first try to write fails; so does every try of unit u1."""
    from ray import tune

    tune.report({"node": "n"})
    tried = Path(config["folder"]) / config["id"]
    if config["id"] == "u1" or not tried.exists():
        tried.touch()
        tune.report({"storage": "node n: x.checkpoint: No space left on device", "size": 7})
        return
    tune.report({"epoch": 1, "ratio": 0.5})


def test_where_the_storage_is_full_units_wait_and_go_on_when_it_is_not(ray_workers, tmp_path, monkeypatch):
    monkeypatch.setattr("sepsearch.distributed.storage_wait.EVERY", 0.2)
    faults, said = [StorageFault("full"), StorageFault("full"), None], []

    def probe(size):
        assert size == 7
        if fault := faults.pop(0) if len(faults) > 1 else faults[0]:
            raise fault

    plan = Retried([{"folder": str(tmp_path)}])
    run(plan, full, ray_workers, tmp_path, storage_wait=StorageWait(probe, said.append))
    assert [(unit, how) for unit, how, _ in plan.ends] == [("u0", "deferred"), ("u0", "returned")]
    assert ["trials wait" in said[0], "going on" in said[1]] == [True, True]


def test_where_the_storage_stays_full_the_stage_ends_with_the_fault_and_units_are_given_up(
    ray_workers, tmp_path, monkeypatch
):
    monkeypatch.setattr("sepsearch.distributed.storage_wait.EVERY", 0.1)
    monkeypatch.setattr("sepsearch.distributed.storage_wait.PATIENCE", 0.3)

    def probe(size):
        raise StorageFault("runs/x: No space left on device")

    plan = Retried([{"folder": str(tmp_path)}] * 3)
    with pytest.raises(StorageFault, match="No space left on device"):
        run(plan, full, ray_workers, tmp_path, storage_wait=StorageWait(probe, lambda line: None))
    assert "died" not in {how for _, how, _ in plan.ends}
    assert plan.given_up == "interrupted"


def test_a_journal_that_cannot_be_written_ends_the_stage_with_its_own_error_and_not_with_a_text_of_it(
    ray_workers, tmp_path
):
    class Full(Listed):
        def result(self, unit, result):
            raise StorageFault("journal.jsonl: cannot be written: No space left on device")

        def give_up(self, reason):
            super().give_up(reason)
            raise StorageFault("journal.jsonl: and again")

    plan = Full([{}] * 4)
    with pytest.raises(StorageFault, match="cannot be written") as caught:
        run(plan, well, ray_workers, tmp_path)
    assert type(caught.value) is StorageFault
    assert plan.given_up == "interrupted"
    assert {how for _, how, _ in plan.ends} <= {"halted"}


def test_a_training_task_is_named_by_job_epoch_budget_and_last_ratio():
    from sepsearch.distributed.tune_callbacks import task_name

    assert task_name("t0003", 1, 4) == "t0003 epoch 1/4"
    assert task_name("t0003", 2, 4, 0.38512) == "t0003 epoch 2/4, ratio 0.385"
    assert task_name("t0003", 5, 4, 0.38512) == "t0003 ends, ratio 0.385"
    assert task_name("start-1", 1, 0) == "start-1 epoch 1"
