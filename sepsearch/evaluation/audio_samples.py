"""Audio samples: one test clip per instrument, as audio and as the network's input and output spectrograms.

A sample is a folder, `runs/<name>/samples/<code>/`: three MP3 files, `spectrograms.safetensors` and `sample.json`,
which describes the clip and has the checksums of the rest.
"""

import dataclasses
import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from sepsearch.audio.reading import RATE
from sepsearch.audio.separation import row_mask
from sepsearch.audio.spectrogram import BINS, FRAMES, FrontEnd, clip_spectra, subset_rows
from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.utils.errors import UserError, one_line
from sepsearch.utils.files import is_there, new_folder
from sepsearch.utils.validation import problem_of, validated

FOLDER = "samples"
FACTS, SPECTROGRAMS = "sample.json", "spectrograms.safetensors"
VOICES = ("mixture", "target", "estimate")
PANELS = ("mixture", "target", "prediction", "mask")
PEAK = 0.9  # of full scale, of the loudest of the three
QUALITY = 0.3  # of libsndfile's variable rate, 0 the best: about 70 kbit/s for one channel of chamber music
_RESTORE = "remove the folder, and score the run again to have it back"


class _Card(BaseModel):
    """Content of `sample.json`; `scale`, the factor of the audio, is not read."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    instrument: str
    piece: str
    title: str
    clip: int
    players: list[str]
    begin_seconds: float | None
    mixture_si_sdr_db: float | None
    si_sdr_db: float | None
    oracle_si_sdr_db: float | None
    front_end: dict[str, Any]
    constant: float = Field(gt=0)
    sha256: dict[str, str]


@dataclass(frozen=True)
class Sample:
    """One test clip of an instrument.

    Attributes:
        facts: instrument, piece, title, clip, players (codes), begin_seconds (of the clip in its piece), and SI-SDR in
            dB: mixture_si_sdr_db, si_sdr_db (of the estimate), oracle_si_sdr_db; numbers may be None.
        front_end: of the spectrograms.
        constant: c of their SCALE · log1p(c · amplitude).
        spectrograms: mixture, target and prediction (compressed amplitudes) and mask (0 to 1), float32
            (frame 128, bin 128) each.
        audio: paths of mixture, target and estimate, MP3, one channel, 48 kHz, all scaled by the same factor.
    """

    facts: Mapping[str, Any]
    front_end: FrontEnd
    constant: float
    spectrograms: Mapping[str, NDArray[np.float32]]
    audio: Mapping[str, Path]


def write_sample(
    folder: Path,
    *,
    network: nn.Module,
    front_end: FrontEnd,
    constant: float,
    mixture: NDArray[np.float32],
    target: NDArray[np.float32],
    estimate: NDArray[np.float32],
    facts: Mapping[str, Any],
) -> None:
    """Write a sample's folder, whole or not at all; one that is there already is replaced.

    Args:
        folder: its last part is the instrument's code.
        network: (batch, 1, frame, bin) → the same shape, compressed amplitudes.
        front_end: of the network.
        constant: of the network.
        mixture: one clip (sample,), 48 kHz, full scale = 1; likewise `target` and `estimate`, all of one length.
        facts: see `Sample`; a number that is not finite is kept as none.

    Raises:
        UserError: it cannot be written.
    """
    voices = dict(zip(VOICES, (mixture, target, estimate), strict=True))
    spectrograms = _spectrograms(network, front_end, constant, mixture, target)
    with new_folder(folder) as partial:
        scale = _write_audio(partial, voices)
        data = {name: np.ascontiguousarray(rows.astype(np.float16)) for name, rows in spectrograms.items()}
        (partial / SPECTROGRAMS).write_bytes(safetensors.numpy.save(data))
        card = {
            **{key: _plain(value) for key, value in facts.items()},
            "front_end": dataclasses.asdict(front_end),
            "constant": constant,
            "scale": scale,
            "sha256": {path.name: _digest(path.read_bytes()) for path in sorted(partial.iterdir())},
        }
        text = json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False)
        (partial / FACTS).write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # what is there already is older


@torch.inference_mode()
def _spectrograms(
    network: nn.Module, front_end: FrontEnd, constant: float, mixture: NDArray[np.float32], target: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Spectrograms of the panels by name: float32 (frame 128, bin 128) each."""
    network.eval()
    spectra = clip_spectra(front_end, np.stack([mixture, target]), 0)
    rows = subset_rows(front_end, spectra, (0b01, 0b10), constant).float()
    predicted = network(rows[:1, None])[0, 0]
    panels = (rows[0], rows[1], predicted, row_mask(predicted, rows[0]))
    return {name: panel.numpy() for name, panel in zip(PANELS, panels, strict=True)}


def _write_audio(folder: Path, voices: Mapping[str, NDArray[np.float32]]) -> float:
    """Write the three recordings, scaled by one factor so that their levels stay comparable; returns the factor."""
    import soundfile

    peak = max(float(np.abs(voice).max(initial=0.0)) for voice in voices.values())
    scale = PEAK / peak if 0 < peak < math.inf else 1.0
    for name, voice in voices.items():
        path = folder / f"{name}.mp3"
        try:
            soundfile.write(
                path,
                np.nan_to_num(voice * np.float32(scale)),
                RATE,
                format="MP3",
                subtype="MPEG_LAYER_III",
                bitrate_mode="VARIABLE",
                compression_level=QUALITY,
            )
        except soundfile.SoundFileError as error:
            raise OSError(str(error)) from error  # `new_folder` makes a `UserError` of it
    return scale


def _plain(value: Any) -> Any:
    """A value as JSON holds it: no NaN, and no numpy number."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sample_folders(run_folder: Path) -> dict[str, Path]:
    """The samples' folders of a run by their codes, in the order of `INSTRUMENTS`; none where no model was scored."""
    folders = {code: run_folder / FOLDER / code for code in INSTRUMENTS}
    return {code: folder for code, folder in folders.items() if is_there(folder)}


def read_samples(run_folder: Path) -> dict[str, Sample]:
    """All samples of a run by their codes; raises `UserError` at the first that is damaged, see `read_sample`."""
    return {code: read_sample(folder) for code, folder in sample_folders(run_folder).items()}


def read_sample(folder: Path) -> Sample:
    """The sample in a folder.

    Raises:
        UserError: a file is missing, or differs from what was written there.
    """
    try:
        card = _Card.model_validate_json(_read(folder / FACTS))
        front_end = validated(FrontEnd, card.front_end, "front_end")
    except ValidationError as error:
        raise UserError(f"{folder / FACTS}: {one_line(problem_of(error, _Card))}: {_RESTORE}") from error
    except UserError as error:
        raise UserError(f"{folder / FACTS}: {error}: {_RESTORE}") from error
    if card.instrument != folder.name:
        raise UserError(f"{folder / FACTS}: instrument is {card.instrument!r}, expected {folder.name}: {_RESTORE}")
    contents = {}
    for name in (SPECTROGRAMS, *(f"{voice}.mp3" for voice in VOICES)):
        contents[name] = _read(folder / name)
        if _digest(contents[name]) != card.sha256.get(name):
            raise UserError(f"{folder / name}: damaged (its checksum differs): {_RESTORE}")
    spectrograms = _read_spectrograms(folder / SPECTROGRAMS, contents[SPECTROGRAMS])
    audio = {voice: folder / f"{voice}.mp3" for voice in VOICES}
    facts = card.model_dump(exclude={"front_end", "constant", "sha256"})
    return Sample(facts, front_end, card.constant, spectrograms, audio)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}: {_RESTORE}") from error


def _read_spectrograms(path: Path, data: bytes) -> dict[str, NDArray[np.float32]]:
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be read as spectrograms: {one_line(error)}: {_RESTORE}") from error
    for name in PANELS:
        if name not in arrays or arrays[name].shape != (FRAMES, BINS) or not np.isfinite(arrays[name]).all():
            raise UserError(f"{path}: {name} is not {FRAMES} × {BINS} finite numbers: {_RESTORE}")
    return {name: arrays[name].astype(np.float32) for name in PANELS}
