"""`python -m sepsearch.completion SHELL`: a script that completes sepsearch's command lines in a shell."""

import importlib

from sepsearch.utils.command_line import COMMANDS, ArgumentParser
from sepsearch.utils.completion import SHELLS, completion_script
from sepsearch.utils.errors import exit_on_user_error
from sepsearch.utils.terminal_text import write_line

DESCRIPTION = "Print a script by which a shell completes commands, options, files and names of runs of `sepsearch`."
EXAMPLES = (
    ("bash > ~/.local/share/bash-completion/completions/sepsearch", "for bash, read by the package bash-completion"),
    ("zsh > ~/.zfunc/_sepsearch", "for zsh, where ~/.zfunc is in fpath before compinit"),
    ("fish > ~/.config/fish/completions/sepsearch.fish", "for fish"),
)


def make_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser("completion", DESCRIPTION, EXAMPLES)
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))
    parser.add_general(quiet=False)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Print the script."""
    shell = make_parser().parse_args(argv).shell
    commands = {
        name: (purpose, importlib.import_module(f"sepsearch.{name}").make_parser())
        for name, purpose in COMMANDS.items()
    }
    for line in completion_script(shell, commands).expandtabs(8).splitlines():
        write_line(line)


if __name__ == "__main__":
    exit_on_user_error(main)
