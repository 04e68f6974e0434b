"""Ratio against size and speed: the front, the figures' values, and what the page says of constraints."""

import json
import re

import pytest
from event_fixtures import journal, story, write_run
from sized_story import LIMITS, REASON, SIZES, SLOW, sized_story

from sepsearch.reporting.figures import size_pictures
from sepsearch.reporting.page import write_report
from sepsearch.reporting.run_data import gather_facts
from sepsearch.reporting.size_plots import SizePoint, front, measures, size_figure, size_points, size_traces
from sepsearch.reporting.tables import curse_table, final_table
from sepsearch.reporting.trial_tables import trial_table

PARAMETERS, SPEED = measures({})


def point(name: str, parameters: int | None, ratio: float, speed: float | None = None, state: str = "completed"):
    return SizePoint(name, parameters, speed, ratio, state)


def names(points: list[SizePoint]) -> list[str]:
    return [one.name for one in points]


def test_the_front_holds_trials_that_no_other_beats_in_both_measures():
    points = [point("a", 100, 0.4), point("b", 90, 0.5), point("c", 95, 0.6), point("d", 10, 0.9), point("e", 100, 0.4)]
    assert names(front(points, PARAMETERS)) == ["a", "b", "d"]


def test_faster_is_better_and_smaller_is_better():
    points = [point("a", 100, 0.4, 10.0), point("b", 90, 0.5, 5.0), point("c", 95, 0.6, 30.0)]
    assert names(front(points, PARAMETERS)) == ["a", "b"]
    assert names(front(points, SPEED)) == ["a", "c"]


def test_stopped_and_infeasible_trials_and_those_of_unknown_size_are_not_on_the_front():
    points = [
        point("a", 100, 0.4),
        point("b", 10, 0.3, state="stopped"),
        point("c", 5, 0.2, state="infeasible"),
        point("d", None, 0.1),
    ]
    assert names(front(points, PARAMETERS)) == ["a"]


def test_places_are_logarithms_and_every_point_says_its_numbers():
    points = [point("t1", 1000, 0.4, 50.0), point("t2", 10, 9.0, None, "stopped"), point("t3", None, 0.3, 2.0)]
    first, second = size_traces(points, PARAMETERS)
    assert (first.name, list(first.x), list(first.y)) == ("t2", [1.0], [1.5])
    assert first.text == "10 parameters, ratio 9.000 at its last epoch"
    assert (list(second.x), second.text) == ([3.0], "1,000 parameters, 50 examples/s, ratio 0.400")


@pytest.mark.parametrize("sizes", [[1], [54_658, 54_659], [1_000, 2_000_000], [3, 10**9], [20_000, 50_000]])
def test_a_figure_has_a_few_round_ticks_whatever_the_sizes(sizes):
    points = [point(str(size), size, 0.5) for size in sizes]
    (axes,) = size_figure(points, PARAMETERS).axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert 2 <= len(labels) <= 7
    assert all(re.fullmatch(r"[\d.]+[kM]?|[\d.e+]+M?", label) for label in labels)


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    return gather_facts(write_run(tmp_path_factory.mktemp("runs") / "duets", journal(sized_story())))


def test_points_of_a_run_have_sizes_speeds_and_violations(facts):
    points = {one.name: one for one in size_points(facts.trials, LIMITS, {}, {})}
    assert {name: one.parameters for name, one in points.items()} == {
        id: size for id, size in SIZES.items() if id != "t0004"
    }
    assert points["t0001"].speed == 79.0
    assert {name: one.state for name, one in points.items()} == {
        "t0000": "infeasible",
        "t0001": "completed",
        "t0002": "infeasible",
        "t0003": "infeasible",
    }


def test_the_page_has_both_figures_with_values_to_read_and_says_what_the_limits_did(facts):
    page = write_report(facts.folder).read_text()
    assert "At most 50,000 parameters were asked: 1 proposal had more, and was not trained." in page
    assert "At least 50 examples per second were asked: 1 trial ended because of less." in page
    assert REASON in page
    by_size, by_speed = size_pictures(facts)
    assert "with their Pareto front: t0001." in by_size.markup
    assert json.loads(re.search('data-values="([^"]*)"', by_speed.markup)[1].replace("&#34;", '"'))["traces"]


def test_tables_have_sizes_and_speeds(facts):
    trials, finalists, final = trial_table(facts), curse_table(facts), final_table(facts)
    for table in (trials, finalists):
        headings = [heading.text for heading in table.headings]
        assert {"parameters", "examples/s"} <= set(headings)
    rows = {row[0].text: [cell.text for cell in row] for row in trials.rows}
    assert {"20,000", "8"} <= set(rows["t0003"])
    assert SLOW in rows["t0003"]
    assert "54,658 parameters, at most 50,000 asked" in [cell.text for cell in finalists.rows[1]]
    assert (final.rows[0][-1].text, final.foot[-1].text) == ("40,000", "")


def test_a_journal_of_an_earlier_version_has_sizes_counted_from_its_configurations(tmp_path):
    facts = gather_facts(write_run(tmp_path / "duets", journal(story())))
    assert {one["id"]: one["parameters"] for one in facts.results["trials"]}["t0000"] == 54_658
    assert len(size_pictures(facts)) == 2
