"""How much a command prints, and in which form: `--quiet`, `--verbose` and `--json` of this process."""

import argparse
import json
import logging
import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepsearch.utils.terminal_text import write_line


@dataclass
class Output:
    """What was asked for.

    Attributes:
        quiet: errors and the result only; no progress, notes, warnings or hints.
        verbose: the traceback of an error, too, and what libraries log.
        json: the result as JSON on standard output, everything else on standard error.
        python: a search was started from Python: commands in messages are those of Python.
    """

    quiet: bool = False
    verbose: bool = False
    json: bool = False
    python: bool = False


OUTPUT = Output()  # of this process; every parsed command line sets it


def set_output(arguments: argparse.Namespace) -> None:
    """Take over what a parsed command line says; what it has no option for is off."""
    for name in vars(Output()):
        setattr(OUTPUT, name, bool(getattr(arguments, name, False)))
    if OUTPUT.verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")  # on standard error


def library_level(level: int) -> int:
    """The least level of a library's messages that are shown: `level`, or all but debugging with `--verbose`."""
    return logging.INFO if OUTPUT.verbose else level


def write_note(text: object, error: bool = False) -> None:
    """Print a line beside the result: not with `--quiet`; with `--json` on standard error in any case."""
    if not OUTPUT.quiet:
        write_line(text, error=error or OUTPUT.json)


def write_json(value: object) -> None:
    """Print a result as JSON on standard output; numbers that are none are null. ASCII, safe for any terminal."""
    text = json.dumps(_plain(value), indent=2, allow_nan=False).replace("\x7f", "\\u007f")
    for line in text.splitlines():
        write_line(line)


def _plain(value: Any) -> Any:
    """A value of what JSON has: NaN and infinities are None, paths text, NumPy's numbers Python's."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, Iterable):
        return [_plain(one) for one in value]
    raise TypeError(f"{type(value).__name__} is nothing that JSON has")
