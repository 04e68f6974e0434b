"""How far separated audio is from the voice alone: SI-SDR and SDR in dB, undefined where they would mislead."""

import math
import warnings

import numpy as np
import torch
from numpy.typing import NDArray

# An all-zero estimate has an SI-SDR of 0 dB, above a loud mixture's: a dead network would win.
SILENT_DB = -60.0
SILENCE = 1e-12  # power of full scale 1: −120 dB, below the noise of any recording


def si_sdr(estimate: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, eq. 3), of two (sample,) waveforms.

    NaN where it means nothing: the reference is silent, or the estimate lies more than 60 dB below the reference.
    """
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    if _is_undefined(estimate, reference):
        return math.nan
    return float(scale_invariant_signal_distortion_ratio(_tensor(estimate), _tensor(reference), zero_mean=True))


def sdr(estimate: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Signal-to-distortion ratio in dB of BSS Eval (Vincent et al. 2006; Scheibler 2022), of two (sample,) waveforms.

    The estimate may differ from the reference by a filter of 512 taps. NaN as in `si_sdr`, and where no filter can be
    found.
    """
    from torchmetrics.functional.audio import signal_distortion_ratio

    if _is_undefined(estimate, reference):
        return math.nan
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a solver that is not installed
            return float(signal_distortion_ratio(_tensor(estimate), _tensor(reference), zero_mean=True))
    except RuntimeError:  # torch's LinAlgError: a reference with fewer frequencies than taps, as a pure tone
        return math.nan


def _is_undefined(estimate: NDArray[np.floating], reference: NDArray[np.floating]) -> bool:
    power, estimated = (float(np.var(waveform, dtype=np.float64)) for waveform in (reference, estimate))
    return power <= SILENCE or estimated <= power * 10 ** (SILENT_DB / 10)


def _tensor(waveform: NDArray[np.floating]) -> torch.Tensor:
    return torch.from_numpy(waveform.astype(np.float64))
