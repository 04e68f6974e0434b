"""Durations when the machine's clock is set back or ahead: they follow the journal's monotonic clock."""

import pytest
from event_fixtures import epoch_event, journal, search_event, state_of

from sepsearch.monitoring.follow import Watched
from sepsearch.runs.clock import RunClock
from sepsearch.runs.state import RunState
from sepsearch.search.events import Event

DAY = 86_400.0


def events(step: float, old: bool = False) -> list[Event]:
    """Eleven epochs of a trial, a second apart; the clock is set by `step` after the fifth."""
    begun = [search_event(), ("trial", {"id": "t0000", "params": {}})]
    found = journal([*begun, *(epoch_event("epoch", "t0000", epoch) for epoch in range(1, 12))])
    for event in found[7:]:
        event["time"] += step
    if old:
        for event in found:
            del event["elapsed"]
    return found


@pytest.mark.parametrize("step", [0.0, -DAY, DAY])
def test_what_a_time_budget_has_spent_does_not_depend_on_the_clock(step):
    assert state_of(events(step)).seconds("search") == 12.0


def test_a_clock_set_back_under_an_older_journal_costs_one_step_at_most():
    assert state_of(events(-DAY, old=True)).seconds("search") == 11.0


@pytest.mark.parametrize("step", [-DAY, DAY])
def test_speed_and_time_left_do_not_depend_on_the_clock(step):
    plain, other = RunState(), RunState()
    for event, shifted in zip(events(0.0), events(step), strict=True):
        plain.handle(event)
        other.handle(shifted)
    assert other.last == plain.last
    assert other.throughput.rate(other.last) == plain.throughput.rate(plain.last)
    assert other.remaining(other.last) == plain.remaining(plain.last)


def test_the_time_between_two_processes_is_that_of_the_calendar_and_never_negative():
    resume = ("resume", {"units": {}, "changed": {}})
    story = journal([search_event(), resume, resume])
    for event, time, elapsed in zip(story, (1000.0, 5000.0, 4000.0), (90.0, 0.5, 0.2), strict=True):
        event |= {"time": time, "elapsed": elapsed}
    clock = RunClock()
    assert [clock.read(event) for event in story] == [1000.0, 5000.0, 5000.0]


@pytest.mark.parametrize("step", [-DAY, DAY])
def test_a_clock_set_under_a_watcher_does_not_make_a_run_look_dead(step, tmp_path, monkeypatch):
    wall = {"now": 1000.0}
    looks = iter([events(0.0)[:5], [], []])
    watched = Watched(lambda: tmp_path, clock=lambda: wall["now"], steady=lambda: wall["now"] % DAY)
    monkeypatch.setattr(watched, "_follower", type("Follower", (), {"read": lambda self, path: next(looks)})())
    wall["now"] = watched_at = 1006.0
    watched.look()
    assert watched.now == watched_at
    wall["now"] += step
    watched.look()
    assert not watched.run.silence(watched.now)
    assert watched.now == watched_at


def test_gauges_follow_the_drivers_monotonic_clock(monkeypatch):
    from sepsearch.monitoring import prometheus

    now = {"monotonic": 500.0}
    monkeypatch.setattr("sepsearch.monitoring.prometheus.time.monotonic", lambda: now["monotonic"])
    monkeypatch.setattr("sepsearch.monitoring.prometheus.make_gauge", lambda *about: None)
    found: list[float] = []
    monkeypatch.setattr("sepsearch.monitoring.prometheus.readings", lambda run, moment: found.append(moment) or ())
    run = RunState()
    driver = prometheus.Gauges(run)
    for event in events(-DAY)[:2]:
        run.handle(event)
        driver.handle(event)
    now["monotonic"] += 5.0
    driver.refresh()
    assert found == [1001.0 + 5.0]
