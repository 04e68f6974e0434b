"""A folder to separate in: a mixture, models that were never trained, and the command line as a test calls it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sepsearch.audio import reading
from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import ModelCard, save_model
from sepsearch.separate import main
from sepsearch.utils.errors import UserError

FRONT_END = FrontEnd(clip_seconds=1.0)
CONFIG = make_config({"filters": 2, "head": "mask"})
RATE = 44_100


def noise(seconds: float, channels: int = 2, rate: int = RATE) -> np.ndarray:
    return 0.1 * np.random.default_rng(3).standard_normal((int(seconds * rate), channels))


def save(folder: Path, code: str, seed: int = 0, front_end: FrontEnd = FRONT_END, passes: bool | None = None) -> Path:
    """A model that was never trained, or one that hands all of the mixture through, or nothing of it."""
    torch.manual_seed(seed)
    network = make_network(CONFIG)
    if passes is not None:
        torch.nn.init.zeros_(network.regenerator.weight)
        torch.nn.init.constant_(network.regenerator.bias, 100.0 if passes else -100.0)
    figures = {"scores": {"ratio": 0.5}, "baselines": {"validation": {"identity": 1.0, "gain": 0.9}}}
    save_model(folder, network, ModelCard(code, CONFIG, front_end, 10.0, **figures))
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a mixture of 3.3 s, the models vn and vc of a run, and nothing registered."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reading, "BLOCK_SECONDS", 0.7)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    soundfile.write("mix.wav", noise(3.3), RATE, "PCM_24")
    save(Path("run/models/vn"), "vn", 1)
    save(Path("run/models/vc"), "vc", 2, dataclasses.replace(FRONT_END, axis="log", low_hz=30.0, clip_seconds=2.0))
    return tmp_path


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def separate(line: str, model: str | None = "run") -> None:
    main([*line.split(), *(["--model", model] if model else [])])


def refusal(command: Callable[[], None], folder: Path) -> str:
    """The one line of a command that fails, and leaves the folder as it was."""
    before = tree(folder)
    with pytest.raises(UserError) as caught:
        command()
    assert "\n" not in str(caught.value)
    assert tree(folder) == before
    return str(caught.value)


def read(name: str) -> np.ndarray:
    return soundfile.read(name, always_2d=True)[0]


def error_db(found: np.ndarray, expected: np.ndarray) -> float:
    return 20 * np.log10(max(np.abs(found - expected).max(), 1e-30) / np.abs(expected).max())
