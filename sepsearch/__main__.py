"""`sepsearch COMMAND …` and `python -m sepsearch COMMAND …`: the commands by their names."""

import difflib
import importlib
import sys

from sepsearch import __version__
from sepsearch.utils.command_line import COMMANDS, program_name
from sepsearch.utils.errors import UserError, exit_on_user_error
from sepsearch.utils.terminal_text import write_line


def main() -> None:
    """Run a command, given as the first argument."""
    exit_on_user_error(lambda: run_command(sys.argv[1:]))


def run_command(words: list[str]) -> None:
    """Run a command line; raises `UserError` for an unknown command."""
    name, rest = (words[0], words[1:]) if words else ("help", [])
    if name == "--version":
        write_line(f"sepsearch {__version__}")
    elif name in ("help", "-h", "--help"):
        _show_help(rest)
    else:
        importlib.import_module(f"sepsearch.{_known(name)}").main(rest)


def _show_help(words: list[str]) -> None:
    """The commands, or the help of one."""
    if words:
        importlib.import_module(f"sepsearch.{_known(words[0])}").main(["--help"])
        return
    program = program_name("")
    for line in (
        f"usage: {program} COMMAND [options]",
        "",
        "Search, retrain and register small networks that pull one instrument out of a chamber recording.",
        "",
        "commands:",
        *(f"  {name:12}{purpose}" for name, purpose in COMMANDS.items()),
        "",
        f"{program} help COMMAND shows options and examples of a command; {program} --version the version.",
    ):
        write_line(line)


def _known(name: str) -> str:
    if name not in COMMANDS:
        like = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f": did you mean {like[0]}?" if like else ""
        raise UserError(f"unknown command {name!r}, expected one of {', '.join(COMMANDS)}{hint}")
    return name


if __name__ == "__main__":
    main()
