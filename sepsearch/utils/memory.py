"""Heap of this process: freed memory is returned to the operating system."""

import contextlib
import ctypes


def trim_heap() -> None:
    """Return freed heap memory to the operating system: glibc's `malloc_trim`; nothing with another C library.

    It takes milliseconds and leaves Python's lock free meanwhile.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
