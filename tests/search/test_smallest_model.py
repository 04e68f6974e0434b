"""Small networks: which trials become finalists for them, and when one is chosen instead of the best."""

from pathlib import Path

from sepsearch.search.selection import Choice, Finalist, MemberRun, SeedRun, cannot_win, choose_finalists, choose_model
from sepsearch.search.trials import Trial, best_trials, small_trials

RULE = "smallest_within_sd"
LARGE = Finalist("c0", "t0003", {"filters": 32}, reference=False, parameters=54_658)
SMALL = Finalist("c1", "t0007", {"filters": 4}, reference=False, parameters=12_000)
TINY = Finalist("c2", "t0005", {"filters": 2}, reference=False, parameters=3_000)


def finished(finalist: Finalist, *ratios: float) -> list[SeedRun]:
    """A run per seed."""
    return [
        SeedRun(
            f"{finalist.id}-s{seed}",
            finalist,
            seed,
            3,
            {"vn": MemberRun(val_loss=ratio, ratio=ratio, epoch=3)},
            weights=Path("somewhere"),
        )
        for seed, ratio in enumerate(ratios, 1)
    ]


def choose(runs: list[SeedRun], finalists: list[Finalist], rule: str = RULE) -> Choice:
    choice = choose_model({run.id: run for run in runs}, "vn", finalists, rule)
    assert choice is not None
    return choice


def trial(number: int, ratio: float, parameters: int | None, **changes: object) -> Trial:
    return Trial(
        f"t{number}", {"filters": number + 1}, 4, ratio, **{"state": "completed", "parameters": parameters, **changes}
    )


def test_the_smallest_network_within_a_standard_deviation_of_the_best_seeds_is_chosen():
    runs = [*finished(LARGE, 0.39, 0.41), *finished(SMALL, 0.40, 0.41), *finished(TINY, 0.5, 0.52)]
    choice = choose(runs, [LARGE, SMALL, TINY])
    assert choice.finalist == SMALL
    assert choice.reason == (
        "c1 instead of c0: 12,000 parameters instead of 54,658 at 0.0050 worse, within the seeds' spread (0.0141)"
    )


def test_the_spread_is_that_of_the_best_ones_seeds_and_not_of_the_small_ones():
    runs = [*finished(LARGE, 0.400, 0.401), *finished(SMALL, 0.2, 0.7)]
    choice = choose(runs, [LARGE, SMALL])
    assert choice.finalist == LARGE
    assert choice.reason == "c0: no network smaller by a tenth within the seeds' spread (0.0007)"


def test_a_network_that_is_hardly_smaller_is_not_worth_a_worse_ratio():
    hardly = Finalist("c3", "t0009", {"filters": 31}, reference=False, parameters=54_000)
    assert choose([*finished(LARGE, 0.3, 0.5), *finished(hardly, 0.4, 0.51)], [LARGE, hardly]).finalist == LARGE


def test_of_two_equally_small_networks_the_better_one_is_chosen():
    twin = Finalist("c3", "t0009", {"filters": 4}, reference=False, parameters=12_000)
    runs = [*finished(LARGE, 0.3, 0.5), *finished(SMALL, 0.45, 0.47), *finished(twin, 0.43, 0.44)]
    assert choose(runs, [LARGE, SMALL, twin]).finalist == twin


def test_a_single_seed_has_no_spread_and_the_best_is_chosen():
    choice = choose([*finished(LARGE, 0.4), *finished(SMALL, 0.4001)], [LARGE, SMALL])
    assert choice.finalist == LARGE
    assert choice.reason == "c0: a single seed has no spread"


def test_without_the_rule_the_best_mean_is_chosen_and_nothing_is_said():
    choice = choose([*finished(LARGE, 0.39, 0.41), *finished(SMALL, 0.40, 0.41)], [LARGE, SMALL], "best")
    assert (choice.finalist, choice.reason) == (LARGE, "")


def test_finalists_of_unknown_size_are_chosen_as_before():
    old = [Finalist(one.id, one.trial, one.params, False) for one in (LARGE, SMALL)]
    assert choose([*finished(old[0], 0.39, 0.41), *finished(old[1], 0.40, 0.41)], old).finalist == old[0]


def test_a_configuration_that_violates_a_constraint_is_not_chosen_and_the_reason_is_said():
    over = Finalist("c4", "t0000", {"filters": 16}, True, 54_658, "54,658 parameters, at most 20,000 asked")
    runs = [*finished(over, 0.3, 0.31), *finished(SMALL, 0.4, 0.41)]
    choice = choose(runs, [SMALL, over], "best")
    assert choice.finalist == SMALL
    assert choice.reason == "c1 instead of c4: 54,658 parameters, at most 20,000 asked"
    assert choose(finished(over, 0.3, 0.31), [SMALL, over], "best").reason == (
        "c4 all the same, no other finalist has finished: 54,658 parameters, at most 20,000 asked"
    )


def test_an_infeasible_finalist_eliminates_no_other():
    over = Finalist("c4", "t0000", {"filters": 16}, True, 54_658, "54,658 parameters, at most 20,000 asked")
    runs = [*finished(over, 0.1, 0.1001, 0.1002), *finished(SMALL, 0.4, 0.4001, 0.4002)]
    assert cannot_win(runs, [SMALL, over], 1) == {}


def test_a_finalist_within_a_standard_deviation_is_not_eliminated_where_small_ones_are_wanted():
    many = [0.40 + 0.01 * (number % 3) for number in range(60)]
    runs = [*finished(LARGE, *many), *finished(SMALL, *(ratio + 0.007 for ratio in many))]
    assert list(cannot_win(runs, [LARGE, SMALL], 1, "best")) == ["c1"]
    assert cannot_win(runs, [LARGE, SMALL], 1, RULE) == {}


def test_finalists_for_small_networks_are_the_front_of_ratio_and_parameters():
    trials = [
        trial(0, 0.50, 9_500),
        trial(1, 0.40, 50_000),
        trial(2, 0.41, 60_000),  # worse and larger
        trial(3, 0.42, 49_000),  # hardly smaller
        trial(4, 0.45, 10_000),
        trial(5, 0.60, 2_000),
        trial(6, 0.10, 100, state="stopped"),
    ]
    assert [one.id for one in small_trials(trials, 3)] == ["t1", "t4", "t5"]
    assert [one.id for one in small_trials(trials, 5)] == ["t1", "t4", "t5", "t2", "t3"]
    assert [one.id for one in best_trials(trials, 3)] == ["t1", "t2", "t3"]


def test_trials_of_unknown_size_are_taken_by_their_ratio():
    assert [one.id for one in small_trials([trial(n, 0.5 - n / 100, None) for n in range(4)], 2)] == ["t3", "t2"]


def test_an_infeasible_trial_is_no_finalist_and_the_reference_is_one_for_comparison_alone():
    slow = trial(1, 0.1, 9_000, infeasible="3 examples/s, at least 50 asked", state="stopped")
    reference = trial(2, 0.3, 54_658, infeasible="54,658 parameters, at most 20,000 asked")
    feasible = trial(3, 0.6, 9_000)
    best = best_trials([slow, reference, feasible], 3)
    assert [one.id for one in best] == ["t3"]
    finalists = choose_finalists(best, reference)
    assert [(one.trial, one.reference, one.infeasible) for one in finalists] == [
        ("t3", False, ""),
        ("t2", True, "54,658 parameters, at most 20,000 asked"),
    ]
    assert [one.parameters for one in finalists] == [9_000, 54_658]


def test_where_no_trial_came_to_its_end_an_infeasible_one_is_no_finalist_either():
    slow = trial(1, 0.1, 9_000, infeasible="3 examples/s, at least 50 asked", state="stopped")
    stopped = trial(2, 0.5, 9_000, state="stopped")
    assert [one.id for one in best_trials([slow, stopped], 2)] == ["t2"]


def test_configurations_in_two_spellings_are_one_finalist():
    one, other = trial(1, 0.4, 9_000), trial(2, 0.5, 9_000)
    one.params, other.params = {"detector_layers": 1, "detector_width": 64}, {"detector_width": 0}
    assert [found.id for found in best_trials([one, other], 2)] == ["t1"]
    (finalist,) = choose_finalists([one], other)
    assert finalist.reference
