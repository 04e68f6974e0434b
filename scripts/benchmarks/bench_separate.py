"""How fast `sepsearch.separate` is, and how much memory it takes, as the command that a person types."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_table import Figure, Part, Settings

REPEATS = 3
RATE = 48_000
MINUTES, LONG_MINUTES, MANY_MINUTES = 10, 60, 3
# Name → front end and configuration.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "separate, reference network": ("mel", {"head": "mask"}),
    "separate, U-Net": ("log15", {"family": "unet", "harmonic_bins": 15, "kernel_frequency": 5}),
}
AIM_SPEED = 20.0
AIM_MEGABYTES = 1000.0
HOW = f"""\
`python -m sepsearch.separate` from the start of Python to its end: check the recording, separate, write 32-bit floats.
The recording is stereo noise of changing loudness at {RATE / 1000:g} kHz, 16 bits; the models are untrained (what a
network was trained to costs no time): the report's final network with the mask head on mel bands, and the U-Net of
`laptop.yaml` with its defaults on logarithmic bands.

- *speed*: seconds of audio a second; for all 13 instruments, shared out and with the residual, 13 times that.
  Beside it: real time. Aim: {AIM_SPEED:g} times that, per instrument.
- *memory*: the process's peak (RSS) on {LONG_MINUTES} minutes, once. Beside it: the recording's samples alone as
  floats, the least that a program needs that loads it whole. Aim: below 1 GB.
"""


def measure(settings: Settings) -> Part:
    """Both networks."""
    repeats, figures, notes = settings.repeats or REPEATS, list[Figure](), list[str]()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        for network in NETWORKS:
            make_models(Path(name, "models"), network)
            found, note = measure_network(Path(name), network, repeats)
            figures += found
            notes.append(note)
    return Part("separate", HOW, figures, notes)


def measure_network(folder: Path, network: str, repeats: int) -> tuple[list[Figure], str]:
    """One instrument, all instruments, and one long recording: figures and a note."""
    one = [separate(folder, MINUTES, "vn")[0] for _ in range(repeats)]
    many = [separate(folder, MANY_MINUTES, "all", "--share")[0] for _ in range(repeats)]
    short, long = (separate(folder, minutes, "vn")[1] for minutes in (MINUTES, LONG_MINUTES))
    samples = LONG_MINUTES * 60 * RATE * 2 * 4 / 1e6
    figures = [
        Figure(name, "times real time", speeds, [1.0] * repeats, "real time", True, least_ratio=AIM_SPEED, digits=0)
        for name, speeds in (
            (f"{network}, one instrument, {MINUTES} minutes", [60 * MINUTES / seconds for seconds in one]),
            (
                f"{network}, all 13, {MANY_MINUTES} minutes, each",
                [13 * 60 * MANY_MINUTES / seconds for seconds in many],
            ),
        )
    ]
    figures.append(
        Figure(
            f"{network}, peak memory on {LONG_MINUTES} minutes",
            "MB",
            [long],
            [samples],
            "samples alone",
            False,
            most_ours=AIM_MEGABYTES,
            digits=0,
        )
    )
    return figures, f"{network}: {MINUTES} minutes take {short:.0f} MB, {LONG_MINUTES} take {long:.0f} MB"


def make_models(folder: Path, network: str) -> None:
    """A model of every instrument, in place of those of another network."""
    import torch

    from sepsearch.audio.spectrogram import PRESETS
    from sepsearch.data.instruments import INSTRUMENTS
    from sepsearch.models.families import make_config, make_network
    from sepsearch.models.saved_model import ModelCard, save_model

    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(0)
    front_end, params = NETWORKS[network]
    config = make_config(params)
    for code in INSTRUMENTS:
        save_model(folder / code, make_network(config), ModelCard(code, config, PRESETS[front_end], 6.0))


def separate(folder: Path, minutes: int, instrument: str, *options: str) -> tuple[float, float]:
    """Wall seconds of the command, and the peak of its memory in MB."""
    mixture = folder / f"{minutes}.wav"
    if not mixture.exists():
        write_noise(mixture, minutes)
    with tempfile.TemporaryDirectory(dir=folder) as output:
        line = [sys.executable, "-m", "sepsearch.separate", str(mixture), "--instrument", instrument, *options]
        begin = time.perf_counter()
        process = subprocess.Popen(
            [*line, "-o", output, "--model", str(folder / "models")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"separate failed with exit code {process.returncode}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def write_noise(path: Path, minutes: int) -> None:
    """A stereo recording."""
    import numpy as np
    import soundfile

    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        for _ in range(minutes * 60):
            file.write(rng.uniform(0.01, 0.3) * rng.uniform(-1, 1, (RATE, 2)).astype(np.float32))
