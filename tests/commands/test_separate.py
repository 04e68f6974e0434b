"""The command line of `separate`: what it writes, and what it refuses before anything is computed."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from separation_fixtures import RATE, error_db, here, noise, read, refusal, save, separate, tree

from sepsearch.audio import separation, streams
from sepsearch.models.saved_model import CARD, load_model
from sepsearch.utils.errors import UserError

__all__ = ["here"]  # a fixture


def test_one_voice_is_written_to_a_file_of_the_mixtures_length_rate_and_channels(here, capsys):
    separate("mix.wav --instrument vn -o vn.wav")
    info = soundfile.info("vn.wav")
    assert (info.frames, info.samplerate, info.channels, info.subtype) == (int(3.3 * RATE), RATE, 2, "FLOAT")
    assert "vn.wav: violin, 3.3 s, 44100 Hz, 2 channel(s)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_shared_voices_and_the_residual_add_up_to_the_mixture(here, kind):
    separate(f"mix.wav --instrument vn,vc --share -o out --format {kind}")
    assert tree(here / "out") == {"mix", f"mix/violin.{kind}", f"mix/cello.{kind}", f"mix/residual.{kind}"}
    parts = [read(f"out/mix/{name}.{kind}") for name in ("violin", "cello", "residual")]
    assert error_db(sum(parts), read("mix.wav")) < -90
    assert all(np.abs(part).max() > 0.001 for part in parts[:2])


def test_all_named_players_add_up_to_the_mixture(here):
    separate("mix.wav --instrument all --players vn,vc -o out --residual")
    assert tree(here / "out") == {"mix", "mix/violin.wav", "mix/cello.wav", "mix/residual.wav"}
    assert error_db(read("out/mix/violin.wav") + read("out/mix/cello.wav"), read("mix.wav")) < -90
    assert np.abs(read("out/mix/residual.wav")).max() < 1e-5


def test_one_of_the_named_players_is_written_with_the_others_taken_into_account(here):
    separate("mix.wav --instrument all --players vn,vc -o out")
    separate("mix.wav --instrument vc --players vn,vc -o vc.wav")
    separate("mix.wav --instrument vc -o plain.wav")
    assert np.array_equal(read("vc.wav"), read("out/mix/cello.wav"))
    assert error_db(read("vc.wav"), read("plain.wav")) > -40


def test_a_player_named_alone_is_the_mixture(here):
    separate("mix.wav --instrument vn --players vn -o vn.wav")
    assert error_db(read("vn.wav"), read("mix.wav")) < -90


def test_without_sharing_the_residual_is_the_mixture_less_its_voices(here):
    for code in ("vn", "vc"):
        save(Path("all/models") / code, code, passes=True)
    separate("mix.wav --instrument all --residual -o out", "all")
    separate("mix.wav --instrument all --share -o shared", "all")
    mixture = read("mix.wav")
    assert error_db(read("out/mix/violin.wav"), mixture) < -90
    assert error_db(read("out/mix/residual.wav"), -mixture) < -90
    assert error_db(read("shared/mix/cello.wav"), mixture / 2) < -90
    assert np.abs(read("shared/mix/residual.wav")).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "form", "subtype"),
    [
        ("mix.flac", "FLAC", "PCM_16"),
        ("mix.ogg", "OGG", "VORBIS"),
        ("mix.opus", "OGG", "OPUS"),
        ("mix.mp3", "MP3", "MPEG_LAYER_III"),
        ("mix.caf", "CAF", "ALAC_16"),
        ("mix", "FLAC", "PCM_16"),
        ("mix.aiff", "AIFF", "PCM_24"),
        ("mix.WAV", "WAV", "PCM_U8"),
    ],
)
def test_other_kinds_of_files_are_read_whole(here, name, form, subtype):
    rate = 48_000
    soundfile.write(name, noise(2.9, rate=rate), rate, format=form, subtype=subtype)
    save(Path("vn"), "vn", passes=True)
    separate(f"{name} --instrument vn -o out", "vn")
    assert error_db(read("out/mix/violin.wav"), read(name)) < -90


def test_a_harmless_contradiction_of_a_header_is_told_and_the_file_separated(here, capsys):
    data = bytearray(Path("mix.wav").read_bytes())
    data[28:32] = b"\1\0\0\0"  # bytes a second
    Path("odd.wav").write_bytes(data)
    separate("odd.wav --instrument VN -o vn.wav")
    assert "odd.wav: its header says 44100 Hz, but 1 bytes a second" in capsys.readouterr().out
    assert soundfile.info("vn.wav").frames == soundfile.info("mix.wav").frames


def test_several_mixtures_get_a_folder_each(here):
    soundfile.write("other.flac", noise(1.0, 1, 22_050), 22_050)
    separate("mix.wav other.flac --instrument vn,vc,vn -o new/out")
    names = {f"{stem}/{name}.wav" for stem in ("mix", "other") for name in ("violin", "cello")}
    assert tree(here / "new/out") == names | {"mix", "other"}
    assert soundfile.info("new/out/other/cello.wav").samplerate == 22_050


def test_silence_gives_silence_and_a_note(here, capsys):
    soundfile.write("mix.wav", np.zeros((RATE, 2)), RATE)
    separate("mix.wav --instrument vn,vc --share -o out")
    assert "mix.wav: silent" in capsys.readouterr().out
    assert all(np.abs(read(f"out/mix/{name}.wav")).max() == 0 for name in ("violin", "cello", "residual"))


def test_a_level_above_full_scale_is_kept_in_floats_and_told_where_integers_cut_it(here, capsys):
    save(Path("vn"), "vn", passes=True)
    mixture = 20 * noise(1.0, 1)
    soundfile.write("mix.wav", mixture, RATE, "FLOAT")
    separate("mix.wav --instrument vn -o vn.wav", "vn")
    assert error_db(read("vn.wav"), mixture.astype(np.float32)) < -90
    assert "full scale" not in capsys.readouterr().out
    separate("mix.wav --instrument vn --share -o out --format flac", "vn")
    said = capsys.readouterr().out
    assert f"out/mix/violin.flac: {(np.abs(mixture) > 1).sum()} samples above full scale were cut to it" in said
    voice, rest = read("out/mix/violin.flac"), read("out/mix/residual.flac")
    assert np.abs(voice).max() == pytest.approx(1)
    assert error_db(voice + rest, mixture.clip(-2, 2)) < -90


def test_a_voice_louder_than_full_scale_in_a_mixture_that_is_not_is_told(here, monkeypatch, capsys):
    stream = separation.separate_stream
    monkeypatch.setattr(
        "sepsearch.audio.separation.separate_stream", lambda *given: ((m, 20 * v) for m, v in stream(*given))
    )
    separate("mix.wav --instrument vn -o vn.wav")
    assert "times full scale" in capsys.readouterr().out


def test_a_wav_file_beyond_its_limit_becomes_rf64(here, monkeypatch):
    separate("mix.wav --instrument vn -o vn.wav")
    monkeypatch.setattr(streams, "LARGEST_WAV", 100_000)
    separate("mix.wav --instrument vn -o large.wav")
    assert soundfile.info("large.wav").format == "RF64"
    assert np.array_equal(read("large.wav"), read("vn.wav"))


@pytest.mark.parametrize("model", ["run", "run/models", "run/models/vn"])
def test_a_model_is_found_in_a_run_a_folder_of_models_or_by_itself(here, model):
    separate("mix.wav --instrument vn -o vn.wav", model)
    separate("mix.wav --instrument vn -o same.wav")
    assert np.array_equal(read("vn.wav"), read("same.wav"))


def test_all_means_every_model_of_a_folder_or_every_champion(here, empty_store, monkeypatch):
    from sepsearch.tracking.registry import register_model
    from sepsearch.tracking.tracker import connect

    separate("mix.wav --instrument all -o out")
    assert tree(here / "out") == {"mix", "mix/violin.wav", "mix/cello.wav"}
    Path("mlflow.db").write_bytes(empty_store.read_bytes())
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(here / "artifacts"))
    uri = os.environ["MLFLOW_TRACKING_URI"]
    message = refusal(lambda: separate("mix.wav --instrument all -o voices", None), here)
    assert "no registered model is a champion" in message
    client = connect(uri)
    run = client.create_run(client.create_experiment("x", artifact_location=str(here / "artifacts"))).info.run_id
    register_model(Path("run/models/vc"), run, uri)
    assert "sepsearch-vc" in refusal(lambda: separate("mix.wav --instrument vn,vc -o voices", None), here)
    line, name = "mix.wav --instrument vc -o voices", "models:/sepsearch-vc"
    assert "no such alias, expected one of: champion" in refusal(lambda: separate(line, f"{name}@best"), here)
    assert "no such version, expected one of: 1" in refusal(lambda: separate(line, f"{name}/7"), here)
    separate("mix.wav --instrument all -o voices", None)
    assert tree(here / "voices") == {"mix", "mix/cello.wav"}
    assert np.array_equal(read("voices/mix/cello.wav"), read("out/mix/cello.wav"))
    separate("mix.wav --instrument all -o vc.wav", "models:/sepsearch-vc/1")
    assert np.array_equal(read("vc.wav"), read("out/mix/cello.wav"))


def make_bad_files() -> None:
    """Files that nobody can separate, by names that say why."""
    Path("empty.wav").touch()
    soundfile.write("none.wav", np.zeros((0, 2)), RATE)
    soundfile.write("short.wav", noise(0.08), RATE)
    soundfile.write("many.wav", noise(0.5, 9), RATE)
    soundfile.write("slow.wav", noise(0.5), 4_000)
    broken = noise(2.0)
    broken[80_000, 1] = np.nan
    soundfile.write("nan.wav", broken, RATE, "FLOAT")
    soundfile.write("loud.wav", 1e6 * noise(0.5), RATE, "FLOAT")
    Path("corrupt.wav").write_bytes(b"RIFF" + bytes(range(256)) * 9)
    Path("cut.wav").write_bytes(Path("mix.wav").read_bytes()[:90_000])
    for suffix, subtype in (("ogg", "VORBIS"), ("flac", "PCM_16")):
        soundfile.write(f"whole.{suffix}", noise(2.0), RATE, format=suffix, subtype=subtype)
        data = Path(f"whole.{suffix}").read_bytes()
        Path(f"cut.{suffix}").write_bytes(data[: len(data) * 2 // 3])
        damaged = bytearray(data)
        damaged[len(data) // 2 : len(data) // 2 + 900] = b"x" * 900
        Path(f"damaged.{suffix}").write_bytes(damaged)
    other = bytearray(Path("whole.flac").read_bytes())
    other[30] ^= 1  # in the MD5 of its samples
    Path("other.flac").write_bytes(other)
    Path("ends.ogg").write_bytes(Path("whole.ogg").read_bytes()[:58])  # its first page
    Path("text.ogg").write_text("no audio")
    Path("other.mp3").write_bytes(b"ID3")
    Path("other.m4a").write_bytes(b"\0\0\0 ftypM4A ")
    soundfile.write("whole.mp3", noise(2.0), RATE, format="MP3")
    Path("cut.mp3").write_bytes(Path("whole.mp3").read_bytes()[:20_000])
    Path("folder.wav").mkdir()
    os.mkfifo("pipe.wav")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nowhere.wav", "No such file"),
        ("empty.wav", "found an empty file"),
        ("none.wav", "expected"),
        ("short.wav", "expected at least 0.085 s of audio, found 0.080 s"),
        ("many.wav", "1 to 8 channels, found 9"),
        ("slow.wav", "found 4000 Hz"),
        ("nan.wav", "expected finite samples, found ["),
        ("loud.wav", "found a peak of"),
        ("corrupt.wav", "corrupt.wav: expected"),
        ("cut.wav", "the file is cut off"),
        ("cut.ogg", "the file is cut off"),
        ("cut.flac", "cut.flac: expected"),
        ("damaged.ogg", "Corrupted bitstream"),
        ("damaged.flac", "damaged.flac: expected"),
        ("other.flac", "expected the samples whose checksum its header gives"),
        ("ends.ogg", "expected readable audio"),
        ("text.ogg", "Format not recognised"),
        ("other.mp3", "found: no audio that libsndfile knows: export it again, or convert it"),
        ("cut.mp3", "the file is cut off"),
        ("other.m4a", "found: Format not recognised: export it again, or convert it"),
        ("folder.wav", "expected audio files in this folder, found none: give its files, or 'folder.wav/**/*.*'"),
        ("*.xyz", "*.xyz: expected audio files that match, found none"),
        ("pipe.wav", "found a folder or a device"),
        ("/dev/zero", "found a folder or a device"),
        ("a\0b.wav", "a\0b.wav"),
        (f"{'x' * 300}.wav", "File name too long"),
    ],
)
def test_a_file_that_cannot_be_separated_is_one_line_and_stops_all(here, name, expected):
    make_bad_files()
    line = f"mix.wav {name} --instrument vn -o out"
    message = refusal(lambda: separate(line), here)
    assert expected in message
    assert name != "nan.wav" or "nan] at second 1.814" in message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mix.wav --instrument kazoo -o out", "unknown instrument 'kazoo', expected all or some of vn"),
        ("mix.wav --instrument vnn -o out", "did you mean vn?"),
        ("mix.wav --instrument , -o out", "empty, expected all or some of vn"),
        ("mix.wav --instrument db -o out", "run: no model of db there, expected some of vn, vc"),
        ("mix.wav --instrument vn,vc -o vn.wav", "expected a folder for several files"),
        ("mix.wav --instrument vn --share -o vn.wav", "expected a folder for several files"),
        (
            "mix.wav --instrument vn --players vn,kazoo -o vn.wav",
            "--players: unknown instrument 'kazoo', expected some of vn",
        ),
        ("mix.wav --instrument vn --players , -o vn.wav", "--players: empty, expected some of vn"),
        ("mix.wav --instrument vn,va --players vn,vc -o out", "--instrument: va is not among --players vn,vc: ask"),
        ("mix.wav --instrument vn --players vn,db -o vn.wav", "run: no model of db there, expected some of vn, vc"),
        ("mix.wav --instrument all --players vn,vc -o vn.wav", "expected a folder for several files"),
        ("mix.wav --instrument vn --players vn,vc --share -o out", "--share: divides the sound, as --players does"),
        ("mix.wav --instrument all -o vn.wav", "expected a folder for 2 instruments"),
        ("mix.wav -o vn.wav", "expected a folder for 2 instruments, found a file's name: name one with --instrument"),
        ("mix.wav --instrument bass -o out", "'bass', which may be db (double bass) or bn (bassoon), expected all or"),
        ("mix.wav -o -", "expected a folder for 2 instruments"),
        ("mix.wav --instrument vn,vc -o -", "-o -: expected a folder for several files"),
        ("- - --instrument vn -o out", "-: given twice"),
        (
            "wide.wav --instrument vn -o out --format mp3",
            "wide.wav: expected at most 2 channels for --format mp3, found 3",
        ),
        ("fast.wav --instrument vn -o out --format mp3", "48000 Hz for --format mp3, found 96000 Hz: choose"),
        ("mix.wav --instrument vn -o vn.ogg", "a name that ends in .wav, .flac or .mp3"),
        ("mix.wav --instrument vn -o vn.wav --format flac", "ends in .flac, since --format is flac"),
        ("mix.wav --instrument vn -o mix.wav", "mix.wav: exists already"),
        ("mix.wav --instrument vn -o taken", "taken/mix/violin.wav: exists already"),
        ("mix.wav --instrument vn -o mlflow", "mlflow: expected a folder"),
        ("mix.wav --instrument vn -o mlflow/deeper", "mlflow is no folder"),
        ("mix.wav ../HERE/mix.wav --instrument vn -o out", "mix.wav: given twice"),
        ("mix.wav taken/Mix.wav --instrument vn -o out", "another recording would be written to out/"),
        ("...wav --instrument vn -o out", "its name gives no name for a folder"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(here, monkeypatch, line, expected):
    Path("taken/mix").mkdir(parents=True)
    Path("taken/mix/violin.wav").write_text("mine")
    Path("taken/Mix.wav").write_bytes(Path("mix.wav").read_bytes())
    Path("...wav").write_bytes(Path("mix.wav").read_bytes())
    Path("mlflow").write_text("a file")
    soundfile.write("wide.wav", noise(0.5, 3), RATE)
    soundfile.write("fast.wav", noise(0.5), 96_000)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    assert expected in refusal(lambda: separate(line.replace("HERE", here.name)), here)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("nowhere", "nowhere: no model there, expected a folder with model.json, a run's folder"),
        ("run/models/vc", "a model of vc, expected one of vn"),
        ("models:/sepsearch-vn@champion", "no MLflow database at"),
        ("models:/", "names no model"),
        ("misfit", "front_end: low_hz 20000 and high_hz 300, expected 0"),
        ("damaged", "the weights are not those that model.json names"),
    ],
)
def test_a_model_that_is_not_there_or_does_not_fit_is_one_line(here, model, expected):
    save(Path("damaged"), "vn")
    weights = Path("damaged/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    facts = json.loads((save(Path("misfit"), "vn") / CARD).read_text())
    facts["front_end"] |= {"low_hz": 20_000.0, "high_hz": 300.0}
    Path("misfit", CARD).write_text(json.dumps(facts))
    assert expected in refusal(lambda: separate("mix.wav --instrument vn -o out", model), here)


def test_a_network_that_makes_no_numbers_is_refused_before_anything_is_computed(here, monkeypatch):
    class Broken(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows * float("nan")

    monkeypatch.setattr("sepsearch.tracking.resolve.load_model", lambda place: (Broken(), load_model(place)[1]))
    assert "numbers that are not finite" in refusal(lambda: separate("mix.wav --instrument vn -o out"), here)


def test_too_little_room_on_the_disk_is_said_before_anything_is_computed(here, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 2_000_000}))
    message = refusal(lambda: separate("mix.wav --instrument vn,vc --residual -o out"), here)
    assert "needs 4 MB there, found 2 MB free" in message


def test_a_recording_that_fails_leaves_nothing_and_those_before_it_whole(here, monkeypatch):
    soundfile.write("second.wav", noise(3.0), RATE)
    write, written = soundfile.SoundFile.write, []

    def full(file: soundfile.SoundFile, data: np.ndarray) -> None:
        written.append(len(data))
        if "second" in file.name and len(written) > 5:
            raise OSError(28, "No space left on device")
        write(file, data)

    monkeypatch.setattr(soundfile.SoundFile, "write", full)
    before = tree(here)
    with pytest.raises(
        UserError, match=r"out/second/(violin|cello)\.wav: cannot be written: No space left on device: free some"
    ):
        separate("mix.wav second.wav --instrument vn,vc -o out")
    assert tree(here) - before == {"out", "out/mix", "out/mix/violin.wav", "out/mix/cello.wav"}


def test_a_file_that_changes_while_it_is_read_leaves_nothing(here, monkeypatch):
    stream = separation.separate_stream

    def cut(*given):
        soundfile.write("mix.wav", noise(1.0), RATE)
        return stream(*given)

    monkeypatch.setattr("sepsearch.audio.separation.separate_stream", cut)
    before = tree(here)
    with pytest.raises(UserError, match=r"mix.wav: expected \d+ samples, found \d+"):
        separate("mix.wav --instrument vn -o deep/er/out")
    assert tree(here) == before


def test_a_disk_that_fills_up_leaves_nothing(here):
    """A real refusal of the system: no file may be larger than 500 kB, where one of 1.2 MB is being written."""
    before = tree(here)
    code = (
        "import resource, signal, sys; from sepsearch.utils.errors import exit_on_user_error; from sepsearch.separate import main;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000));"
        "exit_on_user_error(lambda: main(sys.argv[1:]))"
    )
    line = "mix.wav --instrument vn,vc --share -o out --model run"
    done = subprocess.run([sys.executable, "-c", code, *line.split()], capture_output=True, text=True)
    assert done.returncode == 2
    errors = [text for text in done.stderr.splitlines() if not text.startswith(("checked", "mix.wav, seconds"))]
    assert len(errors) == 1
    assert "cannot be written" in errors[0]
    assert tree(here) == before
