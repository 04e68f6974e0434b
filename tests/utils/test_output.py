"""--quiet, --verbose and --json: what is printed then, and where."""

import io
import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from sepsearch.utils.errors import UserError, exit_on_user_error
from sepsearch.utils.output import OUTPUT, library_level, write_json, write_note
from sepsearch.utils.progress import Progress
from sepsearch.utils.terminal_console import make_console, show_result


def printed(value: object, capsys: pytest.CaptureFixture[str]) -> object:
    write_json(value)
    text = capsys.readouterr().out
    assert text.isascii()
    assert not [character for character in text if not character.isprintable() and character != "\n"]
    return json.loads(text)


def test_numbers_that_do_not_exist_are_null(capsys):
    value = {"ratio": math.nan, "list": (math.inf, np.float32("nan"), 0.5)}
    assert printed(value, capsys) == {"ratio": None, "list": [None, None, 0.5]}


def test_paths_and_numbers_of_numpy_are_what_json_has(capsys):
    value = {Path("a"): [Path("b/c"), np.int64(3), np.float64(0.25), True, None]}
    assert printed(value, capsys) == {"a": ["b/c", 3, 0.25, True, None]}


@pytest.mark.parametrize("text", ["\x1b]0;owned\x07", "\x7f\x9b31m", "\u202egpj", "a\nb\tc", "\udcff", "Für 海 🎻"])
def test_text_comes_back_as_it_was_and_controls_no_terminal(text, capsys):
    assert printed([text], capsys) == [text]


def test_what_json_does_not_have_is_an_error():
    with pytest.raises(TypeError, match="object is nothing that JSON has"):
        write_json(object())


def test_a_note_is_left_out_when_quiet_and_on_standard_error_beside_json(capsys):
    write_note("one")
    OUTPUT.json = True
    write_note("two")
    OUTPUT.quiet = True
    write_note("three")
    output = capsys.readouterr()
    assert (output.out, output.err) == ("one\n", "two\n")


@pytest.mark.parametrize("terminal", [False, True])
def test_no_progress_is_shown_when_quiet(terminal):
    OUTPUT.quiet = True
    text = io.StringIO()
    with Progress(Console(file=text, force_terminal=terminal, force_interactive=terminal)) as progress:
        progress("hashing", 1, 3)
        progress("hashing", 3, 3)
    assert text.getvalue() == ""


@pytest.mark.parametrize(("as_json", "expected"), [(False, "result\n"), (True, "")])
def test_a_quiet_console_shows_the_result_unless_it_is_printed_as_json(as_json, expected, capsys):
    OUTPUT.quiet, OUTPUT.json = True, as_json
    console = make_console(error=as_json)
    console.quiet = OUTPUT.quiet
    console.print("note")
    show_result(console)
    console.print("result")
    output = capsys.readouterr()
    assert output.out + output.err == expected


def failing() -> None:
    raise UserError("runs/x: no such run")


@pytest.mark.parametrize("verbose", [False, True])
def test_the_traceback_of_an_error_is_shown_when_verbose_and_its_line_is_the_last(verbose, capsys):
    OUTPUT.verbose = verbose
    with pytest.raises(SystemExit) as caught:
        exit_on_user_error(failing)
    lines = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2
    assert lines[-1] == "error: runs/x: no such run"
    assert any("in failing" in line for line in lines) is verbose
    assert (len(lines) > 1) is verbose


def test_libraries_log_more_when_verbose():
    assert library_level(logging.ERROR) == logging.ERROR
    OUTPUT.verbose = True
    assert library_level(logging.ERROR) == logging.INFO


def test_optuna_logs_more_when_verbose():
    import optuna

    from sepsearch.search.sampling.sampler import Sampler
    from sepsearch.spaces.space import parse_space

    OUTPUT.verbose = True
    try:
        Sampler(parse_space({"parameters": {"filters": [4, 8]}}, "space"), None, "x", 0)
        assert optuna.logging.get_verbosity() == logging.INFO
    finally:
        optuna.logging.set_verbosity(logging.ERROR)


@pytest.mark.parametrize(
    ("verbose", "as_json", "expected"),
    [(False, False, (False, logging.ERROR)), (True, False, (True, logging.INFO)), (True, True, (False, logging.INFO))],
)
def test_workers_print_only_when_verbose_and_never_beside_json(verbose, as_json, expected):
    from sepsearch.distributed.session import logging_options

    OUTPUT.verbose, OUTPUT.json = verbose, as_json
    assert tuple(logging_options().values()) == expected
