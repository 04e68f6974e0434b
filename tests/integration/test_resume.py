"""A search that is cut off anywhere goes on where it was: plans and journal, without Ray and without training."""

import random
from collections import Counter
from pathlib import Path

import pytest
from optuna.trial import TrialState
from planned_search import EPOCHS, FINALISTS, TRIALS, ratio, search_plan

from sepsearch.search.journal import Journal, read_journal
from sepsearch.search.protocol import RETURNED, JobOutcome
from sepsearch.search.retraining import FinalPlan
from sepsearch.search.scheduler import SearchPlan
from sepsearch.search.stopping.asha import Rungs
from sepsearch.utils.storage import open_storage


@pytest.fixture(autouse=True)
def memory_is_safe_enough(monkeypatch):
    """No machine crashes here, so nothing has to reach the disk; that saves most of the time."""
    monkeypatch.setattr("sepsearch.search.journal.os.fsync", lambda file: None)


class Killed(Exception):
    """The process is gone."""


class DyingJournal(Journal):
    """Kills at a given event, before it is written, half-way or after it."""

    def __init__(self, path: Path, resume: bool, left: int, how: str):
        super().__init__(path, resume)
        self.left, self.how = left, how

    def append(self, event):
        self.left -= 1
        if self.left > 0 or self.left < 0:
            super().append(event)
            return
        if self.how == "before":
            raise Killed
        super().append(event)
        if self.how == "half":
            with self.path.open("r+b") as file:
                file.truncate(self._end.size - 7)
        raise Killed


def drive(plan, workers: int, order: random.Random) -> None:
    """Workers that train made-up curves from their checkpoints, which are as new as what they reported."""
    running: dict[str, list] = {}
    while True:
        while len(running) < workers and (unit := plan.next()):
            done = getattr(plan, "trials", None) or plan.runs
            running[unit[0]] = [unit[1]["params"], done[unit[0]].epochs]
        if not running:
            break
        unit = order.choice(sorted(running))
        params, epoch = running[unit]
        if epoch >= EPOCHS:  # its checkpoint leaves nothing to train
            del running[unit]
            plan.ended(unit, RETURNED)
            continue
        running[unit][1] = epoch = epoch + 1
        numbers = {"epoch": epoch, "ratio": ratio(params, epoch), "seconds": 1.0, "examples_per_second": 1.0}
        member = {"instrument": "vn", "val_loss": numbers["ratio"], "ratio": numbers["ratio"], "discontinuity": False}
        if plan.result(unit, numbers | {"members": [member]}):
            del running[unit]
            plan.ended(unit, RETURNED)
    assert plan.finished()


def live_through(folder: Path, kills: list[tuple[int, str]], workers: int = 1, **choices) -> SearchPlan:
    """A search that is killed at each of `kills` (after how many events, how), and resumed."""
    path = folder / "journal.jsonl"
    for life, (left, how) in enumerate([*kills, (-1, "")]):
        journal = DyingJournal(path, path.exists(), left, how)
        plan = search_plan(folder, journal, **choices)
        try:
            if life:
                plan.restore(read_journal(path))
                journal.append({"event": "resume", "units": plan.unfinished(), "changed": {}})
                plan.resume()
            drive(plan, workers, random.Random(life))
        except Killed:
            pass
        finally:
            journal.close()
    return plan


def facts(plan: SearchPlan) -> list[tuple]:
    return [(t.id, t.params, t.epochs, t.ratio, t.state, t.reason) for t in plan.trials.values()]


def study(plan: SearchPlan) -> list[tuple]:
    return [(t.params, t.state, t.value, t.intermediate_values, t.user_attrs) for t in plan.sampler.study.trials]


def check_whole(plan: SearchPlan, folder: Path) -> None:
    """Nothing lost, nothing doubled, journal and study agree."""
    events = list(read_journal(folder / "journal.jsonl"))
    epochs = Counter((e["id"], e["epoch"]) for e in events if e["event"] == "epoch")
    ends = Counter(e["id"] for e in events if e["event"] == "trial_end")
    assert set(epochs.values()) == set(ends.values()) == {1}
    assert set(ends) == set(plan.trials) == {f"t{number:04d}" for number in range(TRIALS)}
    assert all(sum(unit == t.id for unit, _ in epochs) == t.epochs for t in plan.trials.values())
    states = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
    told = {trial.user_attrs["trial"]: trial.state for trial in plan.sampler.study.trials}
    assert told == {trial.id: states[trial.state] for trial in plan.trials.values()}


@pytest.mark.parametrize("how", ["before", "half", "after"])
def test_killed_at_any_event_and_resumed_a_search_ends_as_if_it_had_never_been_killed(how, tmp_path):
    whole = live_through(tmp_path / "whole", [])
    events = len(list(read_journal(tmp_path / "whole" / "journal.jsonl")))
    assert events > 2 * TRIALS
    for at in range(1, events + 1):
        folder = tmp_path / str(at)
        plan = live_through(folder, [(at, how)])
        assert facts(plan) == facts(whole), at
        assert plan.rungs.values == whole.rungs.values
        assert study(plan) == study(whole)
        check_whole(plan, folder)


@pytest.mark.parametrize("stopping", ["asha_promotion", "pasha", "curve_model"])
def test_killed_at_any_event_it_ends_the_same_with_every_early_stopping_method(stopping, tmp_path):
    whole = live_through(tmp_path / "whole", [], stopping=stopping)
    for at in range(1, len(list(read_journal(tmp_path / "whole" / "journal.jsonl"))) + 1):
        folder = tmp_path / str(at)
        plan = live_through(folder, [(at, ("before", "half", "after")[at % 3])], stopping=stopping)
        assert facts(plan) == facts(whole), at
        assert plan.rungs.values == whole.rungs.values
        assert study(plan) == study(whole)
        check_whole(plan, folder)


@pytest.mark.parametrize(
    "choices", [{"sampler": "random"}, {"sampler": "qmc"}, {"tell": "extrapolated"}, {"spared_share": 0.5}]
)
def test_killed_again_and_again_it_still_ends_the_same(choices, tmp_path):
    whole = live_through(tmp_path / "whole", [], **choices)
    order = random.Random(1)
    kills = [(order.randint(2, 9), order.choice(["before", "half", "after"])) for _ in range(12)]
    plan = live_through(tmp_path / "killed", kills, **choices)
    assert facts(plan) == facts(whole)
    assert study(plan) == study(whole)


@pytest.mark.parametrize("seed", range(6))
def test_with_several_workers_nothing_is_lost_or_doubled_and_the_rungs_are_those_of_the_journal(seed, tmp_path):
    order = random.Random(seed)
    kills = [(order.randint(2, 12), order.choice(["before", "half", "after"])) for _ in range(10)]
    plan = live_through(tmp_path, kills, workers=3)
    check_whole(plan, tmp_path)
    judged = Rungs(1, 2, EPOCHS)
    for event in read_journal(tmp_path / "journal.jsonl"):
        if event["event"] == "epoch" and event["epoch"] < EPOCHS:
            rung = judged.report(event["id"], event["epoch"], event["ratio"])
            assert (rung is not None) == (plan.trials[event["id"]].reason == f"stopped at rung {event['epoch']}")
    assert judged.values == plan.rungs.values


def test_a_trial_whose_worker_dies_goes_on_until_it_has_died_too_often(tmp_path):
    plan = search_plan(tmp_path, Journal(tmp_path / "journal.jsonl"), retries=2)
    unit, params = plan.next()
    for attempt in (1, 2):
        plan.ended(unit, JobOutcome("died", "worker died: out of memory"))
        assert plan.trials[unit].state == ""
        assert plan.next() == (unit, params), attempt
    plan.ended(unit, JobOutcome("died", "worker died: out of memory"))
    assert (plan.trials[unit].state, plan.trials[unit].reason) == ("failed", "worker died: out of memory (3 times)")
    assert plan.next()[0] == "t0001"
    retries = [e["attempt"] for e in read_journal(plan.journal.path) if e["event"] == "retry"]
    assert retries == [1, 2]


def test_deaths_before_a_kill_count_after_it(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    plan = search_plan(tmp_path, journal, retries=1)
    unit, _ = plan.next()
    plan.ended(unit, JobOutcome("died", "worker died"))
    journal.close()
    again = search_plan(tmp_path, Journal(tmp_path / "journal.jsonl", resume=True), retries=1)
    again.restore(read_journal(tmp_path / "journal.jsonl"))
    again.resume()
    assert again.next()[0] == unit
    again.ended(unit, JobOutcome("died", "worker died"))
    assert again.trials[unit].state == "failed"


def test_a_plan_is_not_finished_while_a_trial_may_still_come_back(tmp_path):
    plan = search_plan(tmp_path, Journal(tmp_path / "journal.jsonl"))
    units = [plan.next()[0] for _ in range(TRIALS)]
    assert plan.next() is None
    assert not plan.finished()
    plan.ended(units[0], JobOutcome("died", "worker died"))
    assert plan.next()[0] == units[0]


def test_what_nobody_will_train_ends_with_the_reason(tmp_path):
    plan = search_plan(tmp_path, Journal(tmp_path / "journal.jsonl"))
    unit, _ = plan.next()
    plan.give_up("time budget")
    assert (plan.trials[unit].state, plan.trials[unit].reason) == ("stopped", "time budget")


def test_a_spared_trial_reaches_the_full_budget_and_says_where_it_would_have_been_stopped(tmp_path):
    plan = live_through(tmp_path, [], spared_share=1.0)
    spared = [trial for trial in plan.trials.values() if trial.spared is not None]
    assert spared
    assert all((t.state, t.epochs, t.reason) == ("completed", EPOCHS, f"spared at rung {t.spared}") for t in spared)
    assert all(t.id not in plan.rungs.values[rung] for t in spared for rung in plan.rungs.values if rung > t.spared)


def test_checkpoints_of_ended_trials_are_removed_and_those_of_interrupted_ones_stay(tmp_path):
    plan = search_plan(tmp_path, Journal(tmp_path / "journal.jsonl"))
    plan._checkpoints = open_storage(tmp_path)
    first, second = plan.next()[0], plan.next()[0]
    for unit in (first, second):
        (tmp_path / f"{unit}.checkpoint").touch()
    plan.ended(first, JobOutcome("raised", "exception: planted"))
    plan.ended(second, JobOutcome("halted", "interrupted"))
    assert [path.name for path in tmp_path.glob("*.checkpoint")] == [f"{second}.checkpoint"]


class WithWeights(FinalPlan):
    """Makes the weights that a worker would leave."""

    def ended(self, unit, ending):
        if self.runs[unit].epochs >= self.epochs:
            (self.folder / unit).mkdir(parents=True, exist_ok=True)
        super().ended(unit, ending)


def retrain(folder: Path, kills: list[tuple[int, str]]) -> FinalPlan:
    path = folder / "journal.jsonl"
    for life, (left, how) in enumerate([*kills, (-1, "")]):
        journal = DyingJournal(path, path.exists(), left, how)
        plan = WithWeights(FINALISTS, [1, 2], journal, folder / "finalists", EPOCHS)
        try:
            if life:
                plan.restore(read_journal(path))
                journal.append({"event": "resume", "units": plan.unfinished(), "changed": {}})
                plan.resume()
            drive(plan, 1, random.Random(life))
        except Killed:
            pass
        finally:
            journal.close()
    return plan


@pytest.mark.parametrize("how", ["before", "half", "after"])
def test_finalists_resume_seed_by_seed(how, tmp_path):
    whole = retrain(tmp_path / "whole", [])
    for at in range(1, len(list(read_journal(tmp_path / "whole" / "journal.jsonl"))) + 1):
        plan = retrain(tmp_path / str(at), [(at, how)])
        assert list(plan.runs) == list(whole.runs) == ["c0-s1", "c0-s2", "c1-s1", "c1-s2"]
        assert [(r.epochs, r.members, r.state) for r in plan.runs.values()] == [
            (r.epochs, r.members, r.state) for r in whole.runs.values()
        ]


def test_a_finalist_whose_weights_are_gone_is_trained_again(tmp_path):
    retrain(tmp_path, [])
    (tmp_path / "finalists" / "c0-s1").rmdir()
    again = FinalPlan(
        FINALISTS, [1, 2], Journal(tmp_path / "journal.jsonl", resume=True), tmp_path / "finalists", EPOCHS
    )
    again.restore(read_journal(tmp_path / "journal.jsonl"))
    assert list(again.unfinished()) == ["c0-s1"]
    again.resume()
    assert again.next()[0] == "c0-s1"
