"""Pull an instrument out of a 48 kHz recording with onnxruntime and soundfile: python separate.py mix.wav voice.wav"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile

FRAMES, WINDOW, HOP = 128, 4096, 1024  # frames of a clip; samples of the transform that is masked


def hann(size):
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def windows(audio, before, size, hop, count):
    """Windows (count, size), one every `hop` samples; `before` samples of silence come first."""
    padded = np.pad(audio, (before, max(0, (count - 1) * hop + size - before - len(audio))))
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][:count]


def make_mask(model, mixture, window, hop):
    """Mask (frame, frequency), frames `hop` samples apart, of clips that overlap by half and are cross-faded."""
    half, size = FRAMES // 2, model.get_inputs()[0].shape[2]
    count = max(2, -(-len(mixture) // (half * hop))) * half
    frames = windows(mixture, max(0, window - hop) // 2, window, hop, count)
    fade = (1 - np.abs(np.arange(FRAMES) + 0.5 - half) / half)[:, None]
    total, weight = np.zeros((count, WINDOW // 2 + 1), np.float32), np.zeros((count, 1), np.float32)
    for clip in (slice(begin, begin + FRAMES) for begin in range(0, count - half, half)):
        spectra = np.fft.rfft(frames[clip] * hann(window))[None, :, :size]
        power = np.abs(spectra) ** 2 / np.sum(hann(window) ** 2)
        total[clip] += fade * model.run(["mask"], {"power": power.astype(np.float32)})[0][0]
        weight[clip] += fade
    return total / weight


def apply_mask(mask, times, channel):
    """The masked waveform, `times` (in frames of the mask) of its windows; the phase is the mixture's."""
    spectra = np.fft.rfft(windows(channel, WINDOW - HOP, WINDOW, HOP, len(times)) * hann(WINDOW))
    before = np.clip(np.floor(times).astype(int), 0, len(mask) - 1)
    share = np.clip(times - before, 0, 1)[:, None]
    spectra *= mask[before] * (1 - share) + mask[np.minimum(before + 1, len(mask) - 1)] * share
    voice = np.zeros((len(times) - 1) * HOP + WINDOW)
    for number, part in enumerate(np.fft.irfft(spectra) * hann(WINDOW) / 1.5):
        voice[number * HOP : number * HOP + WINDOW] += part
    return voice[WINDOW - HOP :][: len(channel)]


if len(sys.argv) != 3:
    sys.exit(print(f"usage: python {sys.argv[0]} mix.wav voice.wav", file=sys.stderr) or 2)
audio, rate = soundfile.read(sys.argv[1], dtype="float32", always_2d=True)
if rate != 48_000:
    sys.exit(f"{sys.argv[1]}: {rate} samples a second, expected 48000: resample it first")
model = onnxruntime.InferenceSession(str(Path(__file__).with_name("model.onnx")))
window, hop = (int(model.get_modelmeta().custom_metadata_map[key]) for key in ("window", "hop"))
centres = (np.arange(-(-len(audio) // HOP) + 3) - 1) * HOP
times = (centres + max(0, window - hop) // 2 - window / 2) / hop
mask = make_mask(model, audio.mean(axis=1), window, hop)
soundfile.write(sys.argv[2], np.stack([apply_mask(mask, times, c) for c in audio.T], 1), rate, subtype="PCM_24")
