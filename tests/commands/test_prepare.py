import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from documented_keys import documented_keys
from recording_fixtures import melody, write_plain_tree, write_urmp_tree, write_wav
from rich.console import Console
from rich.text import Text

from sepsearch.prepare import main
from sepsearch.reporting import recordings_report
from sepsearch.reporting.recordings_report import merge_notes, spanning_takes
from sepsearch.utils.errors import exit_on_user_error
from sepsearch.utils.progress import Progress

PIECES = [("01_Jupiter_vn_vc", 1.0), ("02_Sonata_vn_vn", 1.0), ("15_Surprise_tpt_tpt_tbn", 1.0)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test alone."""
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def quirks(tmp_path: Path) -> Path:
    """A take that two titles share, a mixture at half its level, none at all, a stem at another rate."""
    root = write_urmp_tree(tmp_path / "quirks", [*PIECES, ("28_Fugue_fl_ob", 1.0), ("30_Fugue_fl_cl", 1.0)])
    audio = soundfile.read(root / "01_Jupiter_vn_vc/AuSep_1_vn_01_Jupiter.wav")[0]
    write_wav(root / "02_Sonata_vn_vn/AuSep_2_vn_02_Sonata.wav", 0.5 * audio)
    mixture = root / "15_Surprise_tpt_tpt_tbn/AuMix_15_Surprise_tpt_tpt_tbn.wav"
    write_wav(mixture, 0.5 * soundfile.read(mixture)[0])
    (root / "28_Fugue_fl_ob/AuMix_28_Fugue_fl_ob.wav").unlink()
    write_wav(
        root / "28_Fugue_fl_ob/AuSep_2_ob_28_Fugue.wav", melody("ob", 1.0, np.random.default_rng(0), 24_000), 24_000
    )
    return root


def lines_of(output: str) -> list[str]:
    """The lines of an output, with single spaces between words."""
    return [" ".join(line.split()) for line in output.splitlines()]


def test_the_roster_tells_pieces_titles_and_instruments(quirks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(quirks)])
    lines = lines_of(capsys.readouterr().out)
    assert f"Recordings in {quirks}" in lines
    assert "5 pieces of 4 titles, 11 stems, 5 s (0.1 min)" in lines
    assert "instrument stems pieces titles minutes sounds caveat" in lines
    (violin,) = [line for line in lines if line.startswith("vn violin")]
    assert re.fullmatch(r"vn violin 3 2 2 \(1 apart\) 0\.1 \d\d% one title", violin)
    assert any(re.fullmatch(r"fl flute 2 2 1 0\.0 \d\d% one title", line) for line in lines)


def test_an_instrument_in_three_titles_has_no_caveat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_plain_tree(tmp_path / "d", {"a": ["vn", "vc"], "b": ["vn", "vc"], "c": ["vn", "fl"]}, 1.0)
    main([str(tmp_path / "d")])
    lines = lines_of(capsys.readouterr().out)
    assert any(re.fullmatch(r"vn violin 3 3 3 0\.1 \d\d%", line) for line in lines)
    assert any(re.fullmatch(r"vc cello 2 2 2 0\.0 \d\d% few titles", line) for line in lines)


def test_titles_in_which_an_instrument_plays_alone_do_not_count_as_titles_to_separate_it_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plain_tree(tmp_path / "d", {"a": ["vn", "vc"], "b": ["vn"], "c": ["vn_1", "vn_2"], "d": ["fl"]}, 1.0)
    main([str(tmp_path / "d")])
    lines = lines_of(capsys.readouterr().out)
    assert any(re.fullmatch(r"vn violin 4 3 3 0\.1 \d\d% one title", line) for line in lines)
    assert any(re.fullmatch(r"fl flute 1 1 1 0\.0 \d\d% nothing to separate", line) for line in lines)
    assert any("searches leave it out: add recordings" in line for line in lines)


def test_the_roster_tells_every_piece_and_how_far_its_mixture_is(
    quirks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(quirks)])
    lines = lines_of(capsys.readouterr().out)
    assert any(re.fullmatch(r"01_Jupiter_vn_vc vn vc 1\.0 1 3 nothing", line) for line in lines)
    halved = r"15_Surprise_tpt_tpt_tbn tpt tpt tbn 1\.0 1 7 0\.0 dB \(-\d{2,3}\.\d dB at gain -6\.0 dB\)"
    assert any(re.fullmatch(halved, line) for line in lines)
    assert "28_Fugue_fl_ob fl ob 1.0 1 3 no mixture" in lines


def test_the_roster_tells_which_takes_are_used_twice_and_what_follows(
    quirks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(quirks)])
    lines = lines_of(capsys.readouterr().out)
    assert "2_vn of 02_Sonata_vn_vn 1_vn of 01_Jupiter_vn_vc 1.0000 -6.0 dB +0.000 s" in lines
    assert "kept in the same part of every split: Jupiter + Sonata" in lines


def test_the_roster_holds_the_notes(quirks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(quirks)])
    lines = lines_of(capsys.readouterr().out)
    claim = "AuSep_3_tpt_15_Surprise.wav says tpt, the folder says tbn: taken as tbn"
    assert f"- 15_Surprise_tpt_tpt_tbn: {claim}" in lines
    assert "- 28_Fugue_fl_ob: stems at 24000 Hz are resampled to 48000 Hz" in lines


def test_a_second_run_says_that_the_shards_are_there_and_tells_the_same(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(tree)])
    first = capsys.readouterr().out
    main([str(tree)])
    second = capsys.readouterr().out
    assert re.search(r"Shards [0-9a-f]{16}: built\n", first)
    assert second == first.replace(": built\n", ": already there\n")


def test_the_roster_says_what_to_type_next(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(tree, tmp_path / "my music"))
    main([str(folder)])
    command = f"python -m sepsearch.run --space detector --data '{folder}'"
    assert capsys.readouterr().out.endswith(f"Next\n{command}\n")


def test_nothing_is_cut_or_wrapped_without_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "A_very_long_title_" * 10
    write_plain_tree(tmp_path / "[bold]d", {name: ["vn", "vc", "mix"]}, 1.0)
    main([str(tmp_path / "[bold]d")])
    output = capsys.readouterr().out
    assert any(line.startswith(name) and line.endswith(" dB") for line in lines_of(output))
    assert f"Recordings in {tmp_path / '[bold]d'}\n" in output
    assert "\x1b" not in output


def test_the_front_end_comes_from_a_preset_or_a_space_file(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("parameters: {filters: [8, 16]}\nfront_end: {preset: log, clip_seconds: 1.0}\n")
    main([str(tree), "--space", str(space)])
    assert "128 logarithmic bands from 30 to 12000 Hz, 128 frames in 1 s" in capsys.readouterr().out
    main([str(tree), "--preset", "report"])
    output = capsys.readouterr().out
    assert "128 linear bins from 0 to 24000 Hz, 128 frames in 10 s" in output
    assert "with 'front_end: {preset: report}' in the space file" in output


# What nothing needs.


USELESS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cancelling": (lambda path: write_wav(path, np.array([[0.5, -0.5]] * 480)), "found that they cancel each other"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "expected 144000 bytes of audio"),
    "no audio": (lambda path: path.write_text("a shopping list"), "expected readable audio"),
    "empty": (lambda path: path.write_bytes(b""), "found an empty file"),
    "silent": (lambda path: write_wav(path, np.zeros(480)), "found silence"),
    "NaN": (lambda path: write_wav(path, np.full(9, np.nan), subtype="FLOAT"), "expected finite samples"),
    "folder": (lambda path: [path.unlink(), path.mkdir()], "found a folder or a device"),
    "pipe": (lambda path: [path.unlink(), os.mkfifo(path)], "found a folder or a device"),
    "link to nothing": (lambda path: [path.unlink(), path.symlink_to("nowhere")], "No such file"),
}


@pytest.mark.parametrize("case", USELESS)
def test_a_mixture_that_cannot_be_compared_stops_nothing_and_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    spoil, problem = USELESS[case]
    root = write_plain_tree(tmp_path / "d", {"Elise": ["vn", "vc", "mix"]}, 1.0)
    spoil(root / "Elise" / "mix.wav")
    for _ in range(2):  # built, then already there
        main([str(root)])
        lines = lines_of(capsys.readouterr().out)
        assert "Elise vc vn 1.0 1 3 not compared" in lines
        (note,) = [line for line in lines if line.startswith("- ")]
        assert note.startswith("- Elise: its mixture is not compared with the sum of its stems")
        assert problem in note


def test_a_mixture_that_may_not_be_read_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_plain_tree(tmp_path / "d", {"Elise": ["vn", "vc", "mix"]}, 1.0)
    opened = Path.open

    def refuse(self: Path, *args: Any, **options: Any) -> Any:
        if self.name == "mix.wav":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    main([str(root)])
    assert "sum of its stems (expected readable audio, found: Permission denied)" in capsys.readouterr().out


def test_silent_mixtures_of_all_pieces_are_one_note_with_a_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_plain_tree(tmp_path / "d", {name: ["vn", "mix"] for name in "abcdef"}, 0.5)
    for path in root.glob("*/mix.wav"):
        write_wav(path, np.zeros(480))
    main([str(root)])
    notes = [line for line in capsys.readouterr().out.splitlines() if "not compared with" in line]
    assert len(notes) == 1
    assert notes[0].startswith("- a, b, c and 3 more: ")


def test_a_harmless_contradiction_of_all_stems_is_one_note_with_a_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_plain_tree(tmp_path / "d", {name: ["vn", "vc"] for name in "abc"}, 0.5)
    for path in root.glob("*/*.wav"):
        data = bytearray(path.read_bytes())
        data[28:32] = b"\1\0\0\0"  # bytes a second
        path.write_bytes(data)
    main([str(root)])
    (note,) = [line for line in capsys.readouterr().out.splitlines() if "bytes a second" in line]
    assert note.startswith("- a/vc.wav, a/vn.wav, b/vc.wav and 3 more: ")


# Bad input.


def first_stem(root: Path) -> Path:
    return root / "01_Jupiter_vn_vc" / "AuSep_1_vn_01_Jupiter.wav"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder missing": (shutil.rmtree, "no such folder: give the folder"),
    "no pieces": (lambda root: [shutil.rmtree(path) for path in root.iterdir() if path.is_dir()], "found no piece"),
    "stem missing": (lambda root: first_stem(root).unlink(), "expected 2 stems (vn vc), found AuSep_2"),
    "stereo": (lambda root: write_wav(first_stem(root), np.ones((480, 2))), "expected one channel, found 2"),
    "NaN": (lambda root: write_wav(first_stem(root), np.full(9, np.nan), subtype="FLOAT"), "expected finite samples"),
    "silent": (lambda root: write_wav(first_stem(root), np.zeros(48_000)), "found silence"),
    "cut off": (lambda root: truncate(first_stem(root)), "the file is cut off"),
    "unknown instrument": (
        lambda root: write_wav(root / "Elise" / "violon.wav", np.ones(480)),
        "found 'violon' (did you mean vn?)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    spoil, message = BAD[case]
    root = write_urmp_tree(tmp_path / "d", PIECES)
    spoil(root)
    with pytest.raises(SystemExit) as caught:
        exit_on_user_error(lambda: main([str(root)]))
    assert caught.value.code == 2
    output = capsys.readouterr()
    errors = [line for line in output.err.splitlines() if not line.startswith(("hashing:", "surveying:"))]
    assert output.out == ""
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {root}")
    assert message in errors[0]
    assert not cache.exists() or [path for path in cache.rglob("*") if path.name != "shards"] == []


def test_the_command_runs_as_a_module(tree: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sepsearch.prepare"]
    done = subprocess.run([*command, tree], capture_output=True, text=True, env=os.environ, check=True)
    assert ": built" in done.stdout
    assert [line.split(":")[0] for line in done.stderr.splitlines()[::2]] == ["hashing", "surveying", "transforming"]
    failed = subprocess.run([*command, tmp_path / "nowhere"], capture_output=True, text=True, env=os.environ)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert (
        failed.stderr == f"error: {tmp_path / 'nowhere'}: no such folder: give the folder that holds the recordings\n"
    )


# Parts.


def test_the_roster_is_printed_from_a_manifest_alone(
    tree: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(tree)])
    whole = capsys.readouterr().out
    (path,) = cache.rglob("manifest.json")
    recordings_report.print_roster(recordings_report.roster_console(), json.loads(path.read_text()))
    assert whole.startswith(capsys.readouterr().out)


def test_notes_that_say_the_same_of_several_pieces_are_one_line() -> None:
    same, other = "stems at 44100 Hz are resampled to 48000 Hz", "stems last from 1.0 to 1.1 s: padded"
    notes = [f"a: {same}", f"b: {same}", f"a: {other}", f"b: {other.replace('1.1', '2.25')}", "c: alone"]
    assert merge_notes(notes) == [f"a, b: {same}", f"a: {other}; likewise b", "c: alone"]
    assert merge_notes([f"{name}: {same}" for name in "abcdefg"]) == [f"a, b, c and 4 more: {same}"]


def test_of_a_take_that_is_used_four_times_three_pairs_are_told() -> None:
    pairs = [{"first": [a, "1_vn"], "second": [b, "1_vn"]} for a in "abc" for b in "bcd" if a < b]
    assert spanning_takes(pairs) == pairs[:3]


def test_progress_without_a_terminal_is_a_line_at_the_start_at_the_end_and_now_and_then() -> None:
    time = [0.0]
    text = io.StringIO()
    with Progress(Console(file=text), clock=lambda: time[0]) as progress:
        for done in range(101):
            time[0] = done * 0.4
            progress("surveying", done, 100)
        progress("surveying", 100, 100)
        progress("transforming", 0, 2)
    assert text.getvalue().splitlines() == [
        "surveying: 0 of 100",
        "surveying: 38 of 100 in 15 s, about 25 s left",
        "surveying: 76 of 100 in 30 s, about 10 s left",
        "surveying: 100 of 100, done in 40.0 s",
        "transforming: 0 of 2",
    ]


def test_progress_on_a_terminal_is_a_line_for_each_stage_with_a_bar_while_it_goes_on() -> None:
    text = io.StringIO()
    with Progress(Console(file=text, force_terminal=True, force_interactive=True, width=100)) as progress:
        progress("hashing", 3, 3)
        progress("starting", 0, 1)
        progress("surveying", 1, 4)
    hashing, starting, surveying = Text.from_ansi(text.getvalue()).plain.splitlines()[-3:]
    assert re.fullmatch(r"hashing +3 of 3, done in \d\.\d s *", hashing)
    assert re.fullmatch(r"starting +━{20} \d\.\d s *", starting)
    assert re.fullmatch(r"surveying +[━╸╺]{20} 1 of 4 · \d\.\d s *", surveying)


def test_all_bad_stems_of_a_folder_are_listed_a_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_plain_tree(tmp_path / "d", {"a": ["vn", "vc"], "b": ["vn", "vc"]}, 0.5)
    write_wav(root / "a" / "vc.wav", np.zeros(480))
    write_wav(root / "b" / "vn.wav", np.full(9, np.nan), subtype="FLOAT")
    with pytest.raises(SystemExit) as caught:
        exit_on_user_error(lambda: main([str(root)]))
    assert caught.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert [line.split(": ")[1] for line in errors] == [f"{root}/a/vc.wav", f"{root}/b/vn.wav"]


def test_several_channels_are_one_note_however_many_stems_have_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_plain_tree(tmp_path / "d", {name: ["vn", "vc"] for name in "abc"}, 0.5)
    for path in root.glob("*/*.wav"):
        audio = soundfile.read(path)[0]
        write_wav(path, np.stack([audio, audio], axis=1))
    main([str(root)])
    (note,) = [line for line in capsys.readouterr().out.splitlines() if "mixed down" in line]
    assert note.startswith("- 6 of 6 stems have several channels, such as a/vc.wav: mixed down to one channel")


def test_json_has_what_the_roster_shows_and_nothing_else_is_printed(
    quirks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(quirks), "--json"])
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert "hashing" in output.err
    violin = found["instruments"]["vn"]
    assert (violin["stems"], violin["titles"], violin["titles_apart"], violin["caveat"]) == (3, 2, 1, "one title")
    trio = found["pieces"][2]
    assert (trio["name"], trio["players"]) == ("15_Surprise_tpt_tpt_tbn", ["tpt", "tpt", "tbn"])
    assert (trio["clips"], trio["rows"]) == (1, 7)
    assert found["shards"]["built"] is True
    assert Path(found["shards"]["folder"]).is_dir()
    assert any("24000" in note for note in found["notes"])
    known = documented_keys("prepare")
    assert found.keys() | violin.keys() | trio.keys() | found["shards"].keys() <= known


def test_quiet_shows_the_roster_without_progress_and_hints(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(tree), "--quiet"])
    output = capsys.readouterr()
    assert output.err == ""
    assert "By instrument" in output.out
    assert "sepsearch.run" not in output.out
