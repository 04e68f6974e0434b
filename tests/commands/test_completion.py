"""`sepsearch.completion`: scripts for shells, and what bash completes by one."""

import shutil
import subprocess
from pathlib import Path

import pytest

from sepsearch.completion import main
from sepsearch.utils.command_line import COMMANDS
from sepsearch.utils.completion import SHELLS

ASK = """
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_shtab_sepsearch
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script for bash."""
    path = tmp_path_factory.mktemp("completion") / "sepsearch.bash"
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("sepsearch.completion.write_line", lines.append)
        main(["bash"])
    path.write_text("\n".join(lines))
    return path


def completed(script: Path, folder: Path, *words: str) -> list[str]:
    """What bash offers for the last word of a command line in a folder."""
    bash = shutil.which("bash")
    assert bash
    line = [bash, "-c", ASK, "bash", str(script), "sepsearch", *words]
    return subprocess.run(line, capture_output=True, text=True, check=True, cwd=folder).stdout.split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with runs, some of them elsewhere, and what is no run."""
    for name in ("runs/duets", "runs/trios", "far/quartets"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "journal.jsonl").touch()
    (tmp_path / "runs" / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_a_script_with_all_commands_and_options(shell, capsys):
    main([shell])
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)
    assert "gpus-per-trial" in text


def test_commands_are_completed(script, folder):
    assert completed(script, folder, "re") == ["replay", "report"]


def test_options_are_completed(script, folder):
    assert completed(script, folder, "run", "--re") == ["--retries", "--resume"]


def test_values_that_an_option_chooses_from_are_completed(script, folder):
    assert completed(script, folder, "separate", "mix.wav", "--format", "") == ["wav", "flac", "mp3"]


@pytest.mark.parametrize("words", [("watch", ""), ("run", "--resume", ""), ("promote", ""), ("replay", "duets", "")])
def test_names_of_runs_are_completed(script, folder, words):
    assert completed(script, folder, *words) == ["duets", "trios"]


def test_names_of_runs_are_those_of_the_folder_that_is_named(script, folder):
    assert completed(script, folder, "report", "--runs", "far", "") == ["quartets"]


def test_a_new_name_is_not_completed(script, folder):
    assert completed(script, folder, "run", "--name", "") == []
