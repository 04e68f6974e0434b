"""Models as Python objects: what they separate is what the command writes."""

import numpy as np
import pytest
import soundfile
from separation_fixtures import RATE, here, noise, read, save, separate

import sepsearch as ss
from sepsearch.utils.errors import UserError

__all__ = ["here"]  # a fixture


def test_a_voice_is_that_of_the_command_to_the_last_bit(here):
    separate("mix.wav --instrument vn -o vn.wav")
    waveform, rate = soundfile.read("mix.wav")
    voice = ss.load_model("violin", model="run").separate(waveform, rate)
    assert (voice.dtype, voice.shape) == (np.float32, waveform.shape)
    assert np.array_equal(voice, read("vn.wav").astype(np.float32))
    assert np.abs(voice).max() > 0.001


def test_a_voice_has_the_shape_of_the_waveform(here):
    model = ss.load_model("vc", model="run")
    stereo = noise(1.0).astype(np.float32)
    voice = model.separate(stereo, RATE)
    assert np.array_equal(model.separate(stereo.T, RATE), voice.T)
    mono = stereo[:, 0]
    assert model.separate(mono, RATE).shape == mono.shape
    assert np.array_equal(model.separate(mono[:, None], RATE)[:, 0], model.separate(mono, RATE))
    assert np.array_equal(model.separate(mono[None], RATE)[0], model.separate(mono, RATE))


@pytest.mark.parametrize(
    ("waveform", "rate", "problem"),
    [
        (np.zeros(9999, np.int16), RATE, "waveform: expected floats, full scale = 1, found int16: divide"),
        (np.zeros((2, 2, 9999)), RATE, r"waveform: expected \(sample,\), .*found shape \(2, 2, 9999\)"),
        (np.zeros((50, 50)), RATE, r"found shape \(50, 50\)"),
        (np.zeros((9, 9999)), RATE, "waveform: expected 1 to 8 channels, found 9"),
        (np.zeros(100), RATE, "waveform: expected at least 0.085 s of audio, found 0.002 s"),
        (np.full(9999, np.nan), RATE, "waveform: expected finite samples"),
        (np.full(9999, 1e6), RATE, "found a peak of 1e.06"),
        (np.zeros(9999), 100, "rate: expected 8000 to 384000 Hz, found 100 Hz"),
        (np.zeros(9999), "44100", "rate: expected a whole number of Hz, found '44100'"),
    ],
)
def test_a_waveform_that_cannot_be_separated_is_refused_in_one_line(here, waveform, rate, problem):
    with pytest.raises(UserError, match=problem):
        ss.load_model("vn", model="run").separate(waveform, rate)


def test_a_model_says_what_it_is(here):
    model = ss.load_model("VN", model="run")
    assert (model.instrument, model.name, model.provisional) == ("vn", "violin", False)
    assert model.config["filters"] == 2
    assert model.parameters == sum(tensor.numel() for tensor in model.network.parameters())
    assert model.scores["ratio"] == 0.5
    assert repr(model).startswith("<model of violin: report, ")


def test_a_saved_model_is_the_same_one_and_replaces_nothing(here):
    model = ss.load_model("vn", model="run")
    folder = model.save("mine")
    again = ss.load_model("vn", model=folder)
    audio = noise(1.0)
    assert np.array_equal(again.separate(audio, RATE), model.separate(audio, RATE))
    with pytest.raises(UserError, match="mine: exists already"):
        model.save("mine")


def test_models_are_found_as_the_command_finds_them(here):
    save(here / "runs/duets/models/vn", "vn", 7)
    with pytest.raises(UserError, match="run duets: no such run in runs"):
        ss.load_model("vn", run="duets")
    with pytest.raises(UserError, match=r"no MLflow database|no registered model"):
        ss.load_model("vn")
    with pytest.raises(UserError, match="run duets and model run: expected one of them"):
        ss.load_model("vn", run="duets", model="run")
    with pytest.raises(UserError, match=r"instrument: unknown instrument 'violn' \(did you mean vn\?\)"):
        ss.load_model("violn", model="run")
    with pytest.raises(UserError, match="instrument: expected one, found vn, vc"):
        ss.load_model("vn,vc", model="run")
    with pytest.raises(UserError, match="no model of tba there"):
        ss.load_model("tuba", model="run")
