"""Models that were never trained, in a run's folder, and a recording to separate with them."""

from pathlib import Path

import numpy as np
import soundfile
import torch

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import ModelCard, save_model

FRONT_END = FrontEnd(clip_seconds=1.0)
CONFIG = make_config({"filters": 2, "head": "mask"})


def write_models(run: Path, codes: tuple[str, ...] = ("vn", "vc")) -> Path:
    """A model for each instrument in the folder of a run."""
    for seed, code in enumerate(codes):
        torch.manual_seed(seed)
        figures = {"scores": {"ratio": 0.5}, "baselines": {"validation": {"identity": 1.0, "gain": 0.9}}}
        save_model(run / "models" / code, make_network(CONFIG), ModelCard(code, CONFIG, FRONT_END, 10.0, **figures))
    return run


def write_noise(path: Path, seconds: float = 3.0, rate: int = 44_100) -> Path:
    """A recording of seeded noise, two channels."""
    samples = 0.1 * np.random.default_rng(3).standard_normal((int(seconds * rate), 2))
    soundfile.write(path, samples, rate, "PCM_16")
    return path
