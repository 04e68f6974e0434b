"""Watchdog of jobs at work: one without a report for far longer than its epochs take counts as hung.

Limits are generous, for nothing is gained by ending a slow job; they follow from what the stage's epochs took so far.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

LEAST = 600.0  # seconds between two epochs that are always allowed
STARTING = 1800.0  # likewise up to the first epoch, with the data brought to the device, once others have done epochs
UNKNOWN = 6 * 3600.0  # likewise as long as no job of the stage has done an epoch
FACTOR = 20.0  # times the longest epoch of the stage
STALL = 10.0  # a driver that looks less often than this has stood still itself


@dataclass
class _Job:
    since: float  # its last report, on the watchdog's clock
    epochs: int = 0


class Watchdog:
    """Finds jobs that hang: their worker was stopped, or is in a deadlock.

    A job is watched from its first report on (not while it waits for a worker, or for a node to be started). Time
    in which the driver itself stood still (stopped, suspended, blocked by a disk) does not count.

    Args:
        clock: seconds on a monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._looked = clock()
        self._stood_still = 0.0
        self._jobs: dict[str, _Job] = {}
        self._longest = 0.0

    def _now(self) -> float:
        """Seconds in which the driver was at work."""
        now = self._clock()
        if (gap := now - self._looked) > STALL:
            self._stood_still += gap
        self._looked = now
        return now - self._stood_still

    def report(self, job: str, epoch: bool) -> None:
        """A report came from a job: of an epoch, or that it has begun."""
        now = self._now()
        known = self._jobs.get(job)
        if known is None or not epoch:
            self._jobs[job] = _Job(now)
            return
        self._longest = max(self._longest, now - known.since)
        self._jobs[job] = _Job(now, known.epochs + 1)

    def forget(self, job: str) -> None:
        """A job has ended."""
        self._jobs.pop(job, None)

    def _limit(self, job: _Job) -> float:
        if not self._longest:
            return UNKNOWN
        return max(LEAST if job.epochs else STARTING, FACTOR * self._longest)

    def hung(self) -> dict[str, str]:
        """Units without a report for too long: job → what to say of it. Call a few times a second."""
        now = self._now()
        return {
            id: f"no report for {now - job.since:.0f} s, epochs take at most {self._longest:.0f} s"
            if self._longest
            else f"no report for {now - job.since:.0f} s"
            for id, job in self._jobs.items()
            if now - job.since > self._limit(job)
        }
