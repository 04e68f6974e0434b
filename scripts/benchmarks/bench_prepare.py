"""Building the shards, beside a straightforward loop that makes the same rows from the same files."""

import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
from bench_table import Figure, Part, Settings
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # comes with librosa

from sepsearch.audio.spectrogram import SCALE, FrontEnd, band_matrix, count_clips
from sepsearch.data.demo.rendering import demo_folder
from sepsearch.data.recordings import Piece, Recordings, read_folder
from sepsearch.data.shards import ShardSet, prepare_shards, spectrograms

REPEATS = 3
PIECES_PER_SIZE = 2
AIM = 5.0
HOW = """\
Stem-seconds (seconds of audio, all players counted) that are turned into rows per second of wall time. Two pieces of
the demo ensemble of every ensemble size, 2 to 5 players; every repeat writes to a fresh, empty cache.

- *prepare, whole*: `sepsearch.data.shards.prepare_shards` as users call it: hashes, survey (levels, shared takes,
  mixtures), transform, Arrow files, checksums written and read back.
- *prepare, transform*: the part of the same call between its first and last report of progress on transforming.
- *Beside it*: one process that loads the stems of a piece with soundfile and, for every 10 s clip and every non-empty
  subset of players, sums the waveforms, takes `librosa.stft` of the sum (same window and hop), averages the power over
  the same bands, takes root and logarithm, converts to float16, and saves one `.npy` per piece. It is given the
  compression constant, and makes no hashes, no survey and no checksums. Its BLAS has one thread: at these sizes a
  second one gains nothing, and on a machine that does anything else it costs several times the loop's own time.

Files are in the page cache for both. The rows of both are compared; the difference is rounding to float16.
Aim: 5 times the loop's speed on two cores.
"""


def measure(settings: Settings) -> Part:
    """Both ways in turn, `REPEATS` times, on the same pieces."""
    recordings = choose_pieces(read_folder(demo_folder()))
    front_end = FrontEnd()
    seconds = sum(stem.seconds for piece in recordings.pieces for stem in piece.stems)
    for piece in recordings.pieces:
        for stem in piece.stems:
            stem.path.read_bytes()  # into the page cache
    spectrogram(front_end, np.zeros(front_end.window, np.float32), 1.0)  # librosa's own imports: seconds
    whole, transform, loop, differences = [], [], [], []
    for _ in range(settings.repeats or REPEATS):
        with empty_cache() as folder:
            shards, took, transforming = time_prepare(recordings, front_end)
            with threadpool_limits(1):
                begin = time.perf_counter()
                write_rows(recordings, front_end, shards.constant, folder)
                loop.append(seconds / (time.perf_counter() - begin))
            differences.append(largest_difference(shards, recordings, folder))
        whole.append(seconds / took)
        transform.append(seconds / transforming)
    beside = "straightforward loop"
    return Part(
        "prepare",
        HOW,
        [
            Figure("prepare, whole", "stem-seconds/s", whole, loop, beside, True, digits=0),
            Figure("prepare, transform", "stem-seconds/s", transform, loop, beside, True, least_ratio=AIM, digits=0),
        ],
        [
            f"{len(recordings.pieces)} pieces, {seconds:.0f} stem-seconds, {shards.rows} rows;"
            f" the loop took {seconds / median(loop):.1f} s",
            f"largest difference between a value of the shards and of the loop: {max(differences):.4f}"
            " (float16 has steps of 0.001 to 0.004 between 1 and 8)",
        ],
    )


def choose_pieces(recordings: Recordings) -> Recordings:
    """Of every ensemble size the pieces nearest to its median length."""
    chosen: list[Piece] = []
    for size in sorted({len(piece.stems) for piece in recordings.pieces}):
        pieces = [piece for piece in recordings.pieces if len(piece.stems) == size]
        middle = median(piece.seconds for piece in pieces)
        chosen += sorted(pieces, key=lambda piece: (abs(piece.seconds - middle), piece.name))[:PIECES_PER_SIZE]
    return dataclasses.replace(recordings, pieces=tuple(chosen))


@contextmanager
def empty_cache() -> Iterator[Path]:
    """A temporary folder that is sepsearch's cache while it exists."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        before = os.environ.get("SEPSEARCH_CACHE")
        os.environ["SEPSEARCH_CACHE"] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["SEPSEARCH_CACHE"]
            else:
                os.environ["SEPSEARCH_CACHE"] = before


def time_prepare(recordings: Recordings, front_end: FrontEnd) -> tuple[ShardSet, float, float]:
    """The shards, the seconds of all of it, and those of the transform."""
    reports: list[float] = []

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "transforming":
            reports.append(time.perf_counter())

    begin = time.perf_counter()
    shards = prepare_shards(recordings, front_end, progress)
    return shards, time.perf_counter() - begin, reports[-1] - reports[0]


def write_rows(recordings: Recordings, front_end: FrontEnd, constant: float, folder: Path) -> None:
    """The straightforward loop: a mixture, a transform and a row per subset."""
    import soundfile

    for piece in recordings.pieces:
        stems = [soundfile.read(stem.path, dtype="float32")[0] for stem in piece.stems]
        waveforms = np.zeros((len(stems), max(len(stem) for stem in stems)), np.float32)
        for player, stem in enumerate(stems):
            waveforms[player, : len(stem)] = stem
        rows = []
        for clip in range(count_clips(front_end, waveforms.shape[1])):
            segment = cut_clip(front_end, waveforms, clip)
            for subset in range(1, 2 ** len(stems)):
                players = [player for player in range(len(stems)) if subset >> player & 1]
                rows.append(spectrogram(front_end, segment[players].sum(axis=0), constant))
        np.save(folder / f"{piece.name}.npy", np.stack(rows))


def cut_clip(front_end: FrontEnd, waveforms: NDArray[np.float32], clip: int) -> NDArray[np.float32]:
    """The samples of a clip's 128 frames, each centred in its hop; silence beyond the ends."""
    start = clip * front_end.clip_samples - (front_end.window - front_end.hop) // 2
    stop = start + 127 * front_end.hop + front_end.window
    inside = waveforms[:, max(0, start) : stop]
    before = max(0, -start)
    return np.pad(inside, ((0, 0), (before, stop - start - before - inside.shape[1])))


def spectrogram(front_end: FrontEnd, mixture: NDArray[np.float32], constant: float) -> NDArray[np.float16]:
    """float16 (frame, bin) of one mixture."""
    import librosa

    bands = band_matrix(front_end).numpy()
    spectrum = librosa.stft(mixture, n_fft=front_end.window, hop_length=front_end.hop, window="hann", center=False)
    power = np.abs(spectrum[: len(bands)]) ** 2 / (0.375 * front_end.window)  # a Hann window's energy: 3/8 a sample
    return SCALE * np.log1p(constant * np.sqrt(power.T @ bands)).astype(np.float16)


def largest_difference(shards: ShardSet, recordings: Recordings, folder: Path) -> float:
    """Between the rows of the shards and those that the loop has saved."""
    largest = 0.0
    for piece, table in zip(recordings.pieces, shards.tables(), strict=True):
        ours, theirs = spectrograms(table), np.load(folder / f"{piece.name}.npy")
        largest = max(largest, float(np.abs(ours.astype(np.float32) - theirs.astype(np.float32)).max()))
    return largest
