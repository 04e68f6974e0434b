"""Finalists: which configurations, which model."""

import math
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from sepsearch.search.journal import Journal, read_journal
from sepsearch.search.protocol import BY_HAND, RETURNED
from sepsearch.search.retraining import FinalPlan
from sepsearch.search.selection import Finalist, MemberRun, SeedRun, cannot_win, choose_finalists, choose_model
from sepsearch.search.trials import Trial, best_trials

GOOD = Finalist("c0", "t0003", {"filters": 8}, reference=False)
REPORT = Finalist("c1", "t0000", {"filters": 16}, reference=True)
OTHER = Finalist("c2", "t0007", {"filters": 4}, reference=False)


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


def test_as_many_different_configurations_are_retrained_as_were_asked_for_where_there_are_so_many():
    found = [(8, 0.5), (8, 0.51), (8, 0.52), (4, 0.6), (2, 0.65), (16, 0.7)]
    trials = [Trial(f"t{n}", {"filters": f}, epochs=4, ratio=r, state="completed") for n, (f, r) in enumerate(found)]
    finalists = choose_finalists(best_trials(trials, 3), trials[-1])
    assert [(f.trial, f.params["filters"], f.reference) for f in finalists] == [
        ("t0", 8, False),
        ("t3", 4, False),
        ("t4", 2, False),
        ("t5", 16, True),
    ]


def test_an_instrument_without_a_ratio_drops_no_finalist_and_has_a_model_all_the_same():
    def nothing(finalist: Finalist, seed: int, ratio: float) -> SeedRun:
        run = finished(finalist, seed, ratio)
        run.members["vc"] = MemberRun()
        number = {"instrument": "vc", "val_loss": 0.1, "ratio": None, "discontinuity": False}
        run.add_epoch({"epoch": 3, "ratio": None, "members": [number]})
        return run

    ended = [nothing(GOOD, 1, 0.3), nothing(GOOD, 2, 0.3001), nothing(REPORT, 1, 0.9), nothing(REPORT, 2, 0.9001)]
    assert cannot_win(ended, [GOOD, Finalist("c1", "t0001", {"filters": 2}, reference=False)], 2) == {}
    choice = choose_model(runs(*ended), "vc", [GOOD, REPORT])
    assert choice is not None
    assert math.isnan(choice.ratio_mean)


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
    plan = FinalPlan([GOOD, OTHER], [1, 2], Journal(tmp_path / "journal.jsonl"), tmp_path / "finalists", epochs=3)
    units = [unit for unit, _ in iter(plan.next, None)]
    assert units == ["c0-s1", "c2-s1", "c0-s2", "c2-s2"]


def test_the_reference_networks_seeds_come_after_all_others(tmp_path):
    finalists = [GOOD, REPORT, OTHER]
    plan = FinalPlan(finalists, [1, 2], Journal(tmp_path / "journal.jsonl"), tmp_path / "finalists", epochs=3)
    units = [unit for unit, _ in iter(plan.next, None)]
    assert units == ["c0-s1", "c2-s1", "c0-s2", "c2-s2", "c1-s1", "c1-s2"]


def test_a_reference_network_that_was_the_best_of_the_search_does_not_wait(tmp_path):
    plan = FinalPlan([REPORT, GOOD], [1, 2], Journal(tmp_path / "journal.jsonl"), tmp_path / "finalists", epochs=3)
    assert [unit for unit, _ in iter(plan.next, None)] == ["c1-s1", "c0-s1", "c1-s2", "c0-s2"]


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


def test_who_is_behind_by_more_than_seeds_scatter_cannot_win():
    good = [finished(GOOD, seed, ratio) for seed, ratio in enumerate([0.40, 0.41, 0.42])]
    bad = [finished(OTHER, seed, ratio) for seed, ratio in enumerate([0.80, 0.81, 0.82])]
    out = cannot_win([*good, *bad], [GOOD, OTHER], comparisons=8)
    assert list(out) == ["c2"]
    assert "vn 0.810 against 0.410 of c0" in out["c2"]


def test_who_is_behind_by_less_stays_in_the_race():
    good = [finished(GOOD, seed, ratio) for seed, ratio in enumerate([0.30, 0.50, 0.42])]
    worse = [finished(OTHER, seed, ratio) for seed, ratio in enumerate([0.45, 0.55, 0.50])]
    assert cannot_win([*good, *worse], [GOOD, OTHER], comparisons=8) == {}


def test_a_single_seed_proves_nothing():
    assert cannot_win([finished(GOOD, 1, 0.1), finished(OTHER, 1, 0.9)], [GOOD, OTHER], comparisons=8) == {}


def test_who_leads_on_one_instrument_stays_in_the_race():
    runs = []
    for finalist, vn, vc in ((GOOD, 0.4, 0.8), (OTHER, 0.8, 0.4)):
        for seed in range(3):
            run = finished(finalist, seed, vn + 0.01 * seed)
            run.members["vc"] = MemberRun(val_loss=vc, ratio=vc + 0.01 * seed, epoch=3)
            runs.append(run)
    assert cannot_win(runs, [GOOD, OTHER], comparisons=8) == {}


def test_the_reports_configuration_is_never_dropped():
    good = [finished(GOOD, seed, 0.40 + 0.01 * seed) for seed in range(3)]
    report = [finished(REPORT, seed, 0.90 + 0.01 * seed) for seed in range(3)]
    assert cannot_win([*good, *report], [GOOD, REPORT], comparisons=8) == {}


def train(plan: FinalPlan, unit: str, ratio: float) -> None:
    """What a stage and its worker do for one run of a plan."""
    (plan.folder / unit).mkdir(parents=True)
    member = {"instrument": "vn", "val_loss": ratio, "ratio": ratio, "discontinuity": False}
    plan.result(unit, {"epoch": 1, "ratio": ratio, "seconds": 1.0, "examples_per_second": 1.0, "members": [member]})
    plan.ended(unit, RETURNED)


def test_a_finalist_that_cannot_win_gets_no_more_seeds_and_a_resumed_plan_knows(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")

    def plan() -> FinalPlan:
        return FinalPlan([GOOD, OTHER, REPORT], range(1, 6), journal, tmp_path / "finalists", epochs=1)

    first, trained = plan(), []
    while (handed := first.next()) is not None:
        base = {"c0": 0.4, "c1": 0.6, "c2": 0.9}[handed[0][:2]]
        train(first, handed[0], base + 0.001 * handed[1]["seed"])
        trained.append(handed[0])
    assert [unit for unit in trained if unit.startswith("c2")] == ["c2-s1", "c2-s2"]
    assert sum(unit.startswith("c1") for unit in trained) == 5
    assert first.finished()
    assert first.finalists == [GOOD, REPORT]
    dropped = [event for event in read_journal(journal.path) if event["event"] == "eliminated"]
    assert [(event["id"], event["seeds"], event["left"]) for event in dropped] == [("c2", [1, 2], 3)]
    again = plan()
    again.restore(list(read_journal(journal.path)))
    assert again.finished()
    assert again.finalists == [GOOD, REPORT]


def report(plan: FinalPlan, job: str, epoch: int, **more: object) -> str | None:
    numbers = {"ratio": 0.5, "seconds": 1.0, "examples_per_second": 1.0, "members": []}
    return plan.result(job, {"epoch": epoch, **numbers, **more})


def test_a_finalists_seed_that_is_stopped_by_hand_ends_after_its_epoch_without_weights(tmp_path):
    log = Journal(tmp_path / "journal.jsonl")
    plan = FinalPlan([GOOD], [1, 2], log, tmp_path / "finalists", 3)
    job, _ = plan.next()
    assert plan.stop(job, "ann@desk", "abc") == ""
    assert report(plan, job, 1) == BY_HAND
    plan.ended(job, RETURNED)
    run = plan.runs[job]
    assert (run.state, run.failure, run.weights) == ("stopped", BY_HAND, None)
    assert plan.stop(job, "", "") == f"{job} has ended: stopped"
    assert plan.next()[0] == "c0-s2"


def test_a_finalists_seed_in_its_last_epoch_is_completed_although_it_was_stopped(tmp_path):
    plan = FinalPlan([GOOD], [1], Journal(tmp_path / "journal.jsonl"), tmp_path / "finalists", 1)
    job, _ = plan.next()
    plan.stop(job, "", "")
    weights = tmp_path / "finalists" / job
    weights.mkdir(parents=True)
    save_file({"w": np.zeros(1)}, weights / "vn.safetensors")
    assert report(plan, job, 1) is None
    plan.ended(job, RETURNED)
    assert plan.runs[job].state == "completed"


def test_a_finalists_seed_whose_stop_is_in_the_journal_ends_when_the_run_is_resumed(tmp_path):
    log = Journal(tmp_path / "journal.jsonl")
    plan = FinalPlan([GOOD], [1, 2], log, tmp_path / "finalists", 3)
    job, _ = plan.next()
    report(plan, job, 1)
    plan.stop(job, "", "")
    again = FinalPlan([GOOD], [1, 2], log, tmp_path / "finalists", 3)
    again.restore(list(read_journal(log.path)))
    again.resume()
    assert again.runs[job].failure == BY_HAND
    assert again.next()[0] == "c0-s2"
