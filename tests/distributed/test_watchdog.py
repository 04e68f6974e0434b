"""Which units count as hung, with a clock that the tests set."""

import pytest

from sepsearch.distributed.watchdog import FACTOR, LEAST, STALL, STARTING, UNKNOWN, Watchdog


class Driver:
    """A watchdog whose driver looks once a second."""

    def __init__(self):
        self.time = 1000.0
        self.watchdog = Watchdog(lambda: self.time)

    def work(self, seconds: float) -> dict[str, str]:
        """So much time with the driver at work; what hangs at its end."""
        found = {}
        for _ in range(int(seconds)):
            self.time += 1.0
            found = self.watchdog.hung()
        return found

    def epochs(self, unit: str, seconds: float, count: int = 2) -> None:
        self.watchdog.report(unit, epoch=False)
        for _ in range(count):
            assert not self.work(seconds)
            self.watchdog.report(unit, epoch=True)


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_a_unit_that_reports_no_more_hangs_after_the_least_limit(driver):
    driver.epochs("a", 3)
    assert not driver.work(LEAST)
    assert driver.work(2) == {"a": f"no report for {LEAST + 2:.0f} s, epochs take at most 3 s"}


def test_long_epochs_make_the_limit_long(driver):
    driver.epochs("a", 100)
    assert not driver.work(FACTOR * 100)
    assert list(driver.work(2)) == ["a"]


def test_epochs_of_another_unit_of_the_stage_count_as_well(driver):
    driver.epochs("slow", 200)
    driver.watchdog.forget("slow")
    driver.epochs("fast", 1)
    assert not driver.work(FACTOR * 200 - 10)


def test_a_unit_without_an_epoch_may_take_longer_and_longest_where_none_of_the_stage_has_done_one(driver):
    driver.watchdog.report("a", epoch=False)
    assert not driver.work(STARTING + 10)
    driver.epochs("b", 2, count=1)
    driver.watchdog.forget("b")
    assert list(driver.work(1)) == ["a"]
    other = Driver()
    other.watchdog.report("a", epoch=False)
    assert not other.work(UNKNOWN)
    assert list(other.work(2)) == ["a"]


def test_a_unit_that_waits_for_a_worker_is_not_watched(driver):
    driver.epochs("a", 1)
    driver.watchdog.forget("a")
    assert not driver.work(10 * LEAST)


def test_time_in_which_the_driver_stood_still_does_not_count(driver):
    driver.epochs("a", 3)
    driver.time += 100 * LEAST
    assert not driver.watchdog.hung()
    assert not driver.work(LEAST - 1)
    assert list(driver.work(5)) == ["a"]


def test_a_report_that_came_while_the_driver_stood_still_is_no_long_epoch(driver):
    driver.epochs("a", 3)
    driver.time += 100 * STALL
    driver.watchdog.report("a", epoch=True)
    driver.work(LEAST)
    assert list(driver.work(2)) == ["a"]


def test_a_unit_that_is_handed_out_again_begins_anew(driver):
    driver.epochs("a", 3)
    driver.work(LEAST - 5)
    driver.watchdog.report("a", epoch=False)
    assert not driver.work(STARTING - 5)
