"""Early-stopping rules on short sequences worked out by hand: who goes on, who pauses, who stops."""

import itertools
import math

import numpy as np
import pytest

from sepsearch.search.stopping.curve_model import COMPLETED, CurveModelRule
from sepsearch.search.stopping.learning_curves import LearningCurveModel
from sepsearch.search.stopping.methods import METHODS
from sepsearch.search.stopping.pasha import PERCENTILE, PashaRungs, crossing_gap, same_ranking
from sepsearch.search.stopping.promotion import PromotionRungs
from sepsearch.search.stopping.rule import PausingRule


def arrive(rungs: PromotionRungs, trial: str, epoch: int, value: float) -> int | None:
    """Report a value, and pause the trial where it does not go on."""
    rung = rungs.report(trial, epoch, value)
    if rung is not None:
        rungs.paused(trial, rung)
    return rung


def test_with_promotion_a_trial_goes_on_only_while_it_is_among_the_best_share():
    rungs = PromotionRungs(grace=1, factor=2, epochs=4)
    values = {"a": 0.5, "b": 0.4, "c": 0.3, "d": 0.6, "e": 0.7, "f": 0.35}
    # Of one value none is promoted; of two and three the best one is, of four the best two, of six the best three.
    assert [arrive(rungs, trial, 1, value) for trial, value in values.items()] == [1, None, None, 1, 1, None]


def test_a_paused_trial_is_promoted_once_enough_others_have_arrived():
    rungs = PromotionRungs(grace=1, factor=2, epochs=4)
    assert arrive(rungs, "a", 1, 0.5) == 1
    assert rungs.promotable() is None
    assert arrive(rungs, "b", 1, 0.6) == 1
    assert rungs.promotable() == ("a", 1)
    rungs.promoted("a", 1)
    assert rungs.promotable() is None


def test_a_trial_whose_worker_is_not_free_yet_is_not_promoted():
    rungs = PromotionRungs(grace=1, factor=2, epochs=4)
    rungs.report("a", 1, 0.5)
    rungs.report("b", 1, 0.6)
    assert rungs.promotable() is None
    rungs.paused("a", 1)
    assert rungs.promotable() == ("a", 1)


def test_the_highest_rung_is_served_first():
    rungs = PromotionRungs(grace=1, factor=2, epochs=8)
    for trial, value in {"a": 0.4, "b": 0.3, "c": 0.5, "d": 0.6}.items():
        rungs.record(trial, 1, value)
        rungs.paused(trial, 1)
    for trial, value in {"b": 0.2, "a": 0.25}.items():
        rungs.promoted(trial, 1)
        rungs.record(trial, 2, value)
        rungs.paused(trial, 2)
    for trial in ("e", "f"):
        rungs.record(trial, 1, 0.1)
        rungs.paused(trial, 1)
    assert rungs.promotable() == ("b", 2)


@pytest.mark.parametrize("name", METHODS)
def test_a_value_that_is_no_number_goes_no_further_and_is_not_recorded(name):
    rule = METHODS[name](1, 2, 4)
    stops = rule.report("a", 1, math.nan)
    if name == "none":
        assert (stops, rule.values) == (None, {})
        return
    assert stops == 1
    assert rule.values[1] == {}
    if isinstance(rule, PausingRule):
        rule.paused("a", 1)
        for other in "bcd":
            rule.report(other, 1, 0.5)
            rule.promoted(other, 1)
        assert rule.promotable() is None


def test_pasha_opens_two_rungs_and_pauses_even_the_best_at_the_larger_one():
    rungs = PashaRungs(grace=1, factor=2, epochs=8)
    assert rungs.largest == 2
    arrive(rungs, "a", 1, 0.5)
    assert arrive(rungs, "b", 1, 0.4) is None
    assert arrive(rungs, "b", 2, 0.3) == 2
    assert rungs.promotable() is None
    assert rungs.note("b", 2) == "epoch 2 was the largest open rung"


def test_pasha_opens_the_next_rung_when_two_trials_change_places():
    rungs = PashaRungs(grace=1, factor=2, epochs=8)
    for trial, value in {"a": 0.5, "b": 0.4, "c": 0.6, "d": 0.7}.items():
        arrive(rungs, trial, 1, value)
    assert rungs.promotable() == ("a", 1)
    rungs.promoted("a", 1)
    assert arrive(rungs, "b", 2, 0.35) == 2
    # "a" was behind "b" at epoch 1 and is ahead at epoch 2: rung 4 opens, and the better of both goes on at once.
    assert arrive(rungs, "a", 2, 0.3) is None
    assert rungs.largest == 4


def test_pasha_keeps_its_largest_rung_while_rankings_agree():
    rungs = PashaRungs(grace=1, factor=2, epochs=8)
    for trial, value in {"a": 0.5, "b": 0.4, "c": 0.6, "d": 0.7}.items():
        arrive(rungs, trial, 1, value)
    rungs.promoted("a", 1)
    assert [arrive(rungs, "b", 2, 0.3), arrive(rungs, "a", 2, 0.35)] == [2, 2]
    assert rungs.largest == 2


def test_pasha_ends_at_the_full_budget_as_its_last_rung():
    rungs = PashaRungs(grace=1, factor=2, epochs=3)
    for trial, values in {"b": (0.4, 0.3), "a": (0.5, 0.2)}.items():
        rungs.report(trial, 1, values[0])
        rungs.promoted(trial, 1)
        rungs.report(trial, 2, values[1])
    assert rungs.largest == 3
    assert rungs.report("a", 3, 0.1) is None


def test_the_soft_ranking_forgives_changes_of_places_up_to_epsilon():
    top, below = {"a": 0.30, "b": 0.40}, {"a": 0.50, "b": 0.45, "c": 0.1}
    assert not same_ranking(top, below, 0.0)
    assert not same_ranking(top, below, 0.04)
    assert same_ranking(top, below, 0.06)


def test_curves_that_cross_twice_differ_by_their_last_difference_and_others_do_not_count():
    crossing, level, far = {1: 0.50, 2: 0.40, 3: 0.52}, dict.fromkeys((1, 2, 3), 0.45), dict.fromkeys((1, 2, 3), 0.9)
    assert crossing_gap(crossing, level) == pytest.approx(0.07)
    assert crossing_gap(level, crossing | {4: 0.6}) == pytest.approx(0.07)
    assert crossing_gap(level, far) is crossing_gap({1: 0.4}, level) is None


def test_epsilon_is_a_percentile_over_all_pairs_at_the_largest_open_rung_whatever_the_order_of_arrival():
    curves = {
        name: [0.5 + 0.01 * number, 0.5 - 0.01 * number, 0.5 + 0.013 * number] for number, name in enumerate("abcdef")
    }
    gaps = [
        gap
        for one, other in itertools.combinations(curves.values(), 2)
        if (gap := crossing_gap(dict(enumerate(one)), dict(enumerate(other)))) is not None
    ]
    for order in ("abcdef", "fbadec"):
        rungs = PashaRungs(grace=1, factor=3, epochs=9)
        for trial in order:
            for epoch, value in enumerate(curves[trial], 1):
                rungs.record(trial, epoch, value)
        assert rungs.epsilon == pytest.approx(np.percentile(gaps, PERCENTILE))
        assert len(gaps) == 15


def power_law(scale: float, exponent: float, epochs: int) -> list[float]:
    return [scale * epoch**exponent for epoch in range(1, epochs + 1)]


def test_the_learning_curve_model_predicts_the_end_of_power_laws_from_three_epochs():
    model = LearningCurveModel(20)
    model.fit([power_law(0.9 + number / 50, -0.3 - number / 100, 20) for number in range(8)])
    mean, deviation = model.predict(power_law(0.95, -0.33, 3))
    assert math.exp(mean) == pytest.approx(0.95 * 20**-0.33, rel=0.05)
    assert 0 < deviation < 0.4


def test_the_model_is_surer_the_more_it_knows():
    model = LearningCurveModel(20)
    deviations = [model.predict(power_law(0.9, -0.2, known))[1] for known in (1, 5, 10, 20)]
    assert deviations == sorted(deviations, reverse=True)


def test_the_model_uses_curves_that_ended_early():
    model, without = LearningCurveModel(10), LearningCurveModel(10)
    whole = [power_law(0.9, -0.3, 10)] * 2
    without.fit(whole)
    model.fit([*whole, *[power_law(2.0, 0.0, 2)] * 6])
    assert model.predict([1.5])[0] > without.predict([1.5])[0]


def report_curve(rule: CurveModelRule, trial: str, curve: list[float]) -> int | None:
    """Report values until the rule stops the trial."""
    for epoch, value in enumerate(curve, 1):
        if (stops := rule.report(trial, epoch, value)) is not None:
            return stops
    return None


def completed_rule() -> CurveModelRule:
    rule = CurveModelRule(grace=2, factor=3, epochs=8)
    for number in range(COMPLETED):
        assert report_curve(rule, f"c{number}", power_law(0.8 + number / 50, -0.3, 8)) is None
    return rule


def test_a_trial_that_can_hardly_win_stops_at_the_first_decision_and_a_promising_one_goes_on():
    rule = completed_rule()
    assert report_curve(rule, "bad", power_law(1.5, -0.05, 8)) == 2
    assert report_curve(rule, "good", power_law(0.78, -0.32, 8)) is None
    assert "with probability" in rule.note("bad", 2)


def test_no_trial_stops_before_some_have_completed():
    rule = CurveModelRule(grace=1, factor=3, epochs=4)
    assert [report_curve(rule, f"t{number}", [0.5 + number] * 4) for number in range(COMPLETED)] == [None] * COMPLETED


def test_the_same_calls_give_the_same_decisions():
    curves = [power_law(0.8 + (number * 7 % 5) / 10, -0.1 - (number * 3 % 4) / 20, 8) for number in range(10)]
    decisions = []
    for _ in range(2):
        rule = CurveModelRule(grace=2, factor=3, epochs=8)
        decisions.append([report_curve(rule, str(number), curve) for number, curve in enumerate(curves)])
    assert decisions[0] == decisions[1]
    assert any(stops is not None for stops in decisions[0])
