"""Command lines that all commands share: names of programs, groups, defaults, examples, errors in one line."""

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from sepsearch import __version__
from sepsearch.utils.errors import EXIT_USER_ERROR, one_line
from sepsearch.utils.output import set_output
from sepsearch.utils.terminal_text import write_line

# Modules of this package with `make_parser` and `main`, and what they are for.
COMMANDS = {
    "run": "search, retrain and register the best network for every instrument",
    "watch": "follow a running search from another terminal or machine",
    "stop": "end trials of a running search, the search or the run",
    "prepare": "check a folder of recordings and build its shards",
    "replay": "replay recorded searches under other samplers and rungs",
    "track": "write a run into MLflow from its journal",
    "ui": "show all runs in MLflow, opened on the final models",
    "report": "write a run's report again",
    "compare": "show runs side by side, and write their trials and curves as tables",
    "fetch": "bring a run from a storage to this machine",
    "promote": "make a model the champion of its instrument",
    "separate": "pull instruments out of a mixture",
    "listen": "drop a recording on a page in the browser, and hear its voices",
    "export": "write a model as ONNX, with an example that uses it",
    "demo": "render the demo ensemble",
    "completion": "print a script that completes command lines in bash, zsh or fish",
}


class HelpFormatter(argparse.HelpFormatter):
    """The standard library's, but that lines of examples stay as they are and values that are defaults are named."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if action.default in (None, argparse.SUPPRESS) or action.nargs == 0 or "default" in text:
            return text
        return f"{text} (default: %(default)s)"


class ArgumentParser(argparse.ArgumentParser):
    """The parser of a command; add its own options, then call `add_general`.

    Args:
        command: its name; "" for `sepsearch` itself.
        description: one sentence or two.
        examples: (arguments, what they do).
        usage: arguments for the first line of the help, a line each; all options if empty.

    Attributes:
        intermixed: whether options may stand between positional arguments of which there are any number.
    """

    intermixed = False

    def __init__(
        self, command: str, description: str, examples: Sequence[tuple[str, str]] = (), usage: Sequence[str] = ()
    ):
        program = program_name(command)
        lines = [f"  # {what}\n  {program} {line}".rstrip() for line, what in examples]
        super().__init__(
            prog=program,
            usage=("\n" + " " * len("usage: ")).join(f"{program} {line}" for line in usage) or None,
            description=description,
            epilog="\n".join(["examples:", *lines]) if lines else None,
            formatter_class=HelpFormatter,
            add_help=False,
        )

    def add_general(self, quiet: bool = True, json: str = "") -> None:
        """Add the options that all commands have, in a group of their own.

        Args:
            quiet: whether it has `--quiet`.
            json: what `--json` prints; "" for a command without it.
        """
        group = self.add_argument_group("output and help")
        if json:
            group.add_argument(
                "--json", action="store_true", help=f"{json} as JSON, and nothing else on standard output"
            )
        amount = group.add_mutually_exclusive_group()
        if quiet:
            amount.add_argument("-q", "--quiet", action="store_true", help="print errors and the result only")
        more = "print the traceback of an error, too, and what libraries log"
        amount.add_argument("-v", "--verbose", action="store_true", help=more)
        version = f"sepsearch {__version__}"
        group.add_argument("--version", action="version", version=version, help="print the version and exit")
        group.add_argument("-h", "--help", action="help", help="print this and exit")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """As the standard library's; sets what `utils.output` says of this process."""
        parse = self.parse_known_intermixed_args if self.intermixed else self.parse_known_args
        arguments, unknown = parse(args, namespace)
        if unknown:
            option = unknown[0].partition("=")[0]
            like = difflib.get_close_matches(option, self._option_string_actions, 1)
            self.error(f"unrecognized arguments: {' '.join(unknown)}" + (f": did you mean {like[0]}?" if like else ""))
        set_output(arguments)
        return arguments

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 and one line on standard error, as for all mistakes of a user."""
        line = one_line(message.removeprefix("argument "))
        write_line(f"error: {line}: see {self.prog} --help", error=True)
        sys.exit(EXIT_USER_ERROR)


def program_name(command: str) -> str:
    """What was typed to start a command, for its usage: "sepsearch run" or "python -m sepsearch.run".

    Args:
        command: its name; "" for `sepsearch` itself.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = spec.name if spec else ""
    if command and module == f"sepsearch.{command}":
        return f"python -m {module}"
    return " ".join(filter(None, ("python -m sepsearch" if module == "sepsearch.__main__" else "sepsearch", command)))


def add_runs(add: Callable[..., argparse.Action]) -> None:
    """Add `--runs`, the folder of run folders, with a parser's or a group's `add_argument`."""
    add("--runs", metavar="DIR", type=Path, default=Path("runs"), help="where run folders are")


def add_uri(add: Callable[..., argparse.Action]) -> None:
    """Add `--uri`, the address of MLflow, with a parser's or a group's `add_argument`."""
    add("--uri", help="MLflow's address (default: MLFLOW_TRACKING_URI, or else mlflow.db here)")


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number of at least 1")
    return int(text)
