"""What is behind the page of `sepsearch listen`, without gradio: files and markup of a separated recording, refusals."""

import re
import socket
from html import unescape
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from untrained_models import write_models, write_noise

from sepsearch.listen import main
from sepsearch.pipeline import listen_page
from sepsearch.pipeline.listen_page import KEPT, Separation, require_gradio
from sepsearch.tracking.pages import require_port
from sepsearch.tracking.resolve import choose_models
from sepsearch.utils.errors import UserError


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return choose_models(None, str(write_models(tmp_path_factory.mktemp("run"))))


@pytest.fixture
def separation(models, tmp_path):
    (tmp_path / "work").mkdir()
    return Separation(models, tmp_path / "work")


def files(markup):
    """Path of every voice, by its name."""
    rows = re.findall(r'data-url="/gradio_api/file=([^"]+)"><b>([^<]+)</b>', markup)
    return {name: unquote(unescape(path)) for path, name in rows}


def test_voices_and_everything_else_add_up_to_the_recording(separation, tmp_path):
    mixture = write_noise(tmp_path / "duo.wav")
    found = files(separation.separate(mixture, ["vn", "vc"], False))
    assert list(found) == ["violin", "cello", "everything else"]
    parts = [soundfile.read(path)[0] for path in found.values()]
    assert np.abs(sum(parts) - soundfile.read(mixture)[0]).max() < 1e-5


def test_where_nobody_else_plays_the_voices_alone_add_up(separation, tmp_path):
    mixture = write_noise(tmp_path / "duo.wav")
    found = files(separation.separate(mixture, ["vn", "vc"], True))
    assert list(found) == ["violin", "cello"]
    parts = [soundfile.read(path)[0] for path in found.values()]
    assert np.abs(sum(parts) - soundfile.read(mixture)[0]).max() < 1e-5


def test_only_the_voices_that_were_ticked_are_separated(separation, tmp_path):
    found = files(separation.separate(write_noise(tmp_path / "duo.wav"), ["vc"], False))
    assert list(found) == ["cello", "everything else"]


def test_a_name_of_a_file_is_text_and_never_markup(separation, tmp_path):
    markup = separation.separate(write_noise(tmp_path / "<img src=x onerror=alert(1)>.wav"), ["vn"], False)
    assert "<img" not in markup
    assert "&lt;img src=x onerror=alert(1)&gt;.wav" in markup


def test_files_of_older_recordings_are_removed(separation, tmp_path):
    mixture = write_noise(tmp_path / "duo.wav", 1.0)
    for _ in range(KEPT + 2):
        separation.separate(mixture, ["vn"], False)
    assert len(list((tmp_path / "work").iterdir())) == KEPT


@pytest.mark.parametrize(
    ("seconds", "codes", "said"),
    [
        (1.0, [], "voices: none chosen"),
        (0.01, ["vn"], "expected at least 0.085 s of audio"),
        (4.0, ["vn"], "expected at most 0.05 minutes on this page"),
    ],
)
def test_what_cannot_be_separated_is_one_line(separation, tmp_path, monkeypatch, seconds, codes, said):
    monkeypatch.setattr(listen_page, "LONGEST", 0.05)
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        separation.separate(write_noise(tmp_path / "duo.wav", seconds), codes, False)
    assert "\n" not in str(caught.value)


def test_without_gradio_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape("pip install 'sepsearch[listen]'")):
        require_gradio()


def test_a_port_that_is_in_use_is_named():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(UserError, match=f"--port {taken.getsockname()[1]}: cannot be listened on"),
    ):
        require_port(taken.getsockname()[1])


def test_a_port_beyond_the_last_one_is_named():
    with pytest.raises(UserError, match="--port 70000: cannot be listened on"):
        require_port(70_000)


def test_without_a_model_one_line_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setattr(listen_page, "require_gradio", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(UserError, match="no model there, expected a folder with model"):
        main(["--model", str(tmp_path), "--port", str(port)])
    with pytest.raises(UserError) as caught:
        main(["--port", str(port)])
    assert "\n" not in str(caught.value)
