"""Calls from Python: arguments with the command line's checks, messages that name them, this process as before."""

import argparse
import contextlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sepsearch.runs.options import RunOptions, make_parser
from sepsearch.spaces.shipped import space_path
from sepsearch.spaces.space import Space, parse_space
from sepsearch.utils.errors import UserError, UserErrors
from sepsearch.utils.home import provide_home
from sepsearch.utils.output import OUTPUT
from sepsearch.utils.terminal_console import LiteralConsole, make_console

# A command to type, which stays as it is, or an option of one.
_WORDS = re.compile(r"\S*python\S* -m sepsearch\.[^:;]*|\bsepsearch [a-z]+ [^:;]*|--([a-z][a-z-]*)")
_SPECIAL = {"resume": "sepsearch.resume", "accept-changes": "accept_changes=True"}


def python_names(text: str) -> str:
    """A message with options as Python's arguments: "--gpus-per-trial" becomes "gpus_per_trial"."""

    def name(match: re.Match[str]) -> str:
        option = match[1]
        return match[0] if option is None else _SPECIAL.get(option, option.replace("-", "_"))

    return _WORDS.sub(name, re.sub("^NAME (?=[A-Za-z0-9])", "run ", text))


@contextlib.contextmanager
def python_errors() -> Iterator[None]:
    """Let messages of `UserError` name Python's arguments."""
    try:
        yield
    except UserError as error:
        for one in (error, *(error.problems if isinstance(error, UserErrors) else ())):
            one.args = (python_names(str(one)),)
        raise


@contextlib.contextmanager
def python_caller(quiet: bool) -> Iterator[LiteralConsole]:
    """A console for a search that is started from Python, whose process is left as it was found.

    What is put back: levels of loggers, filters of warnings, and what messages say (`sepsearch.utils.output`).

    Args:
        quiet: print nothing.
    """
    said = dict(vars(OUTPUT))
    loggers = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    levels = {logger: logger.level for logger in loggers}
    provide_home()
    with python_errors(), warnings.catch_warnings():
        try:
            for name in said:
                setattr(OUTPUT, name, False)
            OUTPUT.quiet, OUTPUT.python = quiet, True
            # Without ipywidgets, which nothing here needs, Ray and tqdm ask for it in a notebook.
            logging.getLogger("ray.widgets.util").setLevel(logging.ERROR)
            warnings.filterwarnings("ignore", message="IProgress not found")
            console = make_console()
            console.quiet = quiet
            yield console
        finally:
            for name, value in said.items():
                setattr(OUTPUT, name, value)
            for logger, level in levels.items():
                logger.setLevel(level)


def python_options(values: Mapping[str, Any]) -> RunOptions:
    """The options of a run from a Python caller's arguments, each checked as the command line checks it.

    Args:
        values: by name of `RunOptions`; None for those that are not given. `space` is the name of one that comes with
            sepsearch, a path, a mapping as a space file has it, or a `Space`. What the command line takes as a list
            with commas, or several times, may be a sequence.

    Raises:
        UserError: a value is not what was expected.
    """
    actions = {action.dest: action for action in make_parser()._actions}
    checked = {name: _checked(name, value, actions[name]) for name, value in values.items() if value is not None}
    with python_errors():
        return RunOptions(**checked)


def _checked(name: str, value: Any, action: argparse.Action) -> Any:
    if name == "space":
        return _space(value)
    kind: Any = action.type
    switch = action.nargs == 0  # an option without a value
    if switch != isinstance(value, bool):
        raise UserError(f"{name}: expected {'True or False' if switch else 'another value'}, found {value!r}")
    if switch:
        return value
    several = isinstance(value, list | tuple | set)
    texts = list(map(str, value)) if several else [str(value)]
    repeated = isinstance(action, argparse._AppendAction)
    texts = texts if repeated else [",".join(texts)]
    try:
        with python_errors():
            found = [kind(text) if kind else text for text in texts]
            return found if repeated else found[0]
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{name}: {error}") from error


def _space(given: Any) -> Path | Space:
    if isinstance(given, Space):
        return given
    if isinstance(given, Mapping):
        return parse_space(_plain(given), "space")
    if isinstance(given, str | Path):
        return space_path(str(given))
    raise UserError(f"space: expected a name, a path or a dictionary, found {type(given).__name__}")


def _plain(value: Any) -> Any:
    """A value with dictionaries and lists for mappings and sequences of other kinds."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple | range) else value
