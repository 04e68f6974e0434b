"""Recorded curves: configurations of earlier versions are ones that the space holds, so that samplers learn from them."""

from pathlib import Path

import pytest

from sepsearch.simulation.curve_table import Curve, Draw, Pool, read_table
from sepsearch.spaces.configurations import holds
from sepsearch.spaces.space import parse_space

CURVES = Path(__file__).parents[2] / "scripts" / "benchmarks" / "curves"
SPACE = parse_space({"parameters": {"filters": [8, 16]}}, "space")
WITHOUT = ("schedule", "optimizer")  # as if they had been added since


def former(**changes: object) -> dict:
    params = {**SPACE.complete({"filters": 8}), **changes}
    return {name: value for name, value in params.items() if name not in WITHOUT}


@pytest.mark.parametrize(("table", "epochs", "least"), [("laptop_vn", 12, 200), ("laptop_vc", 36, 150)])
def test_the_space_holds_every_configuration_of_the_recorded_tables(table, epochs, least):
    about, curves = read_table(CURVES / f"{table}.json")
    space = parse_space(about["space"], "table")
    pool = Pool(space, curves, epochs)
    assert len(pool) > least
    assert all(holds(space, curve.params) for curve in pool.curves)


def test_a_configuration_of_an_earlier_version_gets_the_parameters_that_were_added():
    pool = Pool(SPACE, [Curve(former(), (0.5, 0.4))], 2)
    assert pool.curves[0].params == SPACE.complete({"filters": 8})
    assert pool.end(SPACE.complete({"filters": 8})) == 0.4


def test_a_configuration_outside_the_space_stays_as_it_was_recorded():
    outside = former(activation="silu")
    assert Pool(SPACE, [Curve(outside, (0.5, 0.4))], 2).curves[0].params == outside


def test_curves_that_cannot_be_had_are_not_picked():
    curves = [Curve(SPACE.complete({"filters": filters}), (0.5, 0.4)) for filters in (8, 16)]
    draw = Draw(Pool(SPACE, curves, 2), [curves[0].params])
    assert draw.pick(curves[0].params) == curves[1].params
