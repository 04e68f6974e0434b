"""Searches in virtual time over recorded curves: what they find, what they miss, what they are told."""

import math
from pathlib import Path

import pytest
from event_fixtures import state_of

from sepsearch.simulation.curve_table import Curve, Draw, Pool, read_table, recorded_curves
from sepsearch.simulation.simulator import Outcome, Strategy, interval, simulate
from sepsearch.spaces.configurations import holds
from sepsearch.spaces.space import Space, parse_space
from sepsearch.spaces.stop import StopSettings
from sepsearch.utils.errors import UserError

RATES = [1e-4 * 100 ** (number / 11) for number in range(12)]


def make_space(**parameters: object) -> Space:
    content = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, **parameters}
    return parse_space({"parameters": content, "search": {"startup_trials": 3}}, "space")


def make_curve(rate: float, *ratios: float, failed: str = "", seconds: float = 1.0, **params: object) -> Curve:
    return Curve(make_space().complete({"learning_rate": rate, **params}), ratios, seconds, failed)


def flat_pool(epochs: int = 4) -> Pool:
    """Twelve learning rates whose curves keep their order from the first epoch to the last."""
    space = make_space()
    curves = [make_curve(rate, *([0.5 + number / 100] * epochs)) for number, rate in enumerate(RATES)]
    return Pool(space, curves, epochs)


def slow_starter_pool() -> Pool:
    """Of twelve trials the one that is worst at first ends best."""
    curves = [make_curve(rate, *([0.6 + number / 100] * 4)) for number, rate in enumerate(RATES[:-1])]
    return Pool(make_space(), [*curves, make_curve(RATES[-1], 0.99, 0.9, 0.5, 0.3)], 4)


def run(pool: Pool, strategy: Strategy, **changes: int) -> Outcome:
    settings = {"trials": len(pool), "epochs": pool.epochs, "seed": 1, **changes}
    return simulate(Draw(pool), pool.space, strategy, **settings)


def test_asha_stops_a_slow_starter_that_would_have_won_and_the_outcome_says_so():
    outcome = run(slow_starter_pool(), Strategy("random", 1, 4))
    assert outcome.missed is True
    assert outcome.best > 0.3
    assert outcome.ended["stopped"] > 0


def crossing_pool() -> Pool:
    """Twelve learning rates of which the two best change places between the first and the third epoch."""
    curves = [make_curve(rate, *([0.6 + number / 100] * 4)) for number, rate in enumerate(RATES[2:])]
    first, second = make_curve(RATES[0], 0.5, 0.5, 0.5, 0.5), make_curve(RATES[1], 0.51, 0.51, 0.4, 0.3)
    return Pool(make_space(), [first, second, *curves], 4)


def test_with_promotion_trials_go_on_from_where_they_paused_and_no_epoch_is_trained_twice():
    outcome = run(flat_pool(), Strategy("random", 1, 2, stopping="asha_promotion"), workers=1)
    # Of twelve trials at rung 1 six go on to rung 2, and four of those to epoch 4: one before a better one has arrived.
    assert outcome.epochs == 12 * 1 + 6 * 1 + 4 * 2
    assert (outcome.ended["completed"], outcome.ended["stopped"]) == (4, 8)
    assert outcome.best == 0.5


def test_pasha_spends_less_where_rankings_agree_and_its_choice_is_the_same():
    pasha = run(flat_pool(), Strategy("random", 1, 2, stopping="pasha"), workers=1)
    assert pasha.epochs == 12 * 1 + 6 * 1
    assert pasha.ended["completed"] == 0
    assert math.isnan(pasha.best)
    assert pasha.chosen[0] == 0.5
    assert pasha.chooses(0.5) <= pasha.epochs


def test_without_stopping_the_crossing_that_rungs_do_not_see_is_seen():
    none = run(crossing_pool(), Strategy("random", 1, 2, stopping="none"))
    assert (none.chosen[0], none.epochs) == (0.3, 48)


def test_without_rungs_the_slow_starter_wins_and_nothing_is_missed():
    outcome = run(slow_starter_pool(), Strategy("random"))
    assert (outcome.best, outcome.missed) == (0.3, False)
    assert outcome.epochs == 4 * 12


def test_only_trials_that_reached_the_full_budget_count_as_found():
    # Every trial dips to 0.1 in its second epoch: who is stopped there must not be taken for the best.
    pool = Pool(make_space(), [make_curve(rate, 0.9, 0.1 + n / 1000, 0.5, 0.5) for n, rate in enumerate(RATES)], 4)
    outcome = run(pool, Strategy("random", 2, 2))
    assert outcome.ended["stopped"] > 0
    assert {best for _, best in outcome.steps} == {0.5}


def test_the_pool_is_used_up_without_repeats():
    pool = flat_pool()
    draw = Draw(pool)
    rates = [draw.pick(pool.curves[5].params)["learning_rate"] for _ in range(len(pool))]
    assert sorted(rates) == RATES
    assert rates[0] == RATES[5]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_gives_the_same_search_and_another_one_another(sampler):
    pool, strategy = slow_starter_pool(), Strategy(sampler, 1, 2)
    assert run(pool, strategy, trials=8) == run(pool, strategy, trials=8)
    assert run(pool, strategy, trials=8) != run(pool, strategy, trials=8, seed=2)


def test_workers_train_side_by_side_in_virtual_time():
    pool = flat_pool()
    alone, pair = (run(pool, Strategy("random"), workers=workers) for workers in (1, 2))
    assert (alone.seconds, pair.seconds) == (48.0, 24.0)
    assert alone.epochs == pair.epochs == 48


def test_a_trial_with_shorter_epochs_overtakes_one_with_longer():
    curves = [make_curve(1e-3, 0.5, 0.5, seconds=10.0), make_curve(5e-3, 0.4, 0.4, seconds=1.0)]
    outcome = run(Pool(make_space(), curves, 2), Strategy("random"))
    assert outcome.steps == [(2, 0.4)]
    assert outcome.seconds == 20.0


def test_a_budget_of_epochs_halts_what_still_runs():
    outcome = run(flat_pool(), Strategy("random"), budget=6, workers=2)
    assert outcome.epochs == 6
    assert outcome.ended["halted"] == 2
    assert outcome.ended["completed"] == 0


def test_a_recorded_failure_fails_again_after_as_many_epochs():
    pool = Pool(make_space(), [make_curve(1e-3, 0.5, 0.4), make_curve(9e-3, 0.9, failed="dead: zeros")], 2)
    outcome = run(pool, Strategy("random"))
    assert (outcome.ended["completed"], outcome.ended["failed"]) == (1, 1)
    assert outcome.epochs == 2 + 2


def test_curves_that_end_early_are_left_out_unless_they_are_wanted():
    curves = [make_curve(1e-3, 0.5, 0.4), make_curve(5e-3, 0.45)]
    assert [len(Pool(make_space(), curves, 2, partial)) for partial in (False, True)] == [1, 2]


def test_a_curve_that_ends_before_the_search_is_done_with_it_is_unknown_from_there():
    pool = Pool(make_space(), [make_curve(1e-3, 0.5, 0.4), make_curve(5e-3, 0.3)], 2, partial=True)
    outcome = run(pool, Strategy("random"))
    assert (outcome.ended["unknown"], outcome.best, outcome.epochs) == (1, 0.4, 3)


def test_whether_a_winner_was_missed_is_unknown_where_a_stopped_trials_end_is():
    curves = [make_curve(rate, 0.5, 0.4) for rate in RATES[:4]] + [make_curve(RATES[-1], 0.9)]
    outcome = run(Pool(make_space(), curves, 2, partial=True), Strategy("random", 1, 2))
    assert outcome.ended["stopped"] == 1
    assert outcome.missed is None


def test_of_two_curves_of_one_configuration_the_better_known_stays():
    pool = Pool(make_space(), [make_curve(1e-3, 0.5), make_curve(1e-3, 0.5, 0.4), make_curve(1e-3, 0.6)], 2)
    assert [curve.ratios for curve in pool.curves] == [(0.5, 0.4)]
    assert pool.distinct == 1


def test_the_nearest_configuration_is_near_on_the_parameters_own_scales():
    space = make_space(filters=[8, 16])
    curves = [make_curve(2e-4, 0.5, filters=8), make_curve(5e-3, 0.5, filters=8), make_curve(1e-4, 0.5, filters=16)]
    pool = Pool(space, curves, 1)
    # 6e-4 is nearer to 2e-4 than to 5e-3 by ratio; another choice is as far as the whole range.
    assert pool.nearest(space.complete({"learning_rate": 6e-4, "filters": 8}), set()) == 0
    assert pool.nearest(space.complete({"learning_rate": 6e-4, "filters": 8}), {0}) == 1
    assert pool.nearest(space.complete({"learning_rate": 5e-3, "filters": 16}), set()) == 2


def test_a_conditional_parameter_counts_only_where_both_have_it():
    space = make_space(detector_layers=[1, 2], detector_width={"choices": [64, 128], "when": {"detector_layers": 2}})
    curves = [
        make_curve(1e-3, 0.5, detector_layers=1),
        make_curve(1e-3, 0.5, detector_layers=2, detector_width=64),
        make_curve(9e-3, 0.5, detector_layers=2, detector_width=128),
    ]
    pool = Pool(space, curves, 1)
    wanted = space.complete({"learning_rate": 1e-3, "detector_layers": 2, "detector_width": 128})
    order = [pool.nearest(wanted, used) for used in (set(), {2}, {0, 2})]
    assert order == [2, 0, 1]  # 0.48 by rate; 1 by the layers alone, not 2; 1 by the width


def events(*items: tuple[str, dict]) -> list[dict]:
    return [{"event": kind, **fields} for kind, fields in items]


def test_a_journals_curves_are_whole_after_retries_and_leave_out_what_a_dead_worker_ended():
    recorded = recorded_curves(
        state_of(
            events(
                ("trial", {"id": "t0", "params": {"a": 1}}),
                ("epoch", {"id": "t0", "epoch": 1, "ratio": 0.9, "seconds": 2.0}),
                ("retry", {"id": "t0", "reason": "worker died", "epochs": 1, "attempt": 1}),
                ("epoch", {"id": "t0", "epoch": 1, "ratio": 0.9, "seconds": 4.0}),
                ("epoch", {"id": "t0", "epoch": 2, "ratio": 0.8, "seconds": 2.0}),
                ("trial_end", {"id": "t0", "state": "completed", "reason": ""}),
                ("trial", {"id": "t1", "params": {"a": 2}}),
                ("trial_end", {"id": "t1", "state": "failed", "reason": "worker died: out of memory"}),
                ("trial", {"id": "t2", "params": {"a": 3}}),
                ("trial_end", {"id": "t2", "state": "failed", "reason": "dead: nothing but zeros"}),
                ("trial", {"id": "t3", "params": {"a": 4}}),
                ("epoch", {"id": "t3", "epoch": 1, "ratio": None, "seconds": 1.0}),
                ("trial_end", {"id": "t3", "state": "failed", "reason": "NaN: the ratio is nan in epoch 1"}),
            ),
            history=True,
        )
    )
    assert recorded == [
        Curve({"a": 1}, (0.9, 0.8), 3.0),
        Curve({"a": 3}, (), 0.0, "dead: nothing but zeros"),
        Curve({"a": 4}, (), 0.0, "NaN: the ratio is nan in epoch 1"),
    ]


@pytest.mark.parametrize("content", ["{", "[]", '{"curves": [{"params": {}}]}', '{"space": {}}'])
def test_a_file_that_is_no_table_of_curves_is_one_line(content, tmp_path):
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"table\.json: no table of curves"):
        read_table(path)


def test_best_so_far_is_read_off_between_its_steps():
    outcome = Outcome(steps=[(4, 0.6), (8, 0.5)])
    assert math.isnan(outcome.at(3))
    assert [outcome.at(epochs) for epochs in (4, 7, 8, 99)] == [0.6, 0.6, 0.5, 0.5]
    assert [outcome.reaches(value) for value in (0.6, 0.55, 0.4)] == [4, 8, math.inf]
    assert outcome.mean_until(10) == pytest.approx((3 * 1.0 + 4 * 0.6 + 3 * 0.5) / 10)


def test_the_interval_holds_the_mean_and_narrows_with_more_values():
    few, many = [0.0, 1.0] * 5, [0.0, 1.0] * 50
    mean, low, high = interval(few)
    assert low < mean == 0.5 < high
    assert interval(many)[2] - interval(many)[1] < (high - low) / 2
    assert interval([0.3] * 4) == pytest.approx((0.3, 0.3, 0.3))


class Formula:
    """Trains whatever is proposed."""

    def pick(self, params: dict) -> dict:
        return params

    def end(self, params: dict) -> None:
        """Nothing is known without training."""

    def train(self, params: dict):
        for epoch in range(1, 5):
            yield {
                "epoch": epoch,
                "ratio": 1 / params["filters"],
                "seconds": 1.0,
                "examples_per_second": 0.0,
                "members": [],
            }


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_simulated_search_of_a_space_of_three_ends_after_three_trials(sampler):
    space = parse_space({"parameters": {"filters": [8, 16, 24]}}, "space")
    outcome = simulate(Formula(), space, Strategy(sampler), trials=20, epochs=4, seed=0)
    assert (outcome.ended["completed"], outcome.epochs, outcome.best) == (3, 12, 1 / 24)


def test_a_search_with_patience_ends_early_in_virtual_time_too():
    pool = flat_pool()
    patient = pool.space.model_copy(update={"stop": StopSettings(patience=2, min_improvement=0.05)})
    whole = run(pool, Strategy("random"))
    early = run(Pool(patient, pool.curves, 4), Strategy("random"), workers=1)
    assert (early.ended["completed"], whole.ended["completed"]) == (3, 12)


def test_a_configuration_of_an_earlier_version_is_completed_so_that_the_sampler_knows_its_trial():
    space = make_space()
    old = {key: value for key, value in make_curve(RATES[0]).params.items() if key not in ("heads", "schedule")}
    (curve,) = Pool(space, [Curve(old, (0.5,) * 4)], 4).curves
    assert holds(space, curve.params)


def test_the_recorded_curves_of_the_benchmarks_lie_in_their_space():
    about, curves = read_table(Path(__file__).parents[2] / "scripts" / "benchmarks" / "curves" / "laptop_vn.json")
    space = parse_space(about["space"], "space")
    pool = Pool(space, curves, 12)
    assert len(pool) > 200
    assert all(holds(space, curve.params) for curve in pool.curves)
