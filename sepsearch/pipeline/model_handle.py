"""A trained model as a Python object: waveforms in, waveforms out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from sepsearch.audio import reading
from sepsearch.audio.reading import HIGHEST_RATE, LOUDEST, LOWEST_RATE, RATE
from sepsearch.audio.separation import Separator, separate_stream
from sepsearch.audio.streams import MOST_CHANNELS
from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.models.families import config_params
from sepsearch.models.saved_model import ModelCard, is_provisional, save_model
from sepsearch.pipeline.separate.files import SHORTEST
from sepsearch.utils.errors import UserError
from sepsearch.utils.progress import one_torch_thread


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained network that separates one instrument; made by `load_model` and `Run.best`.

    Attributes:
        network: the PyTorch module, (batch, 1, frame 128, band 128) of compressed amplitudes → the same shape; on the
            CPU, in evaluation mode.
        card: all that is needed to use the model and to judge it, as its file `model.json` has it: configuration, front
            end, split, baselines, scores, caveat, …
    """

    network: nn.Module
    card: ModelCard

    @property
    def instrument(self) -> str:
        """The instrument's code, such as "vn"."""
        return self.card.instrument

    @property
    def name(self) -> str:
        """The instrument's name, such as "violin"."""
        return INSTRUMENTS[self.card.instrument]

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(tensor.numel() for tensor in self.network.parameters())

    @property
    def config(self) -> dict[str, Any]:
        """The network's configuration by parameter, such as {"family": "unet", "channels": 16, …}."""
        return config_params(self.card.config)

    @property
    def scores(self) -> Mapping[str, Any]:
        """What the search measured: "ratio" on validation titles, "test_ratio", "si_sdr_gain_db", …"""
        return self.card.scores

    @property
    def provisional(self) -> bool:
        """Whether it is of a trial of a search that has chosen no final models yet."""
        return is_provisional(self.card)

    def separate(self, waveform: ArrayLike, rate: int) -> NDArray[np.float32]:
        """The instrument's part of a recording, with the recording's phase, length and level.

        The same as `sepsearch separate --instrument … -o voice.wav`, to the last bit.

        Args:
            waveform: floats, full scale = 1: (sample,), (channel, sample) or (sample, channel); of two axes the shorter
                one is that of the channels. All channels get the mask of their mean, so that a voice keeps its place.
            rate: of the waveform, Hz; from 8,000 to 384,000. Nothing is resampled.

        Returns:
            float32 of the same shape as the waveform.

        Raises:
            UserError: no floats, not finite, another shape or rate, more than 8 channels, or less than 0.086 s.
        """
        samples = np.asarray(waveform)
        rate = _checked_rate(rate)
        channels = _channels_first(samples)
        _check_samples(channels, rate)
        size = int(reading.BLOCK_SECONDS * rate)  # blocks as those of files, so that the numbers are the same
        blocks = (np.ascontiguousarray(channels[:, at : at + size]) for at in range(0, channels.shape[1], size))
        separator = Separator(self.network, self.card.front_end, self.card.constant, self.instrument)
        with one_torch_thread():
            voices = [voices[0] for _, voices in separate_stream([separator], rate, blocks)]
        voice = np.concatenate(voices, axis=1)
        return voice.reshape(samples.shape) if voice.shape[0] == 1 or samples.shape == voice.shape else voice.T

    def save(self, folder: str | Path) -> Path:
        """Write the model to a folder that does not exist yet, for `load_model(…, model=folder)`; gives its path.

        Raises:
            UserError: something has this path already, or it cannot be written.
        """
        path = Path(folder)
        if path.exists():
            raise UserError(f"{path}: exists already, expected a new folder: choose another name")
        save_model(path, self.network, self.card)
        return path

    def __repr__(self) -> str:
        kind = "provisional " if self.provisional else ""
        ratio = self.scores.get("ratio")
        known = f", ratio {ratio:.3f}" if isinstance(ratio, float) and math.isfinite(ratio) else ""
        return f"<{kind}model of {self.name}: {self.card.config.family}, {self.parameters:,} parameters{known}>"


def _checked_rate(rate: int) -> int:
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.number) or rate != int(rate):
        raise UserError(f"rate: expected a whole number of Hz, found {rate!r}")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise UserError(f"rate: expected {LOWEST_RATE} to {HIGHEST_RATE} Hz, found {rate} Hz")
    return int(rate)


def _channels_first(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Samples of one or two axes as float32 (channel, sample); see `Model.separate`."""
    if samples.dtype.kind != "f":
        advice = ": divide by their full scale, such as 32768" if samples.dtype.kind == "i" else ""
        raise UserError(f"waveform: expected floats, full scale = 1, found {samples.dtype}{advice}")
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[0] == samples.shape[1]):
        raise UserError(
            f"waveform: expected (sample,), (channel, sample) or (sample, channel), found shape {samples.shape}"
        )
    audio = samples.astype(np.float32)
    if audio.ndim == 1:
        return audio[None]
    audio = audio.T if audio.shape[0] > audio.shape[1] else audio
    if not 1 <= len(audio) <= MOST_CHANNELS:
        raise UserError(f"waveform: expected 1 to {MOST_CHANNELS} channels, found {len(audio)}: mix some of them down")
    return audio


def _check_samples(audio: NDArray[np.float32], rate: int) -> None:
    if audio.shape[1] * RATE < SHORTEST * rate:
        raise UserError(
            f"waveform: expected at least {SHORTEST / RATE:.3f} s of audio, found {audio.shape[1] / rate:.3f} s"
        )
    peak = float(max(-audio.min(), audio.max()))  # a NaN anywhere makes this NaN
    if not math.isfinite(peak):
        raise UserError("waveform: expected finite samples, found NaN or infinity")
    if peak > LOUDEST:
        raise UserError(f"waveform: expected samples between -1 and 1, found a peak of {peak:.3g}: scale it down")
