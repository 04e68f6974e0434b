"""What commands print of text from files: no control of the terminal, no markup, no traceback for want of characters."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from event_fixtures import journal, story, until, write_run
from recording_fixtures import write_urmp_tree
from rich.table import Table
from rich.text import Text

from sepsearch.utils.errors import UserError, exit_on_user_error, one_line
from sepsearch.utils.terminal_console import LiteralColumn, LiteralConsole
from sepsearch.utils.terminal_text import encodable, printable, write_line

TITLE, CLEAR, C1, OVERRIDE = "\x1b]0;owned\x07", "\x1b[2J", "\x9b31m", "\u202egpj.exe"
HOSTILE = f"{TITLE}{CLEAR}{C1}{OVERRIDE}[bold red]x[/]:smile:\r"


def console(encoding: str = "utf-8", width: int = 100, terminal: bool = False) -> LiteralConsole:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return LiteralConsole(file=file, width=width, force_terminal=terminal)


def output(written: LiteralConsole) -> str:
    written.file.flush()
    return written.file.buffer.getvalue().decode(written.encoding)


def controls(text: str) -> set[str]:
    """Characters that are none to be seen, but for line breaks."""
    return {character for character in text if not character.isprintable() and character != "\n"}


# Text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (TITLE, r"\x1b]0;owned\x07"),
        (C1, r"\x9b31m"),
        (OVERRIDE, r"\u202egpj.exe"),
        ("a\rb", r"a\rb"),
        ("\udcff", r"\udcff"),
        ("\u2028", r"\u2028"),
        ("\x7f", r"\x7f"),
        ("\ufeffa", r"\ufeffa"),
    ],
)
def test_what_controls_a_terminal_becomes_its_escape(raw, shown):
    assert printable(raw) == shown


@pytest.mark.parametrize("text", ["Für Elise", "春の海\u3000その一", "می\u200cخواهم", "🎻", "a [b] :c: \\d", "1\n2\t3"])
def test_letters_of_all_languages_stay_as_they_are(text):
    assert printable(text) == text


def test_a_line_has_no_line_breaks_of_what_it_names(capsys):
    write_line("runs/a\nerror: forged\tb")
    assert capsys.readouterr().out == "runs/a\\nerror: forged\\tb\n"
    assert one_line("a\nb \x1b") == r"a b \x1b"


def test_an_encoding_that_lacks_characters_gets_ascii_or_escapes():
    assert encodable("0.5 ± 0.1 … a → b – Für 海", "ascii") == r"0.5 +- 0.1 ... a -> b - F\xfcr \u6d77"
    assert encodable("± ü →", "latin-1") == "± ü ->"


# Consoles


def test_a_console_takes_square_brackets_and_colons_for_characters():
    out = console()
    out.print("results: runs/[bold]x[/]/results.json :smile: [/]", soft_wrap=True)
    assert output(out) == "results: runs/[bold]x[/]/results.json :smile: [/]\n"


@pytest.mark.parametrize("make", [str, Text], ids=["str", "Text"])
def test_nothing_that_a_table_or_a_line_is_made_of_controls_the_terminal(make):
    out = console(width=200)
    table = Table(title=make(HOSTILE), caption=make(HOSTILE))
    table.add_column(make(HOSTILE))
    table.add_row(make(HOSTILE))
    out.print(table)
    out.print(make(HOSTILE))
    text = output(out)
    assert controls(text) == set()
    assert text.count(r"\x1b]0;owned") == 5
    assert make is Text or text.count(r"\x1b[2J\x9b31m\u202egpj.exe[bold red]x[/]:smile:\r") == 5


def test_a_line_that_is_not_wrapped_is_one_line():
    out = console(width=20)
    out.print(f"source: a\nerror: {'forged ' * 10}", soft_wrap=True)
    assert output(out).count("\n") == 1


def test_columns_stay_aligned_where_characters_are_replaced():
    out = console("ascii")
    table = Table(box=None)
    table.add_column("ratio", justify="right")
    table.add_column("last")
    table.add_row("0.512 ± 0.010", "a")
    table.add_row("0.5", "b")
    out.print(table)
    lines = output(out).splitlines()
    assert lines[1].index("a") == lines[2].index("b")
    assert "0.512 +- 0.010" in lines[1]


def test_a_progress_bar_shows_a_files_name_as_it_is():
    from rich.progress import Progress

    out = console(terminal=True)
    with Progress(LiteralColumn("{task.description}"), console=out) as progress:
        progress.add_task("mix [bold].wav\x1b]0;owned\x07", total=1)
    assert r"mix [bold].wav\x1b]0;owned\x07" in output(out)
    assert "\x1b]0;" not in output(out)


# Commands


@pytest.fixture
def hostile_run(tmp_path: Path) -> Path:
    """The folder of runs with a run whose journal has hostile text wherever text may stand."""
    events = until(journal(story()), "final_end")
    for event in events:
        if event["event"] == "search":
            event["caveats"] = {"vc": HOSTILE}
            event["dataset"]["source"] = HOSTILE
        elif event["event"] == "trial_end" and event["state"] == "failed":
            event["reason"] = HOSTILE
        elif event["event"] == "trial":
            event["params"] = {"family": HOSTILE}
    write_run(tmp_path / "duets", events)  # ids and codes of instruments become paths: a journal with such is refused
    return tmp_path


def test_watch_of_a_hostile_journal_prints_it_as_text(hostile_run, capsys):
    from sepsearch.watch import main

    main(["duets", "--runs", str(hostile_run), "--once"])
    text = capsys.readouterr().out
    assert controls(text) == set()
    assert r"\x1b]0;owned\x07" in text
    assert "[bold" in text


COMMANDS = {
    "watch": ["watch", "duets", "--runs", "{runs}", "--once"],
    "watch of a folder that is no run": ["watch", "other", "--runs", "{runs}/…ü"],
    "usage": ["--help"],
    "help": ["promote", "--help"],
    "help of run": ["run", "--help"],
    "wrong option": ["report", "…\x1b]0;owned\x07", "--…\x1b]0;owned\x07"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_terminal_without_unicode_gets_other_characters_and_no_traceback(name, hostile_run):
    words = [word.format(runs=hostile_run) for word in COMMANDS[name]]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "sepsearch", *words], env=environment, capture_output=True, timeout=120, check=False
    )
    text = (done.stdout + done.stderr).decode("ascii")
    assert done.returncode in (0, 2)
    assert "Traceback" not in text
    assert controls(text) == set()
    assert text.strip()


def test_a_path_that_a_command_prints_is_the_paths_own_text(tmp_path, capsys):
    from sepsearch.report import main

    runs = tmp_path / "[bold]runs[/]\x1b]0;owned\x07"
    write_run(runs / "duets", journal(story())[:-3])
    main(["duets", "--runs", str(runs)])
    assert capsys.readouterr().out == f"{tmp_path}/[bold]runs[/]" + r"\x1b]0;owned\x07/duets/report.html" + "\n"


def test_the_end_of_a_run_names_its_files_by_their_own_names(capsys):
    from sepsearch.monitoring.messages import tell_interrupted
    from sepsearch.utils.terminal_console import make_console

    tell_interrupted(Path("[red]/[/]/\x1b[2Jduets"), make_console())
    assert capsys.readouterr().out.rstrip().endswith(r"--resume \x1b[2Jduets --runs [red]/[/]")


def test_prepare_of_a_folder_with_square_brackets_prints_its_names_as_they_are(tmp_path, capsys):
    from sepsearch.prepare import main

    pieces = [("01_A[b]_vn_vc", 2.0), ("02_B:smile:_vn_vc", 2.0), ("03_C_vn_vc", 2.0)]
    main([str(write_urmp_tree(tmp_path / "[i]urmp[/]", pieces))])
    out = capsys.readouterr().out
    assert f"Recordings in {tmp_path}/[i]urmp[/]\n" in out
    assert "01_A[b]_vn_vc " in out
    assert "02_B:smile:_vn_vc " in out


def test_an_error_about_a_hostile_name_is_one_line_of_text(capsys):
    def command() -> None:
        raise UserError(f"runs/{HOSTILE}\n: no such run")

    with pytest.raises(SystemExit):
        exit_on_user_error(command)
    assert controls(capsys.readouterr().err) == set()


def test_an_argument_that_no_option_takes_is_named_as_text(capsys):
    from sepsearch.prepare import main

    with pytest.raises(SystemExit):
        main(["folder", TITLE])
    assert controls(capsys.readouterr().err) == set()
