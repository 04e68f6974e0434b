"""Command-line parsing that all commands share."""

import argparse
from typing import NoReturn

from sepsearch.utils.errors import one_line


class ArgumentParser(argparse.ArgumentParser):
    """The standard library's, but that what it says of wrong arguments, such as odd file names, is safe to print."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2, usage and one line on standard error."""
        super().error(one_line(message))


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number of at least 1")
    return int(text)
