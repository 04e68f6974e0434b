"""The command line of `separate`: folders, patterns, pipes, names, formats, who plays, and replacing what is there."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from separation_fixtures import RATE, error_db, here, noise, read, refusal, save, separate, tree

__all__ = ["here"]  # a fixture


def tone(seconds: float, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)


@pytest.fixture
def voices(here: Path) -> Path:
    """Models of a violin that plays all of the mixture and a cello that plays nothing of it."""
    save(here / "some/models/vn", "vn", passes=True)
    save(here / "some/models/vc", "vc", passes=False)
    return here


class Piped:
    """Standard input with these bytes."""

    def __init__(self, data: bytes):
        self.buffer = io.BytesIO(data)

    def isatty(self) -> bool:
        return False


# Who plays.


def test_without_an_instrument_those_that_play_are_written_to_a_folder_of_their_own_and_others_named(voices, capsys):
    separate("mix.wav", "some")
    assert tree(voices / "separated") == {"mix", "mix/violin.wav"}
    assert "mix.wav: left out (below 5% of its energy): cello 0.0%; --instrument writes them" in capsys.readouterr().out


def test_quiet_leaves_the_note_on_absent_instruments_out_and_keeps_what_was_written(voices, capsys):
    separate("mix.wav", "some")
    assert "--players names who plays" in capsys.readouterr().out
    separate("mix.wav --overwrite --quiet", "some")
    said = capsys.readouterr().out
    assert "separated/mix/violin.wav: violin" in said
    assert "note:" not in said


def test_an_instrument_that_was_asked_for_is_written_although_it_does_not_play(voices):
    separate("mix.wav --instrument vc", "some")
    assert tree(voices / "separated") == {"mix", "mix/cello.wav"}
    assert np.abs(read("separated/mix/cello.wav")).max() < 1e-6


def test_the_residual_is_what_those_that_play_leave(voices):
    save(voices / "some/models/vc", "vc", passes=True)
    save(voices / "some/models/fl", "fl", passes=False)
    separate("mix.wav --share", "some")
    assert tree(voices / "separated/mix") == {"violin.wav", "cello.wav", "residual.wav"}
    assert error_db(read("separated/mix/violin.wav"), read("mix.wav") / 2) < -90
    assert np.abs(read("separated/mix/residual.wav")).max() < 1e-5


def test_of_a_recording_in_which_nobody_plays_nothing_is_written(voices, capsys):
    soundfile.write("mix.wav", np.zeros((RATE, 2)), RATE)
    separate("mix.wav", "some")
    assert not Path("separated").exists()
    assert "nothing written, as no instrument plays (below 5% of its energy): violin 0.0%" in capsys.readouterr().out


def test_each_recording_has_its_own_players(voices):
    soundfile.write("silent.wav", np.zeros((RATE, 2)), RATE)
    separate("mix.wav silent.wav", "some")
    assert tree(voices / "separated") == {"mix", "mix/violin.wav"}


def test_players_that_were_named_are_written_without_an_instrument(voices):
    separate("mix.wav --players violin,cello", "some")
    assert tree(voices / "separated/mix") == {"violin.wav", "cello.wav"}


def test_the_only_model_there_is_writes_a_file_without_an_instrument(voices):
    separate("mix.wav -o cello.wav", "some/models/vc")
    assert soundfile.info("cello.wav").frames == soundfile.info("mix.wav").frames


@pytest.mark.parametrize("names", ["violin,cello", "Vn,Violoncello", "VLN, vlc"])
def test_instruments_may_be_named_as_people_name_them(voices, names):
    from sepsearch.separate import main

    main(["mix.wav", "--instrument", names, "--model", "some"])
    assert tree(voices / "separated/mix") == {"violin.wav", "cello.wav"}


def test_a_file_of_a_name_of_two_words_has_no_space_in_it(here):
    save(here / "db", "db", passes=True)
    separate("mix.wav --instrument db", "db")
    assert tree(here / "separated/mix") == {"double_bass.wav"}


# Folders and patterns.


def make_concert(here: Path) -> None:
    """Two recordings and what is none in a folder, one deeper."""
    (here / "concert/encores").mkdir(parents=True)
    for name in ("one.mp3", "two.flac", "encores/three.wav", ".hidden.wav"):
        soundfile.write(here / "concert" / name, noise(0.5, 1), RATE)
    (here / "concert/programme.txt").write_text("Elise")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("concert", {"one", "two"}),
        ("concert/", {"one", "two"}),
        ("concert/*", {"one", "two"}),
        ("concert/*.fl?c", {"two"}),
        ("concert/**/*", {"one", "two", "three"}),
        ("concert concert/encores", {"one", "two", "three"}),
        ("concert/one.mp3 concert/**/t*.*", {"one", "two", "three"}),
    ],
)
def test_folders_and_patterns_give_their_audio_files(here, given, found):
    make_concert(here)
    separate(f"{given} --instrument vn -o out")
    assert tree(here / "out") == {*found, *(f"{name}/violin.wav" for name in found)}


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(here):
    Path("mix.wav").rename("mix [live].wav")
    from sepsearch.separate import main

    main(["mix [live].wav", "--instrument", "vn", "-o", "violin.wav", "--model", "run"])
    assert Path("violin.wav").is_file()


def test_audio_in_a_folder_that_cannot_be_read_is_refused_and_not_passed_over(here):
    make_concert(here)
    Path("concert/memo.m4a").write_bytes(b"\0\0\0 ftypM4A ")
    assert "concert/memo.m4a: expected readable audio" in refusal(lambda: separate("concert --instrument vn"), here)


@pytest.mark.parametrize("bad", [b"\0\0\0 ftypM4A ", None], ids=["unreadable", "not a number"])
def test_all_recordings_that_cannot_be_separated_are_named_at_once(here, bad):
    make_concert(here)
    for name in ("first", "second"):
        path = Path(f"concert/{name}.wav")
        if bad is None:
            soundfile.write(path, np.full(RATE, np.nan, "float32"), RATE, subtype="FLOAT")
        else:
            path.with_suffix(".m4a").write_bytes(bad)
    said = refusal(lambda: separate("concert --instrument vn"), here)
    assert "concert/first." in said
    assert "concert/second." in said


# Formats.


def test_mp3_is_written_with_the_length_of_the_recording(here):
    save(here / "vn", "vn", passes=True)
    soundfile.write("mix.wav", tone(2.0), RATE)
    separate("mix.wav --instrument vn -o violin.mp3", "vn")
    info = soundfile.info("violin.mp3")
    assert (info.format, info.frames, info.samplerate, info.channels) == ("MP3", 2 * RATE, RATE, 1)
    assert error_db(read("violin.mp3")[2000:-2000], read("mix.wav")[2000:-2000]) < -30


def test_mp3_of_several_voices_by_the_format_option(here):
    separate("mix.wav --instrument vn,vc --format mp3")
    assert tree(here / "separated/mix") == {"violin.mp3", "cello.mp3"}


def test_samples_that_mp3_cannot_hold_are_cut_and_told(here, capsys):
    save(here / "vn", "vn", passes=True)
    soundfile.write("mix.wav", 4 * tone(0.5), RATE, "FLOAT")
    separate("mix.wav --instrument vn -o violin.mp3", "vn")
    assert "samples above full scale were cut to it" in capsys.readouterr().out


def test_an_mp3_file_that_does_not_say_its_length_is_separated_whole(here):
    soundfile.write("mix.mp3", tone(3.0), RATE, format="MP3", bitrate_mode="CONSTANT")
    data = Path("mix.mp3").read_bytes()
    tag = max(data.find(b"Info"), data.find(b"Xing"))
    assert tag > 0
    Path("mix.mp3").write_bytes(data[: tag + 7] + bytes([data[tag + 7] & ~1]) + data[tag + 8 :])
    separate("mix.mp3 --instrument vn -o violin.wav")
    assert soundfile.info("violin.wav").frames == len(soundfile.read("mix.mp3")[0])


def test_an_encoding_that_pads_its_last_block_is_separated_with_a_note(here, capsys):
    soundfile.write("mix.wav", noise(1.0, 1), RATE, "IMA_ADPCM")
    separate("mix.wav --instrument vn -o violin.wav")
    assert "mix.wav: encoded in blocks (IMA_ADPCM)" in capsys.readouterr().out
    assert soundfile.info("violin.wav").frames == soundfile.info("mix.wav").frames


# Replacing what is there.


def test_voices_are_added_beside_those_that_were_separated_before(here):
    separate("mix.wav --instrument vc --residual")
    before = read("separated/mix/cello.wav")
    separate("mix.wav --instrument vn")
    assert tree(here / "separated") == {"mix", "mix/cello.wav", "mix/residual.wav", "mix/violin.wav"}
    assert np.array_equal(read("separated/mix/cello.wav"), before)


def test_files_of_the_same_name_are_replaced_where_that_is_said_and_others_stay(here):
    separate("mix.wav --instrument vn,vc --residual")
    before = read("separated/mix/violin.wav")
    soundfile.write("mix.wav", noise(1.0), RATE)
    separate("mix.wav --instrument vn --overwrite")
    assert tree(here / "separated") == {"mix", "mix/cello.wav", "mix/residual.wav", "mix/violin.wav"}
    assert len(read("separated/mix/violin.wav")) == RATE != len(before)
    assert len(read("separated/mix/cello.wav")) == len(before)


def test_a_file_that_is_there_is_replaced_where_that_is_said(here):
    Path("violin.wav").write_text("former")
    separate("mix.wav --instrument vn -o violin.wav --overwrite")
    assert soundfile.info("violin.wav").frames == soundfile.info("mix.wav").frames


@pytest.mark.parametrize("output", ["separated", "violin.wav"])
def test_what_is_there_stays_where_its_replacement_fails(here, monkeypatch, output):
    separate(f"mix.wav --instrument vn -o {output}")
    name = output if output.endswith("wav") else f"{output}/mix/violin.wav"
    before, files = Path(name).read_bytes(), tree(here)

    def full(file: soundfile.SoundFile, data: np.ndarray) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(soundfile.SoundFile, "write", full)
    assert "No space left" in refusal(lambda: separate(f"mix.wav --instrument vn -o {output} --overwrite"), here)
    assert Path(name).read_bytes() == before
    assert tree(here) == files


def test_where_one_voice_cannot_be_put_in_place_the_others_are_as_before(here, monkeypatch):
    separate("mix.wav --instrument vc")
    before, replace = Path("separated/mix/cello.wav").read_bytes(), os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name == "violin.wav":
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr("os.replace", refuse)
    line = "mix.wav --instrument vn,vc --overwrite"
    assert "Input/output error" in refusal(lambda: separate(line), here)
    assert tree(here / "separated") == {"mix", "mix/cello.wav"}
    assert Path("separated/mix/cello.wav").read_bytes() == before


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mix.wav --instrument vn", "separated/mix/violin.wav: exists already, expected a new name: --overwrite"),
        ("mix.wav", "separated/mix/violin.wav: exists already, expected a new name: --overwrite replaces it"),
        ("mix.wav --instrument vc --overwrite", "separated/mix/cello.wav: expected a file to replace, found a folder"),
        ("mix.wav -o mix.wav --instrument vn --overwrite", "would replace a recording that is to be separated"),
        ("here/violin/violin.wav -o here --instrument vn --overwrite", "would replace a recording that is to be"),
        ("mix.wav -o folder.wav --instrument vn --overwrite", "expected a file to replace, found a folder"),
        ("mix.wav -o linked --instrument vn", "linked/mix: expected a folder to write to, found a file or a link"),
    ],
)
def test_what_is_there_and_may_not_be_replaced_is_one_line(here, line, expected):
    separate("mix.wav --instrument vn")
    Path("separated/mix/cello.wav").mkdir()
    Path("folder.wav").mkdir()
    Path("linked").mkdir()
    Path("linked/mix").symlink_to("../separated/mix")
    Path("here/violin").mkdir(parents=True)
    Path("here/violin/violin.wav").write_bytes(Path("mix.wav").read_bytes())
    assert expected in refusal(lambda: separate(line), here)


# Pipes.


def test_a_recording_is_read_from_standard_input(here, monkeypatch, capsys):
    separate("mix.wav --instrument vn -o violin.wav")
    monkeypatch.setattr("sys.stdin", Piped(Path("mix.wav").read_bytes()))
    separate("- --instrument vn")
    assert np.array_equal(read("separated/stdin/violin.wav"), read("violin.wav"))
    assert "sepsearch-pipe" not in "".join(capsys.readouterr())


def test_a_mistake_on_standard_input_is_named_so(here, monkeypatch):
    monkeypatch.setattr("sys.stdin", Piped(b"no audio"))
    message = refusal(lambda: separate("- --instrument vn"), here)
    assert message.startswith("standard input: expected readable audio, found: Format not recognised")


def test_a_terminal_is_no_recording(here, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert "-: expected a WAV file on standard input, found a terminal" in refusal(lambda: separate("- -o out"), here)


def test_a_voice_goes_to_standard_output_alone_and_messages_to_standard_error(here):
    separate("mix.wav --instrument vn -o violin.wav")
    line = "mix.wav --instrument violin -o - --model run"
    done = subprocess.run([sys.executable, "-m", "sepsearch.separate", *line.split()], capture_output=True, check=True)
    assert error_db(soundfile.read(io.BytesIO(done.stdout))[0], read("violin.wav")) < -90
    assert b"standard output: violin, 3.3 s, 44100 Hz" in done.stderr
    assert not [name for name in tree(here) if "standard output" in name or "stdout" in name]


def test_standard_output_that_nobody_reads_any_more_is_one_line(here):
    soundfile.write("long.wav", noise(20.0), RATE)
    line = f"{sys.executable} -m sepsearch.separate long.wav --instrument vn -o - --model run"
    done = subprocess.run(
        f"set -o pipefail; {line} | head -c 100 > /dev/null",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    *_, last = done.stderr.splitlines()
    assert last == "error: standard output: closed before all of the audio was read: look at what reads it"
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


def test_a_terminal_gets_no_audio(here, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert "found a terminal" in refusal(lambda: separate("mix.wav --instrument vn -o -"), here)
