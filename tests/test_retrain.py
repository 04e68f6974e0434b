"""Finalists: which configurations, which model."""

from pathlib import Path

from sepsearch.journal import Journal, read_journal
from sepsearch.plan import RETURNED
from sepsearch.retrain import Finalist, FinalPlan, MemberRun, SeedRun, choose_finalists, choose_model
from sepsearch.search import Trial

GOOD = Finalist("c0", "t0003", {"filters": 8}, reference=False)
REPORT = Finalist("c1", "t0000", {"filters": 16}, reference=True)


def finished(finalist: Finalist, seed: int, ratio: float, jumps: int = 0) -> SeedRun:
    members = {"vn": MemberRun(val_loss=ratio, ratio=ratio, epoch=3, discontinuities=jumps)}
    return SeedRun(f"{finalist.id}-s{seed}", finalist, seed, 3, members, weights=Path("somewhere"))


def runs(*seed_runs: SeedRun) -> dict[str, SeedRun]:
    return {run.id: run for run in seed_runs}


def test_the_reports_configuration_is_always_a_finalist_and_none_is_there_twice():
    reference = Trial("t0000", {"filters": 16}, ratio=0.7, state="completed")
    best = [Trial("t0003", {"filters": 8}, ratio=0.5), Trial("t0005", {"filters": 8}, ratio=0.55)]
    assert choose_finalists(best, reference) == [GOOD, REPORT]
    assert [f.reference for f in choose_finalists([reference], reference)] == [True]


def test_configurations_are_ranked_by_their_mean_and_not_by_their_luckiest_seed():
    lucky = [finished(REPORT, 1, 0.1), finished(REPORT, 2, 0.9)]
    steady = [finished(GOOD, 1, 0.40), finished(GOOD, 2, 0.42)]
    choice = choose_model(runs(*lucky, *steady), "vn", [GOOD, REPORT])
    assert choice is not None
    assert (choice.finalist, choice.run.seed, choice.seeds) == (GOOD, 1, (1, 2))
    assert abs(choice.ratio_mean - 0.41) < 1e-12


def test_a_seed_whose_loss_jumped_is_not_chosen():
    choice = choose_model(runs(finished(GOOD, 1, 0.3, jumps=1), finished(GOOD, 2, 0.4)), "vn", [GOOD])
    assert choice is not None
    assert choice.run.seed == 2
    assert choice.discontinuities == 1


def test_unless_every_seed_jumped():
    choice = choose_model(runs(finished(GOOD, 1, 0.3, jumps=1), finished(GOOD, 2, 0.4, jumps=2)), "vn", [GOOD])
    assert choice is not None
    assert choice.run.seed == 1


def test_a_run_that_did_not_finish_is_never_chosen():
    broken = SeedRun("c0-s1", GOOD, 1, members={"vn": MemberRun(0.1, 0.1)}, failure="worker died")
    choice = choose_model(runs(broken, finished(GOOD, 2, 0.4)), "vn", [GOOD])
    assert choice is not None
    assert choice.seeds == (2,)
    assert choose_model(runs(broken), "vn", [GOOD]) is None


def test_seeds_come_in_turn_so_that_an_early_end_leaves_all_finalists_with_as_many(tmp_path):
    plan = FinalPlan([GOOD, REPORT], [1, 2], Journal(tmp_path / "journal.jsonl"), tmp_path / "finalists", epochs=3)
    units = [unit for unit, _ in iter(plan.next, None)]
    assert units == ["c0-s1", "c1-s1", "c0-s2", "c1-s2"]


def test_the_best_epoch_counts_and_the_weights_are_where_the_worker_left_them(tmp_path):
    plan = FinalPlan([GOOD], [1], Journal(tmp_path / "journal.jsonl"), tmp_path / "finalists", epochs=3)
    plan.next()
    (tmp_path / "finalists" / "c0-s1").mkdir(parents=True)  # as the worker leaves it
    for epoch, loss in enumerate([0.5, 0.3, 0.4], 1):
        member = {"instrument": "vn", "val_loss": loss, "ratio": loss * 2, "discontinuity": epoch == 3}
        numbers = {"epoch": epoch, "ratio": loss, "seconds": 1.0, "examples_per_second": 1.0, "members": [member]}
        assert plan.result("c0-s1", numbers) is None
    plan.ended("c0-s1", RETURNED)
    run = plan.runs["c0-s1"]
    assert run.members["vn"] == MemberRun(val_loss=0.3, ratio=0.6, epoch=2, discontinuities=1)
    assert run.weights == tmp_path / "finalists" / "c0-s1"
    assert list(read_journal(plan.journal.path))[-1]["weights"] == "finalists/c0-s1"
