"""Successive halving: who passes a rung."""

import math

from sepsearch.search.stopping.asha import Rungs


def test_rungs_lie_at_grace_times_powers_of_the_factor_below_the_budget():
    assert list(Rungs(grace=2, factor=3, epochs=54).values) == [2, 6, 18]


def test_between_rungs_every_trial_goes_on():
    rungs = Rungs(grace=4, factor=2, epochs=16)
    assert [rungs.report("a", epoch, 9.9) for epoch in (1, 2, 3, 5, 6, 7, 16)] == [None] * 7


def test_the_best_share_passes_and_the_others_stop_at_that_rung():
    rungs = Rungs(grace=1, factor=3, epochs=9)
    outcome = [rungs.report(str(n), 1, value) for n, value in enumerate([0.5, 0.9, 0.7, 0.4, 0.45, 0.3])]
    # The first two pass unjudged; of six values the best two pass.
    assert outcome == [None, None, 1, None, 1, None]


def test_a_value_equal_to_the_cutoff_passes():
    rungs = Rungs(grace=1, factor=2, epochs=4)
    assert [rungs.report(str(n), 1, 0.5) for n in range(4)] == [None] * 4


def test_a_value_that_is_no_number_stops_and_is_not_recorded():
    rungs = Rungs(grace=1, factor=2, epochs=4)
    assert rungs.report("a", 1, math.nan) == 1
    assert rungs.values[1] == {}


def test_a_trial_reported_twice_at_a_rung_counts_once():
    rungs = Rungs(grace=1, factor=2, epochs=4)
    for _ in range(3):
        rungs.report("a", 1, 0.5)
    assert rungs.values[1] == {"a": 0.5}


def test_rungs_rebuilt_from_the_same_reports_judge_alike():
    values = [0.9, 0.4, 0.6, 0.5, 0.3]
    first, second = (Rungs(grace=1, factor=2, epochs=4) for _ in range(2))
    decisions = [[rungs.report(str(n), 1, v) for n, v in enumerate(values)] for rungs in (first, second)]
    assert decisions[0] == decisions[1]
    assert first.values == second.values
