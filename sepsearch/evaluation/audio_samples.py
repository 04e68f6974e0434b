"""Audio samples: one test clip per instrument, as audio and as the network's input and output spectrograms.

A sample is a folder, `runs/<name>/samples/<code>/`: three MP3 files, one more for every candidate that was not chosen,
`spectrograms.safetensors` and `sample.json`, which describes the clip and has the checksums of the rest.
"""

import dataclasses
import hashlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

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
from sepsearch.data.piece_folders import find_mixture
from sepsearch.utils.errors import UserError, one_line
from sepsearch.utils.files import is_there, new_folder
from sepsearch.utils.validation import problem_of, validated

FOLDER = "samples"
FACTS, SPECTROGRAMS = "sample.json", "spectrograms.safetensors"
VOICES = ("mixture", "target", "estimate")
PANELS = ("mixture", "target", "prediction", "mask")
OWN_PANELS = ("prediction", "mask")  # of every candidate
PEAK = 0.9  # of full scale, of the loudest
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
    sounding_share: float | None = None
    mixture_si_sdr_db: float | None
    si_sdr_db: float | None
    oracle_si_sdr_db: float | None
    front_end: dict[str, Any]
    constant: float = Field(gt=0)
    sha256: dict[str, str]
    chosen: str = ""
    candidates: dict[Annotated[str, Field(pattern=r"^c[0-9]+-s[0-9]+$")], float | None] = {}


@dataclass(frozen=True)
class Sample:
    """One test clip of an instrument.

    Attributes:
        facts: instrument, piece, title, clip, players (codes), begin_seconds (of the clip in its piece),
            sounding_share (of the clip, for which the target sounds; None in runs of earlier versions), and SI-SDR in
            dB: mixture_si_sdr_db, si_sdr_db (of the estimate), oracle_si_sdr_db; numbers may be None.
        front_end: of the spectrograms.
        constant: c of their SCALE · log1p(c · amplitude).
        spectrograms: mixture, target and prediction (compressed amplitudes) and mask (0 to 1), float32
            (frame 128, bin 128) each.
        audio: paths of mixture, target and estimate, MP3, one channel, 48 kHz, all scaled by the same factor.
        chosen: finalist and seed of the estimate, such as "c0-s1"; "" in samples of earlier versions.
        candidates: the same clip by the other finalists' models, with their estimate, prediction, mask and SI-SDR, by
            finalist and seed.
    """

    facts: Mapping[str, Any]
    front_end: FrontEnd
    constant: float
    spectrograms: Mapping[str, NDArray[np.float32]]
    audio: Mapping[str, Path]
    chosen: str = ""
    candidates: "Mapping[str, Sample]" = field(default_factory=dict)


@dataclass(frozen=True)
class CandidateEstimate:
    """What a model that was not chosen makes of a sample's clip.

    Args:
        name: finalist and seed, such as "c1-s2".
        network: (batch, 1, frame, bin) → the same shape, compressed amplitudes.
        estimate: (sample,), 48 kHz.
        si_sdr_db: of the estimate.
    """

    name: str
    network: nn.Module
    estimate: NDArray[np.float32]
    si_sdr_db: float


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
    chosen: str = "",
    candidates: Sequence[CandidateEstimate] = (),
) -> None:
    """Write a sample's folder, whole or not at all; one that is there already is replaced.

    Args:
        folder: its last part is the instrument's code.
        network: (batch, 1, frame, bin) → the same shape, compressed amplitudes.
        front_end: of the network.
        constant: of the network.
        mixture: one clip (sample,), 48 kHz, full scale = 1; likewise `target` and `estimate`, all of one length.
        facts: see `Sample`; a number that is not finite is kept as none.
        chosen: finalist and seed of `network`.
        candidates: other models' estimates of the clip.

    Raises:
        UserError: it cannot be written.
    """
    voices = dict(zip(VOICES, (mixture, target, estimate), strict=True))
    voices |= {_voice(one.name): one.estimate for one in candidates}
    spectrograms = _spectrograms(network, front_end, constant, mixture, target)
    for one in candidates:
        own = _spectrograms(one.network, front_end, constant, mixture, target)
        spectrograms |= {_panel(name, one.name): own[name] for name in OWN_PANELS}
    with new_folder(folder) as partial:
        scale = _write_audio(partial, voices)
        data = {name: np.ascontiguousarray(rows.astype(np.float16)) for name, rows in spectrograms.items()}
        (partial / SPECTROGRAMS).write_bytes(safetensors.numpy.save(data))
        card = {
            **{key: _plain(value) for key, value in facts.items()},
            "front_end": dataclasses.asdict(front_end),
            "constant": constant,
            "scale": scale,
            "chosen": chosen,
            "candidates": {one.name: _plain(one.si_sdr_db) for one in candidates},
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
    """Write the recordings, scaled by one factor so that their levels stay comparable; returns the factor."""
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


def example_mixture(run_folder: Path, code: str, source: str) -> Path | None:
    """A mixture that is there, to try a run's model on: an instrument's test clip, else one of the recordings.

    Args:
        run_folder: of the run.
        code: of the instrument.
        source: the folder of recordings that the run was trained on; it may be another machine's.
    """
    clip = run_folder / FOLDER / code / "mixture.mp3"
    return clip if clip.is_file() else find_mixture(Path(source)) if source else None


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
    audio = {voice: folder / f"{voice}.mp3" for voice in VOICES}
    audio |= {_voice(name): folder / f"{_voice(name)}.mp3" for name in card.candidates}
    contents = {}
    for name in (SPECTROGRAMS, *(path.name for path in audio.values())):
        contents[name] = _read(folder / name)
        if _digest(contents[name]) != card.sha256.get(name):
            raise UserError(f"{folder / name}: damaged (its checksum differs): {_RESTORE}")
    panels = [*PANELS, *(_panel(panel, name) for name in card.candidates for panel in OWN_PANELS)]
    spectrograms = _read_spectrograms(folder / SPECTROGRAMS, contents[SPECTROGRAMS], panels)
    facts = card.model_dump(exclude={"front_end", "constant", "sha256", "chosen", "candidates"})
    candidates = {
        name: Sample(
            {**facts, "si_sdr_db": si_sdr},
            front_end,
            card.constant,
            {panel: spectrograms[_panel(panel, name) if panel in OWN_PANELS else panel] for panel in PANELS},
            {voice: audio[_voice(name) if voice == "estimate" else voice] for voice in VOICES},
            name,
        )
        for name, si_sdr in card.candidates.items()
    }
    own = ({panel: spectrograms[panel] for panel in PANELS}, {voice: audio[voice] for voice in VOICES})
    return Sample(facts, front_end, card.constant, *own, card.chosen, candidates)


def _voice(candidate: str) -> str:
    """Name of a candidate's audio file, without its suffix."""
    return f"estimate-{candidate}"


def _panel(name: str, candidate: str) -> str:
    """Name of a candidate's array."""
    return f"{name}/{candidate}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}: {_RESTORE}") from error


def _read_spectrograms(path: Path, data: bytes, panels: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be read as spectrograms: {one_line(error)}: {_RESTORE}") from error
    for name in panels:
        if name not in arrays or arrays[name].shape != (FRAMES, BINS) or not np.isfinite(arrays[name]).all():
            raise UserError(f"{path}: {name} is not {FRAMES} × {BINS} finite numbers: {_RESTORE}")
    return {name: arrays[name].astype(np.float32) for name in panels}
