"""What a user did wrong, said in one line."""

import sys
from collections.abc import Callable

EXIT_USER_ERROR = 2


class UserError(Exception):
    """A mistake that the user can mend: the message says what, where, expected, found, and what to do.

    Command lines print the message alone and exit with 2; a library caller catches it like any exception.
    """


def no_space(error: OSError, where: object) -> UserError:
    """The error for a disk that is full (or over quota) while `where` was being written."""
    return UserError(f"{where}: cannot be written: {error.strerror or error}: free some space there, then run again")


def exit_on_user_error(command: Callable[[], None]) -> None:
    """Run a command line; on a `UserError` print its one line to standard error and exit with 2."""
    try:
        command()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
