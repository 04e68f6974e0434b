"""Listening examples in a folder, as the final evaluation writes them."""

import numpy as np
from torch import nn

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.evaluation.audio_samples import write_sample

FRONT_END = FrontEnd(clip_seconds=1.0, window=1024)
FACTS = {
    "instrument": "vn",
    "piece": "Minuet_take2",
    "title": "Minuet",
    "clip": 3,
    "players": ["vn", "vc"],
    "begin_seconds": 3.0,
    "sounding_share": 0.875,
    "mixture_si_sdr_db": 0.5,
    "si_sdr_db": 4.25,
    "oracle_si_sdr_db": float("nan"),
}


class Half(nn.Module):
    """Half of every compressed amplitude."""

    def forward(self, rows):
        return rows / 2


def waveforms(seed=0):
    noise = np.random.default_rng(seed).normal(0, 0.05, (2, FRONT_END.clip_samples)).astype(np.float32)
    return noise.sum(axis=0), noise[0], noise[0] * np.float32(0.5)


def write(folder, **changes):
    mixture, target, estimate = waveforms()
    given = {
        "network": Half(),
        "front_end": FRONT_END,
        "constant": 2.0,
        "mixture": mixture,
        "target": target,
        "estimate": estimate,
        "facts": FACTS,
    }
    write_sample(folder, **(given | changes))
    return folder
