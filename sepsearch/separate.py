"""Mixture to voice: a network's spectrogram becomes a soft mask on the full short-time Fourier transform.

python -m sepsearch.separate mix.wav --instrument vn -o vn.wav
"""

import argparse
import os
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sepsearch.errors import UserError, exit_on_user_error, no_space
from sepsearch.files import is_there
from sepsearch.instruments import INSTRUMENTS
from sepsearch.model_folder import load_model
from sepsearch.registry import CHAMPION, PREFIX, resolve_model
from sepsearch.spectrogram import FRAMES, RATE, FrontEnd, band_matrix, clip_spectra, expand, subset_rows

WINDOW = 4096
HOP = 1024


@cache
def _bin_weights(front_end: FrontEnd) -> Tensor:
    """(frequency of the full transform, band): where a frequency takes its mask from; rows add up to 1.

    Frequencies above the highest band or below the lowest take the mask of the nearest one.
    """
    bands = band_matrix(front_end)
    scale = front_end.window / WINDOW
    rows = torch.arange(WINDOW // 2 + 1).double().mul(scale).round().long().clamp(max=len(bands) - 1)
    weights = bands[rows] / bands.amax(dim=0)
    empty = weights.sum(dim=1) == 0
    centres = (bands * torch.arange(len(bands))[:, None]).sum(dim=0)
    nearest = (rows[empty, None] - centres[None]).abs().argmin(dim=1)
    weights[empty] = nn.functional.one_hot(nearest, bands.shape[1]).float()
    return weights / weights.sum(dim=1, keepdim=True)


@torch.inference_mode()
def clip_mask(
    network: nn.Module, front_end: FrontEnd, constant: float, mixture: NDArray[np.float32], begin: int
) -> Tensor:
    """Mask of one clip, float32 (frame 128, band 128) in [0, 1]: predicted amplitude / the mixture's.

    Args:
        network: (batch, 1, frame, band) → the same shape, compressed amplitudes.
        front_end: of the network.
        constant: of the network.
        mixture: waveform (sample,), 48 kHz.
        begin: the clip's first sample.
    """
    row = subset_rows(front_end, clip_spectra(front_end, mixture[None], begin), (1,), constant).float()
    predicted = network(row[None])[0, 0]
    amplitude = expand(row[0], constant)
    return torch.where(amplitude > 0, expand(predicted, constant) / amplitude, 0.0).clamp(0, 1)


def whole_mask(network: nn.Module, front_end: FrontEnd, constant: float, mixture: NDArray[np.float32]) -> Tensor:
    """Mask of a whole mixture (sample,), float32 (frame, band).

    Clips overlap by half and are cross-faded, so that no seam is heard where one ends.
    """
    network.eval()
    half = FRAMES // 2
    halves = max(2, -(-len(mixture) // (half * front_end.hop)))
    total = torch.zeros((halves * half, band_matrix(front_end).shape[1]))
    weight = torch.zeros((halves * half, 1))
    fade = 1 - (torch.arange(FRAMES) + 0.5 - half).abs()[:, None] / half  # a triangle
    for number in range(halves - 1):
        frames = slice(number * half, number * half + FRAMES)
        total[frames] += fade * clip_mask(network, front_end, constant, mixture, number * half * front_end.hop)
        weight[frames] += fade
    return total / weight


def apply_mask(front_end: FrontEnd, mask: Tensor, mixture: NDArray[np.float32]) -> NDArray[np.float32]:
    """The masked waveform (sample,) of `mixture` (sample,), with the mixture's phase.

    `mask` is (frame, band), frames centred in hops from the waveform's beginning; between frames and bands it is
    interpolated.
    """
    # With silence behind it a recording shorter than a window can be transformed, too.
    audio = torch.from_numpy(np.pad(mixture, (0, max(0, WINDOW - len(mixture)))))
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(audio, WINDOW, HOP, window=window, center=True, pad_mode="constant", return_complex=True)
    times = torch.arange(spectrum.shape[1]) * (HOP / front_end.hop) - 0.5
    before = times.floor().clamp(0, len(mask) - 1)
    share = (times - before).clamp(0, 1)[:, None]
    after = (before + 1).clamp(max=len(mask) - 1)
    frames = mask[before.long()] * (1 - share) + mask[after.long()] * share  # (full frame, band)
    full = _bin_weights(front_end) @ frames.T  # (full frequency, full frame)
    return torch.istft(spectrum * full, WINDOW, HOP, window=window, length=len(audio)).numpy()[: len(mixture)]


def separate_waveform(
    network: nn.Module, front_end: FrontEnd, constant: float, mixture: NDArray[np.float32]
) -> NDArray[np.float32]:
    """One instrument's part of a mixture: (sample,) or (channel, sample) at 48 kHz → the same shape.

    All channels get the mask of their mean, so that a voice keeps its place.
    """
    channels = np.atleast_2d(mixture)
    mask = whole_mask(network, front_end, constant, channels.mean(axis=0))
    return np.stack([apply_mask(front_end, mask, channel) for channel in channels]).reshape(mixture.shape)


def main(argv: list[str] | None = None) -> None:
    """Pull one instrument out of a recording."""
    parser = argparse.ArgumentParser(prog="python -m sepsearch.separate", description=main.__doc__)
    parser.add_argument("mixture", type=Path, help="WAV, FLAC or OGG; any length and rate, mono or stereo")
    parser.add_argument("--instrument", required=True, help=f"one of {', '.join(INSTRUMENTS)}")
    parser.add_argument("-o", "--output", type=Path, required=True, help="WAV or FLAC file to write; must not exist")
    parser.add_argument("--model", help="a model's folder or a registered model; the instrument's champion by default")
    arguments = parser.parse_args(argv)
    code = arguments.instrument
    if code not in INSTRUMENTS:
        raise UserError(f"--instrument {code!r}: unknown, expected one of {', '.join(INSTRUMENTS)}")
    if is_there(arguments.output):
        raise UserError(f"{arguments.output}: exists already, expected a new file: choose another name for -o")
    if arguments.output.suffix.lower() not in (".wav", ".flac"):
        raise UserError(f"{arguments.output}: expected a name that ends in .wav or .flac")
    network, card = load_model(resolve_model(arguments.model or f"models:/{PREFIX}{code}@{CHAMPION}"))
    if card.instrument != code:
        raise UserError(f"{arguments.model}: a model of {card.instrument}, expected one of {code}")
    audio, rate = _read(arguments.mixture)
    voice = separate_waveform(network, card.front_end, card.constant, _resample(audio, rate, RATE))
    voice = _resample(voice, RATE, rate)
    # Resampling there and back may be off by a sample.
    voice = np.pad(voice, ((0, 0), (0, max(0, audio.shape[1] - voice.shape[1]))))[:, : audio.shape[1]]
    _write(arguments.output, voice, rate)
    seconds = voice.shape[1] / rate
    print(f"{arguments.output}: {INSTRUMENTS[code]}, {seconds:.1f} s, {rate} Hz, {len(voice)} channel(s)")


def _read(path: Path) -> tuple[NDArray[np.float32], int]:
    """Audio (channel, sample), full scale = 1, and its rate; raises `UserError`."""
    import soundfile

    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise UserError(f"{path}: cannot be read as audio: {error}: is it a WAV, FLAC or OGG file?") from error
    if not len(audio):
        raise UserError(f"{path}: holds no samples, expected a recording")
    if not np.isfinite(audio).all():
        raise UserError(f"{path}: holds samples that are no numbers (NaN or infinite): export it again")
    return np.ascontiguousarray(audio.T), rate


def _resample(audio: NDArray[np.float32], rate_in: int, rate_out: int) -> NDArray[np.float32]:
    """(channel, sample) at another rate."""
    if rate_in == rate_out:
        return audio
    import soxr

    return np.stack([soxr.resample(channel, rate_in, rate_out) for channel in audio])


def _write(path: Path, audio: NDArray[np.float32], rate: int) -> None:
    """Write (channel, sample) as 24 bits under a temporary name, then rename."""
    import soundfile

    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
        os.close(descriptor)
        soundfile.write(temporary, audio.T, rate, subtype="PCM_24")
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except (OSError, soundfile.SoundFileError) as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise no_space(error if isinstance(error, OSError) else OSError(str(error)), path) from error


if __name__ == "__main__":
    exit_on_user_error(main)
