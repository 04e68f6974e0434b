"""What a user did wrong, said in one line."""

import contextlib
import errno
import sys
from collections.abc import Callable, Iterator

from sepsearch.utils.home import provide_home
from sepsearch.utils.terminal_text import printable, use_fallback_characters, write_line

LONGEST_MESSAGE = 600  # characters
EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # as shells give it after Ctrl-C


class UserError(Exception):
    """A mistake of the user: the message says what, where, expected, found, and what to do.

    Command lines print the message alone and exit with 2; a library caller catches it like any exception.
    """


class StorageFault(UserError):
    """Files cannot be written or read where a run keeps them: disk full, read-only, store away. No unit's own failure.

    Args:
        message: as of a `UserError`.
        size: bytes of the file that it happened with; 0 if unknown.
    """

    def __init__(self, message: str, size: int = 0):
        super().__init__(message)
        self.size = size


@contextlib.contextmanager
def storage_fault(size: int = 0) -> Iterator[None]:
    """Turn a `UserError` of a storage into a `StorageFault`; `size` is that of the file, in bytes."""
    try:
        yield
    except UserError as error:
        raise StorageFault(str(error), size) from error


class NodeUnfit(Exception):
    """This machine cannot do its part of the work, but another one may; says which and why."""


def one_line(text: object) -> str:
    """A message on one line: of moderate length, and without characters that control a terminal."""
    line = printable(" ".join(str(text).split()))
    return line if len(line) <= LONGEST_MESSAGE else f"{line[: LONGEST_MESSAGE - 1]}…"


def no_space(error: OSError, where: object, choice: str = "a folder that can be written") -> StorageFault:
    """The error for `where`, which could not be written: the disk is full, over quota, or not the user's."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, None)
    advice = "free some space there" if full else f"choose {choice}"
    return StorageFault(f"{where}: cannot be written: {error.strerror or error}: {advice}, then run again")


def exit_on_user_error(command: Callable[[], None]) -> None:
    """Run a command line; a `UserError` becomes one line on standard error and exit code 2, Ctrl-C exit code 130."""
    use_fallback_characters()
    provide_home()
    try:
        command()
    except KeyboardInterrupt:
        write_line("interrupted", error=True)
        sys.exit(EXIT_INTERRUPTED)
    except UserError as error:
        write_line(f"error: {one_line(error)}", error=True)
        sys.exit(EXIT_USER_ERROR)


def reason_of(error: BaseException, most: int = 200) -> str:
    """An exception in one line: its kind (unless it is the user's own) and the first line of what it says."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:most].rstrip(".:")
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
