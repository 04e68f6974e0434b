"""Help, versions and wrong arguments of every command: the same style everywhere, and nothing heavy is imported."""

import importlib
import re
import shlex
import subprocess
import sys

import pytest

from sepsearch import __version__
from sepsearch.__main__ import run_command
from sepsearch.runs.options import parse_arguments
from sepsearch.utils.command_line import COMMANDS, ArgumentParser
from sepsearch.utils.errors import UserError

HEAVY = ("torch", "ray", "mlflow", "optuna", "pyarrow", "scipy", "matplotlib", "rich", "shtab")
INSTALLED = "import sys; sys.argv = ['sepsearch', *sys.argv[1:]]; from sepsearch.__main__ import main; main()"


def parser_of(command: str) -> ArgumentParser:
    return importlib.import_module(f"sepsearch.{command}").make_parser()


def failure(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error that a command line is refused with."""
    with pytest.raises(SystemExit) as caught:
        run_command(words)
    output = capsys.readouterr()
    assert caught.value.code == 2
    assert output.out == ""
    (line,) = output.err.splitlines()
    return line


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_with_a_value_names_its_default(command):
    parser = parser_of(command)
    options = [action for action in parser._actions if action.option_strings and action.nargs != 0]
    shown = {action.dest: parser._get_formatter()._expand_help(action) for action in options if not action.required}
    assert {name: text for name, text in shown.items() if "(default: " not in text} == {}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples_that_it_takes(command):
    parser = parser_of(command)
    assert parser.epilog
    lines = [line.split("|")[0].split(">")[0] for line in parser.epilog.splitlines() if "#" not in line]
    heading, *examples = lines
    assert heading == "examples:"
    assert examples
    for line in examples:
        program = shlex.split(parser.prog)
        words = shlex.split(line)
        assert words[: len(program)] == program
        parser.parse_args(words[len(program) :])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_its_version(command, capsys):
    with pytest.raises(SystemExit) as caught:
        run_command([command, "--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"sepsearch {__version__}\n"


def test_the_program_says_its_version(capsys):
    run_command(["--version"])
    assert capsys.readouterr().out == f"sepsearch {__version__}\n"


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_help_lists_all_commands(words, capsys):
    run_command(words)
    listed = re.findall(r"^  (\w+) ", capsys.readouterr().out, re.MULTILINE)
    assert listed == list(COMMANDS)


def test_help_of_a_command_is_what_it_prints_itself(capsys):
    for words in (["help", "fetch"], ["fetch", "--help"]):
        with pytest.raises(SystemExit):
            run_command(words)
    text = capsys.readouterr().out
    assert text.startswith("usage: sepsearch fetch")
    assert text[: len(text) // 2] == text[len(text) // 2 :]


@pytest.mark.parametrize(
    ("line", "program"),
    [
        (["-c", INSTALLED, "run"], "sepsearch run"),
        (["-m", "sepsearch.run"], "python -m sepsearch.run"),
        (["-m", "sepsearch", "run"], "python -m sepsearch run"),
    ],
)
def test_the_usage_names_the_program_as_it_was_typed(line, program):
    done = subprocess.run([sys.executable, *line, "-h"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: {program} --space")
    assert f"\n  {program} --resume urmp\n" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command):
    code = (
        f"import sys, sepsearch.{command} as command\n"
        "try:\n    command.main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print('loaded:', *(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].strip() == "loaded:"


def test_options_of_a_run_are_in_groups():
    titles = [group.title for group in parser_of("run")._action_groups if group._group_actions or group.description]
    assert titles == [
        "what to search",
        "budget",
        "machines",
        "names and storage",
        "notifications",
        "tracking",
        "output and help",
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "--trails", "3"], "error: unrecognized arguments: --trails 3: did you mean --trials?"),
        (["run", "--trials", "0"], "error: --trials: '0', expected a whole number of at least 1: see sepsearch run"),
        (["watch"], "error: the following arguments are required: NAME: see sepsearch watch --help"),
        (["report", "urmp", "--runs"], "error: --runs: expected one argument"),
        (["completion", "csh"], "error: SHELL: invalid choice: 'csh'"),
        (["prepare", "URMP", "-q", "-v"], "error: -v/--verbose: not allowed with argument -q/--quiet"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_2(words, expected, capsys):
    assert failure(words, capsys).startswith(expected)


def test_an_unknown_command_is_told_with_the_nearest_one():
    with pytest.raises(UserError, match=r"unknown command 'reprot', expected one of run, .*: did you mean report\?"):
        run_command(["reprot"])


def test_options_of_an_earlier_command_line_are_forgotten():
    from sepsearch.utils.output import OUTPUT

    parse_arguments(["--space", "laptop", "--quiet", "--json"])
    assert (OUTPUT.quiet, OUTPUT.json) == (True, True)
    parse_arguments(["--space", "laptop"])
    assert (OUTPUT.quiet, OUTPUT.json) == (False, False)


def test_a_reader_that_is_gone_costs_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "sepsearch", "help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == ""
    assert process.wait() == 1
    process.stderr.close()
