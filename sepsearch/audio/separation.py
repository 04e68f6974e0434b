"""Mixture to voice: a network's spectrogram becomes a soft mask on the full short-time Fourier transform.

Everything goes block by block in constant memory; a whole waveform is one block.

    samples ─► at 48 kHz: rows ─► clips that overlap by half ─► networks ─► masks, cross-faded ─┐
       └─────► short-time Fourier transform at the recording's own rate ──────────────────────► × ─► voices

The audio itself is never resampled: a mask is a function of seconds and Hz, whatever the rate of what it is laid on.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sepsearch.audio.spectrogram import BINS, FRAMES, RATE, FrontEnd, clip_spectra, expand, subset_rows
from sepsearch.audio.stft import MaskedTransform, MaskTrack
from sepsearch.utils.errors import UserError

HALF = FRAMES // 2
BATCH = 8  # clips that a network sees at once

Audio = NDArray[np.float32]
Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Separator:
    """A network, (batch, 1, frame, band) → the same shape of compressed amplitudes, and what its rows are made with.

    `name` stands in messages. A voice that is not `written` takes its part where masks are divided, and is not given.
    """

    network: Network
    front_end: FrontEnd
    constant: float
    name: str = "the network"
    written: bool = True


def row_mask(predicted: Tensor, row: Tensor) -> Tensor:
    """The mask in [0, 1] of a predicted row beside the mixture's row, compressed amplitudes of any equal shape.

    Their ratio as they stand. A network trained on squared error predicts the mean where it is uncertain; where a
    point belongs to one voice or not at all (W-disjoint orthogonality, Yilmaz and Rickard 2004) that over the mixture
    is the probability that it is the voice's, hence the mean share of its amplitude (measured: docs/decisions.md).
    """
    return torch.where(row > 0, predicted / row, 0.0).clamp(0, 1)


def separate_waveform(network: Network, front_end: FrontEnd, constant: float, mixture: Audio) -> Audio:
    """One instrument's part of a mixture: (sample,) or (channel, sample) at 48 kHz → the same shape.

    All channels get the mask of their mean, so that a voice keeps its place.
    """
    if isinstance(network, nn.Module):
        network.eval()
    blocks = separate_stream([Separator(network, front_end, constant)], RATE, [np.atleast_2d(mixture)])
    return np.concatenate([voices[0] for _, voices in blocks], axis=1).reshape(mixture.shape)


def oracle_waveform(front_end: FrontEnd, constant: float, mixture: Audio, target: Audio) -> Audio:
    """Estimate by the oracle mask, target amplitude / mixture amplitude at the rows' resolution: (sample,) → (sample,).

    Audio at 48 kHz. The target is given, so amplitudes are compared, not their compressed values.
    """
    rows = _RowStream(front_end, constant)
    targets = torch.cat([rows.feed(target), rows.finish()]).unfold(0, FRAMES, HALF).transpose(1, 2)
    seen = 0

    def oracle(clips: Tensor) -> Tensor:
        nonlocal seen
        seen += len(clips)  # clips come in order
        known = targets[seen - len(clips) : seen, None]
        return torch.where(clips > 0, expand(known, constant) / expand(clips, constant), 0.0).clamp(0, 1) * clips

    return separate_waveform(oracle, front_end, constant, mixture)


@torch.inference_mode()
def separate_stream(
    separators: Sequence[Separator], rate: int, blocks: Iterable[Audio], least: float | None = None
) -> Iterator[tuple[Audio, Audio]]:
    """Voices of a mixture that comes in blocks, with its phase, length and level.

    Args:
        separators: one per voice; networks in evaluation mode.
        rate: of the mixture, Hz.
        blocks: (channel, sample) each, of any lengths.
        least: divide the masks by their sum, but by no less than this: with `stft.SHARED` voices never add up to more
            than there is, with `stft.NAMED` they are all that plays and add up to it. None: masks as they are.

    Yields:
        The mixture (channel, sample) and its written voices (voice, channel, sample) of the same samples, from the
        first on.

    Raises:
        UserError: a network gives numbers that are not finite.
    """
    analysis = _Analysis(separators, rate)
    synthesis = MaskedTransform(rate, analysis.tracks, least)
    for block in blocks:
        analysis.feed(block.mean(axis=0, dtype=np.float32))
        synthesis.feed(block)
        yield from synthesis.voices()
    analysis.finish()
    synthesis.finish()
    yield from synthesis.voices()


def _clip_rows(front_end: FrontEnd, constant: float, waveform: Audio, begin: int) -> Tensor:
    """Compressed amplitudes of one clip of a waveform (sample,): float32 (frame 128, band 128)."""
    return subset_rows(front_end, clip_spectra(front_end, waveform[None], begin), (1,), constant)[0].float()


class _RowStream:
    """Waveform (sample,) at 48 kHz in blocks → its rows, float32 (frame, band), as far as they are complete."""

    def __init__(self, front_end: FrontEnd, constant: float):
        self._front_end, self._constant = front_end, constant
        self._waveform = np.zeros(0, np.float32)  # from sample `_first` on
        self._first = self._begin = 0  # `_begin`: first sample of the next clip

    def feed(self, waveform: Audio) -> Tensor:
        self._waveform = np.concatenate([self._waveform, waveform])
        return self._clips(self._first + len(self._waveform) - self._front_end.window - self._front_end.clip_samples)

    def finish(self) -> Tensor:
        """The rest; at least a clip in all, and a whole number of half clips."""
        half = HALF * self._front_end.hop
        length = self._first + len(self._waveform)
        missing = max(2, -(-length // half)) * HALF - self._begin // self._front_end.hop
        return self._clips(self._begin + missing * self._front_end.hop - 1)[:missing]

    def _clips(self, last: int) -> Tensor:
        """Rows of the clips that begin at or before sample `last`."""
        rows = [torch.zeros((0, BINS))]
        while self._begin <= last:
            rows.append(_clip_rows(self._front_end, self._constant, self._waveform, self._begin - self._first))
            self._begin += self._front_end.clip_samples
            done = min(max(0, self._begin - self._front_end.window - self._first), len(self._waveform))
            self._waveform, self._first = self._waveform[done:], self._first + done
        return torch.cat(rows)


class _MaskStream:
    """Rows in blocks → a mask for every row, float32 (frame, band).

    Clips overlap by half and are cross-faded, so that no seam is heard where one ends. A band without any sound in it
    has no mask of its own: it takes that of the next frame, so that what begins there begins at full level, or else
    the last one before.
    """

    def __init__(self, separator: Separator):
        self._separator = separator
        self._rows = torch.zeros((0, BINS))  # from the beginning of the next clip on
        self._ended: Tensor | None = None  # the second half of the last clip's mask
        self._waiting = torch.zeros((0, BINS)), torch.zeros((0, BINS), dtype=torch.bool)
        self._held = torch.zeros(BINS)

    def feed(self, rows: Tensor) -> Tensor:
        self._rows = torch.cat([self._rows, rows])
        if len(self._rows) < FRAMES:
            return torch.zeros((0, BINS))
        clips = self._rows.unfold(0, FRAMES, HALF).transpose(1, 2)  # (clip, frame, band)
        masks = torch.cat([self._clip_masks(batch) for batch in clips.split(BATCH)])
        first, second = masks[:, :HALF], masks[:, HALF:]
        before = torch.cat([first[:1] if self._ended is None else self._ended[None], second[:-1]])
        ramp = (torch.arange(HALF)[:, None] + 0.5) / HALF
        self._ended = second[-1]
        known = self._rows[: HALF * len(clips)] > 0
        self._rows = self._rows[HALF * len(clips) :]
        return self._fill((before + ramp * (first - before)).flatten(0, 1), known)

    def finish(self) -> Tensor:
        """The masks of the last half clip."""
        assert self._ended is not None
        # One more frame, which is silent, because the last one but it is given back.
        masks, known = torch.cat([self._ended, self._ended[-1:]]), torch.cat([self._rows, torch.zeros((1, BINS))]) > 0
        return self._fill(masks, known)

    def _clip_masks(self, clips: Tensor) -> Tensor:
        masks = row_mask(self._separator.network(clips[:, None])[:, 0], clips)
        if not bool(masks.isfinite().all()):
            raise UserError(f"{self._separator.name}: gives numbers that are not finite: choose another model")
        return masks

    def _fill(self, masks: Tensor, known: Tensor) -> Tensor:
        """Masks of all frames but the last, which waits for the one behind it."""
        masks, known = torch.cat([self._waiting[0], masks]), torch.cat([self._waiting[1], known])
        self._waiting = masks[-1:], known[-1:]
        found = torch.cat([self._held[None], torch.where(known[:-1], masks[:-1], masks[1:])])
        numbers = torch.arange(len(found))[:, None] * torch.cat([known[:1] | True, known[:-1] | known[1:]])
        filled = found.gather(0, numbers.cummax(dim=0).values)[1:]
        self._held = filled[-1] if len(filled) else self._held
        return filled


class _Analysis:
    """The mean of the channels in blocks → masks, in `tracks`; equal front ends are computed once."""

    def __init__(self, separators: Sequence[Separator], rate: int):
        import soxr

        self.tracks = [MaskTrack(separator.front_end, rate, separator.written) for separator in separators]
        self._masks = [(s.front_end, s.constant, _MaskStream(s)) for s in separators]
        self._rows = {(s.front_end, s.constant): _RowStream(s.front_end, s.constant) for s in separators}
        self._resampler = None if rate == RATE else soxr.ResampleStream(rate, RATE, 1, dtype="float32")

    def feed(self, waveform: Audio, last: bool = False) -> None:
        if self._resampler is not None:
            waveform = self._resampler.resample_chunk(waveform, last=last)
        rows = {key: stream.feed(waveform) for key, stream in self._rows.items()}
        if last:
            rows = {key: torch.cat([rows[key], stream.finish()]) for key, stream in self._rows.items()}
        for track, (front_end, constant, masks) in zip(self.tracks, self._masks, strict=True):
            track.feed(masks.feed(rows[front_end, constant]))
            if last:
                track.feed(masks.finish())
                track.complete = True

    def finish(self) -> None:
        self.feed(np.zeros(0, np.float32), last=True)
