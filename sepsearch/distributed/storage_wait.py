"""Waiting for a storage that does not take a run's files, as a driver does it: with a limit, and saying so."""

import time
from collections.abc import Callable

from sepsearch.utils.errors import StorageFault

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
        self._reason = ""  # "" while there is nothing to wait for
        self._since = self._tried = 0.0

    @property
    def waiting(self) -> bool:
        """Whether no job should begin now."""
        return bool(self._reason)

    def begin(self, reason: str, size: int) -> bool:
        """Take in a worker's fault: whether the driver cannot write there either, so that all must wait.

        Otherwise it is the trouble of the worker's node alone, or is over.

        Args:
            reason: what the worker says.
            size: bytes of the file that it could not write.
        """
        self._size = max(self._size, size)
        if not self._reason and self._try():
            self._reason, self._since = reason, self._clock()
            self._say(f"{reason}; trials wait for that, up to {PATIENCE / 60:.0f} min, and nothing is lost")
        return self.waiting

    def check(self) -> None:
        """Try again, every EVERY seconds; raises `StorageFault` when PATIENCE is over."""
        if not self._reason or self._clock() - self._tried < EVERY:
            return
        fault, waited = self._try(), self._clock() - self._since
        if fault is None:
            self._say(f"the storage takes files again after {waited:.0f} s: going on")
            self._reason = ""
        elif waited > PATIENCE:
            raise StorageFault(self._reason, self._size) from fault

    def _try(self) -> StorageFault | None:
        try:
            self._probe(max(1, self._size))
        except StorageFault as fault:
            return fault
        finally:
            self._tried = self._clock()
        return None
