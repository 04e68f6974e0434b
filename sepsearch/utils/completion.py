"""Shell completion of command lines, by shtab: options, files, choices, and names of runs."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sepsearch.utils.command_line import ArgumentParser

SHELLS = ("bash", "zsh", "fish")
PROGRAM = "sepsearch"
RUN_ARGUMENTS = ("NAME", "RUN")  # positional arguments that take names of runs
# Names of runs: folders with a journal in the folder after --runs, else in ./runs.
RUN_NAMES = {
    "bash": "_sepsearch_runs",
    "zsh": "_sepsearch_runs",
    "fish": "(_sepsearch_runs)",
    "preamble": {
        "bash": """_sepsearch_runs() {
  local folder=runs number journal
  for ((number = 1; number < COMP_CWORD; number++)); do
    [[ ${COMP_WORDS[number]} == --runs ]] && folder=${COMP_WORDS[number + 1]}
  done
  for journal in "${folder/#\\~/$HOME}/$1"*/journal.jsonl; do
    [[ -f $journal ]] && basename "${journal%/*}"
  done
}""",
        "zsh": """_sepsearch_runs() {
  local folder=runs place=${words[(I)--runs]}
  (( place && place < CURRENT )) && folder=${words[place + 1]}
  compadd -- ${~folder}/*/journal.jsonl(N:h:t)
}""",
        "fish": """function _sepsearch_runs
  set -l words (commandline -opc)
  set -l folder runs
  if set -l place (contains -i -- --runs $words)
    set folder $words[(math $place + 1)]
  end
  for journal in $folder/*/journal.jsonl
    basename (dirname $journal)
  end
end""",
    },
}


def completion_script(shell: str, commands: Mapping[str, tuple[str, ArgumentParser]]) -> str:
    """The script that completes `sepsearch` in a shell.

    Args:
        shell: one of `SHELLS`.
        commands: purpose and parser by name.
    """
    import shtab

    root = ArgumentParser("", "Search for, register and use networks that pull instruments out of recordings.")
    root.prog = PROGRAM
    root.add_general(quiet=False)
    subparsers = root.add_subparsers(parser_class=argparse.ArgumentParser)
    for name, (purpose, own) in commands.items():
        subparsers.add_parser(name, parents=[own], add_help=False, help=purpose, description=purpose)
        for action in own._actions:
            if values := _values(action, shtab.FILE):
                vars(action)["complete"] = values
    topics = subparsers.add_parser("help", add_help=False, help="show options and examples of a command")
    topics.add_argument("command", choices=list(commands), nargs="?", help="the command")
    return str(shtab.complete(root, shell))


def _values(action: argparse.Action, files: Any) -> Any:
    """What shtab offers for an argument; None for nothing, or where it knows."""
    if action.dest in ("resume", "continued") or (not action.option_strings and action.metavar in RUN_ARGUMENTS):
        return RUN_NAMES
    return files if action.type is Path or action.metavar in ("FILE", "DIR", "MODEL", "WHERE") else None
