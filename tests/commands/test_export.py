"""`sepsearch.export`: a folder that does the same without sepsearch, checked before it is there."""

import errno
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from documented_keys import documented_keys

from sepsearch.audio.separation import separate_waveform
from sepsearch.audio.spectrogram import PRESETS, FrontEnd
from sepsearch.export import main
from sepsearch.models import onnx
from sepsearch.models.families import make_config, make_network, output_weights
from sepsearch.models.layers import ACTIVATIONS
from sepsearch.models.onnx import GraphModule, check_onnx, write_onnx
from sepsearch.models.saved_model import CARD, WEIGHTS, ModelCard, load_model, save_model
from sepsearch.pipeline.export_model import EXAMPLE, export_model
from sepsearch.tracking import registry, tracker
from sepsearch.utils.errors import UserError

BLOCKED = """
import runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("sepsearch", "torch", "mlflow", "ray", "onnx", "onnxscript", "scipy", "soxr"):
            raise ImportError(name + " is not there")

sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


CONFIG = make_config({"filters": 2})


def network(config=CONFIG):
    torch.manual_seed(0)
    made = make_network(config).eval()
    with torch.no_grad():
        made.regenerator.bias.fill_(0.5)  # a network that is not silent
    return made


def card(config=CONFIG, front_end=PRESETS["mel"]):
    baselines = {"validation": {"identity": 1.0, "gain": 0.9}}
    return ModelCard("vn", config, front_end, 6.0, search="duets", scores={"ratio": 0.5}, baselines=baselines)


@pytest.fixture
def folder(tmp_path):
    save_model(tmp_path / "vn", network(), card())
    return tmp_path / "vn"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An exported model with a mask head, which lets part of everything through."""
    folder = tmp_path_factory.mktemp("exported")
    config = make_config({"filters": 2, "head": "mask"})
    save_model(folder / "vn", network(config), card(config))
    assert export_model(str(folder / "vn"), folder / "out") <= 1e-4
    return folder / "out"


def mixture(seconds=3.0, channels=2):
    """Notes, and digital silence at both ends and between them: (channel, sample)."""
    time = np.arange(int(seconds * 48000)) / 48000
    notes = sum(np.sin(2 * np.pi * pitch * time) / (number + 1) for number, pitch in enumerate((220, 440, 660, 3000)))
    sounds = (time > 0.4) & (time < seconds - 0.3) & ((time < 1.2) | (time > 1.9))
    return np.stack([0.2 * notes * sounds * gain for gain in (1.0, 0.5)[:channels]]).astype(np.float32)


# Every value of both, not every pair: an export takes seconds.
@pytest.mark.parametrize(
    ("head", "activation"), list(zip(itertools.cycle(("relu", "mask")), ACTIVATIONS, strict=False))
)
def test_onnxruntime_and_torch_agree_for_every_head_and_activation(tmp_path, head, activation):
    config = make_config(
        {"filters": 2, "head": head, "activation": activation, "detector_layers": 2, "detector_width": 8}
    )
    write_onnx(tmp_path / "model.onnx", network(config), card(config))
    assert check_onnx(tmp_path / "model.onnx", network(config), card(config)) <= 1e-4


@pytest.mark.parametrize("harmonics", [0, 15])
def test_onnxruntime_and_torch_agree_for_one_output_of_a_shared_unet(tmp_path, harmonics):
    unet = {"family": "unet", "heads": "all", "channels": 4, "bottom_blocks": 1, "detector_width": 4}
    config = make_config({**unet, "harmonic_bins": harmonics})
    alone = make_network(config).eval()
    alone.load_state_dict(output_weights(config, make_network(config, 3).state_dict(), 1))
    write_onnx(tmp_path / "model.onnx", alone, card(config, PRESETS["log15"]))
    assert check_onnx(tmp_path / "model.onnx", alone, card(config, PRESETS["log15"])) <= 1e-4


@pytest.mark.parametrize("front_end", [PRESETS["report"], FrontEnd(axis="log", low_hz=30.0, clip_seconds=2.0)])
def test_onnxruntime_and_torch_agree_for_other_front_ends_and_kernels(tmp_path, front_end):
    config = make_config({"filters": 3, "preparer_kernel_1": 3, "detector_kernel_time": 3, "regenerator_kernel": 4})
    write_onnx(tmp_path / "model.onnx", network(config), card(config, front_end))
    assert check_onnx(tmp_path / "model.onnx", network(config), card(config, front_end)) <= 1e-4


def test_the_graph_takes_a_batch_of_any_size_and_gives_what_the_network_gives(exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    loaded, read = load_model(exported)
    for size in (1, 5):
        power = torch.rand(size, 128, GraphModule(loaded, read).bands.shape[0]) * 0.01
        mask, row, voice = session.run(None, {"power": power.numpy()})
        with torch.inference_mode():
            expected = loaded(torch.from_numpy(row)[:, None])[:, 0].numpy()
        np.testing.assert_allclose(voice, expected, atol=1e-4)
        assert mask.shape == (size, 128, 2049)
        assert mask.min() >= 0
        assert mask.max() <= 1 + 1e-6


def test_very_quiet_sound_gets_the_same_mask_in_the_graph(exported):
    import onnxruntime

    loaded, read = load_model(exported)
    power = torch.rand(1, 128, GraphModule(loaded, read).bands.shape[0]) * 1e-12
    mask = onnxruntime.InferenceSession(str(exported / "model.onnx")).run(["mask"], {"power": power.numpy()})[0]
    with torch.inference_mode():
        expected = GraphModule(loaded, read)(power)[0].numpy()
    np.testing.assert_allclose(mask, expected, atol=1e-4)


def test_the_example_separates_as_sepsearch_does_without_torch_or_sepsearch(exported, tmp_path):
    audio = mixture()
    soundfile.write(tmp_path / "mix.wav", audio.T, 48000, subtype="FLOAT")
    (tmp_path / "blocked.py").write_text(BLOCKED)
    line = [
        sys.executable,
        "-I",
        tmp_path / "blocked.py",
        exported / "separate.py",
        tmp_path / "mix.wav",
        tmp_path / "voice.wav",
    ]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found, rate = soundfile.read(tmp_path / "voice.wav", dtype="float32")
    loaded, read = load_model(exported)
    expected = separate_waveform(loaded, read.front_end, read.constant, audio)
    assert (rate, found.T.shape) == (48000, audio.shape)
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(found.T, expected, atol=1e-3)


def test_the_example_says_in_one_line_that_it_wants_48_khz(exported, tmp_path):
    soundfile.write(tmp_path / "mix.wav", mixture().T, 44100)
    line = [sys.executable, exported / "separate.py", tmp_path / "mix.wav", tmp_path / "voice.wav"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "44100 samples a second, expected 48000" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "voice.wav").exists()


@pytest.mark.parametrize("words", [[], ["mix.wav"], ["-h"]])
def test_the_example_without_its_two_files_prints_its_usage_and_exits_with_2(exported, words):
    line = [sys.executable, exported / "separate.py", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"usage: python {exported / 'separate.py'} mix.wav voice.wav\n"


def test_the_example_has_60_lines_at_most():
    assert len(EXAMPLE.read_text().splitlines()) <= 60


def test_an_exported_folder_is_a_model_folder_with_a_card_to_read_and_nothing_else(exported):
    assert {path.name for path in exported.iterdir()} == {CARD, WEIGHTS, "model.onnx", "README.md", "separate.py"}
    text = (exported / "README.md").read_text()
    assert "Licence of the recordings: unknown" in text
    assert "python -m sepsearch.separate mix.wav --instrument vn --model out" in text
    loaded, read = load_model(exported)
    torch.testing.assert_close(loaded.state_dict(), network(read.config).state_dict())


def test_a_champion_is_exported_by_its_code_and_the_screen_says_only_what_was_done(
    folder, empty_store, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_store, "mlflow.db")
    client = tracker.connect(tracker.tracking_uri())
    run = client.create_run(client.create_experiment("e", (tmp_path / "artifacts").as_uri()))
    registry.register_model(folder, run.info.run_id)
    capfd.readouterr()
    main(["vn", "out"])
    said = capfd.readouterr()
    assert said.err == ""
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["out", "try it"]
    assert load_model(tmp_path / "out")[1] == load_model(folder)[1]


@pytest.mark.parametrize("option", ["--quiet", "--json"])
def test_quiet_or_as_json_the_hint_how_to_try_it_is_left_out(tmp_path, monkeypatch, capsys, option):
    monkeypatch.setattr("sepsearch.export.export_model", lambda *_: 2e-5)
    main(["vn", str(tmp_path / "out"), option])
    text = capsys.readouterr().out
    assert "try it" not in text
    if option == "--json":
        found = json.loads(text)
        assert found["difference"] == 2e-5
        assert Path(found["example"]).parent == Path(found["folder"]) == tmp_path / "out"
        assert found.keys() <= documented_keys("export")


def refusal(model, target):
    """The one line that an export is refused with; nothing is left of it."""
    before = set(target.parent.iterdir())
    with pytest.raises(UserError) as caught:
        main([str(model), str(target)])
    assert "\n" not in str(caught.value)
    assert set(target.parent.iterdir()) == before
    return str(caught.value)


def test_a_graph_that_computes_something_else_is_not_exported(folder, tmp_path, monkeypatch):
    real = onnx.row_mask
    calls = []

    def other(*rows):
        calls.append(rows)
        return real(*rows) * (1.0 if len(calls) == 1 else 0.9)  # torch's own answer, after the graph was traced

    monkeypatch.setattr(onnx, "row_mask", other)
    assert "onnxruntime and torch differ by" in refusal(folder, tmp_path / "out")


def test_a_folder_that_exists_is_refused(folder, tmp_path):
    (tmp_path / "out").mkdir()
    assert "out: exists already, expected a new folder" in refusal(folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("kazoo", "no instrument's code and no folder, expected one of vn, va"),
        (".", "no model there, expected a folder with model.json"),
    ],
)
def test_what_is_no_model_is_told_with_what_is_expected(tmp_path, monkeypatch, model, expected):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert expected in refusal(model, tmp_path / "out")


def test_a_code_without_a_database_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "no MLflow database" in refusal("vn", tmp_path / "out")


def test_a_damaged_model_is_refused(folder, tmp_path):
    (folder / WEIGHTS).write_bytes(b"none")
    assert "the weights are not those" in refusal(folder, tmp_path / "out")


def test_a_full_disk_is_one_line_and_leaves_nothing(folder, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sepsearch.pipeline.export_model.shutil.copyfile", full)
    assert "out: cannot be written: No space left on device: free some space" in refusal(folder, tmp_path / "out")


def test_a_missing_onnxruntime_is_told_with_what_to_install(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install 'sepsearch[onnx]'" in refusal(folder, tmp_path / "out")
