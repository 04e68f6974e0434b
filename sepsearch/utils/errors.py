"""What a user did wrong, said in one line."""

import contextlib
import errno
import os
import select
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from sepsearch.utils.home import provide_home
from sepsearch.utils.output import OUTPUT
from sepsearch.utils.terminal_text import printable, use_fallback_characters, write_line

Item = TypeVar("Item")
Result = TypeVar("Result")
LONGEST_MESSAGE = 600  # characters
EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # as shells give it after Ctrl-C


class UserError(Exception):
    """A mistake of the user: the message says what, where, expected, found, and what to do.

    Command lines print the message alone and exit with 2; a library caller catches it like any exception.
    """


class UserErrors(UserError):
    """Several mistakes that were found in one pass: command lines print each on a line of its own.

    Args:
        problems: the mistakes, in order.
    """

    def __init__(self, problems: Sequence[UserError]):
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)


def each_problem(error: UserError) -> tuple[UserError, ...]:
    """The mistakes that an error stands for, in order."""
    return error.problems if isinstance(error, UserErrors) else (error,)


def raise_all(problems: Sequence[UserError]) -> None:
    """Raise what went wrong, if anything: one mistake as it is, several as one `UserErrors`."""
    each = [one for problem in problems for one in each_problem(problem)]
    if each:
        raise each[0] if len(each) == 1 else UserErrors(each)


def each_of(items: Iterable[Item], work: Callable[[Item], Result]) -> list[Result]:
    """`work` done with every item, the mistakes of all of them raised together (`raise_all`)."""
    results, problems = [], []
    for item in items:
        try:
            results.append(work(item))
        except UserError as error:
            problems.append(error)
    raise_all(problems)
    return results


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
    """Run a command line; every mistake becomes a line on standard error, with exit code 2; Ctrl-C is exit code 130.

    With `--verbose` the traceback comes before those lines. Where the reader of standard output is gone, exit code 1.
    """
    use_fallback_characters()
    provide_home()
    try:
        command()
    except KeyboardInterrupt:
        write_line("interrupted", error=True)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        if not _output_closed():
            raise  # another pipe's
        sys.exit(EXIT_FAILED)
    except UserError as error:
        for line in "".join(traceback.format_exception(error)).splitlines() if OUTPUT.verbose else ():
            write_line(line, error=True)
        for problem in each_problem(error):
            write_line(f"error: {one_line(problem)}", error=True)
        sys.exit(EXIT_USER_ERROR)


def _output_closed() -> bool:
    """Whether the reader of standard output is gone, such as `head`; then nothing more is written there."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    closed = any(event & select.POLLERR for _, event in poll.poll(0))
    if closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes it at its end
    return closed


def reason_of(error: BaseException, most: int = 200) -> str:
    """An exception in one line: its kind (unless it is the user's own) and the first line of what it says."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:most].rstrip(".:")
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
