"""Waiting for a storage that does not take a run's files, as a driver does it: with a limit, and saying so."""

import time
from collections.abc import Callable

from sepsearch.errors import StorageFault

PATIENCE = 600.0  # seconds
EVERY = 5.0  # seconds between two trials


class StorageWait:
    """Whether the storage takes files again after a worker could not write or read its own.

    Args:
        probe: writes, reads and removes a file of so many bytes where the workers' files are; raises `StorageFault`.
        say: gets a line at the beginning and at the end of a wait.
        clock: seconds on a monotonic clock.
    """

    def __init__(
        self, probe: Callable[[int], None], say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ):
        self._probe, self._say, self._clock = probe, say, clock
        self._size = 0
        self._fault: StorageFault | None = None
        self._since = self._tried = 0.0

    @property
    def waiting(self) -> bool:
        """Whether no unit should begin now."""
        return self._fault is not None

    def begin(self, reason: str, size: int) -> bool:
        """Take in a worker's fault: whether the driver cannot write there either, so that all must wait.

        Otherwise it is the trouble of the worker's node alone, or is over.

        Args:
            reason: what the worker says.
            size: bytes of the file that it could not write.
        """
        self._size = max(self._size, size)
        if self._fault is None and (fault := self._try()):
            self._fault, self._since = fault, self._clock()
            self._say(f"{reason}: waiting up to {PATIENCE / 60:.0f} min for it to get better; nothing is lost")
        return self.waiting

    def check(self) -> None:
        """Try again, every EVERY seconds; raises `StorageFault` when PATIENCE is over."""
        if self._fault is None or self._clock() - self._tried < EVERY:
            return
        fault = self._try()
        if fault is None:
            self._say(f"the storage takes files again after {self._clock() - self._since:.0f} s: going on")
            self._fault = None
        elif self._clock() - self._since > PATIENCE:
            raise fault

    def _try(self) -> StorageFault | None:
        try:
            self._probe(max(1, self._size))
        except StorageFault as fault:
            return fault
        finally:
            self._tried = self._clock()
        return None
