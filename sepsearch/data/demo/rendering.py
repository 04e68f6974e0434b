"""The demo ensemble: public-domain music with sampled instruments, rendered in URMP's own layout.

See `docs/demo.md` for the pieces, their sources and terms.
"""

import hashlib
import io
import multiprocessing
import os
import shutil
import wave
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sepsearch.data.demo.arrangements import ARRANGEMENTS, SOUNDS, Arrangement, Player, arrangements_by_title
from sepsearch.data.demo.performance import Performance, perform, to_midi
from sepsearch.data.demo.scores import Score, read_score
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import cache_folder, new_folder

if TYPE_CHECKING:
    import numpy as np


RATE = 48_000
FULL_SCALE = 2**23  # 24-bit PCM
MIXTURE_PEAK_DB = -6.0
SCALED = 0.55  # one of URMP's reused stems is 0.55 times the other
RENDERED_BY = ("midirenderer", "pretty_midi", "mido", "numpy")


def demo_folder(cache: Path | None = None, progress: Callable[[int, int], None] | None = None) -> Path:
    """Folder of the demo ensemble in URMP's layout, rendered on first use and kept in `cache`.

    The bytes depend on the scores, these modules and the versions of the packages that render, all of which the
    folder's name carries as a fingerprint. `progress(done, total)` is called as pieces are finished. The default
    cache is `$SEPSEARCH_CACHE`, else `$XDG_CACHE_HOME/sepsearch`, else `~/.cache/sepsearch`.
    """
    folder = (cache or cache_folder()) / f"demo-{fingerprint()}"
    if not folder.is_dir():
        with new_folder(folder) as partial:
            _render_all(partial, progress)
    return folder


@cache
def fingerprint() -> str:
    """Twelve hexadecimal digits that change whenever the demo ensemble's bytes may change."""
    digest = hashlib.sha256()
    package = files("sepsearch.data.demo")
    modules = ("rendering.py", "arrangements.py", "performance.py", "scores.py")
    scores = sorted({f"{arrangement.score}.abc" for arrangement in ARRANGEMENTS})
    for source in [*(package / name for name in modules), *(package / name for name in scores)]:
        digest.update(source.read_bytes())
    for name in RENDERED_BY:
        try:
            digest.update(f"{name} {version(name)}".encode())
        except PackageNotFoundError:
            raise UserError(f"the demo ensemble needs the package {name}: pip install {name}") from None
    return digest.hexdigest()[:12]


def render_piece(arrangement: Arrangement, folder: Path, seconds: float | None = None) -> Path:
    """Render one piece into `folder` (its first `seconds` only, if given) and return the piece's folder."""
    return render_title([arrangement], folder, seconds)[0]


def render_title(arrangements: Sequence[Arrangement], folder: Path, seconds: float | None = None) -> list[Path]:
    """Render all pieces of one title, which share takes and one gain, and return their folders.

    The gain brings the loudest mixture's peak to -6 dBFS; every mixture is the plain sum of the written stems.
    """
    import numpy as np

    score = read_score(arrangements[0].score)
    takes: dict[tuple[str, int, int], tuple[Performance, np.ndarray]] = {}
    for player in (player for arrangement in arrangements for player in arrangement.players):
        if player.take not in takes:
            takes[player.take] = _render_take(score, player, seconds)
    mixtures = (sum(takes[player.take][1] for player in arrangement.players) for arrangement in arrangements)
    loudest = max(float(np.abs(mixture).max()) for mixture in mixtures)
    # rounded, so that the last bit of a sum never decides about bytes
    gain_db = round(MIXTURE_PEAK_DB - 20 * np.log10(loudest), 2)
    pieces = []
    for arrangement in arrangements:
        piece = folder / arrangement.folder_name
        piece.mkdir()
        name = f"{arrangement.number:02d}_{arrangement.title}"
        mixture = np.zeros(0, dtype=np.int32)
        for index, player in enumerate(arrangement.players, start=1):
            performance, take = takes[player.take]
            stem = _copy(_quantise(take, 10 ** (gain_db / 20)), player)
            mixture = stem if index == 1 else mixture + stem
            write_wav(piece / f"AuSep_{index}_{player.instrument}_{name}.wav", stem)
            notes = piece / f"Notes_{index}_{player.instrument}_{name}.txt"
            notes.write_text(_note_lines(performance, len(take) / RATE), encoding="ascii")
        write_wav(piece / f"AuMix_{arrangement.folder_name}.wav", mixture)
        pieces.append(piece)
    return pieces


def write_wav(path: Path, samples: "np.ndarray") -> None:
    """Write samples, shape (time,), 24-bit integers held as int32, as a mono 48 kHz 24-bit WAV file."""
    import numpy as np

    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes())


def _render_all(folder: Path, progress: Callable[[int, int], None] | None) -> None:
    """Render every title, one process a core: the renderer holds Python's lock, so threads gain nothing."""
    # the titles with most takes first, so that no process ends alone with a long one
    titles = sorted(arrangements_by_title().values(), key=_takes, reverse=True)
    waiting = {title[0].title: title for title in titles}

    def finish(name: str) -> None:
        del waiting[name]
        left = sum(len(title) for title in waiting.values())
        if progress is not None:
            progress(len(ARRANGEMENTS) - left, len(ARRANGEMENTS))

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(len(titles), os.cpu_count() or 1), mp_context=context) as pool:
        jobs = {pool.submit(render_title, title, folder): title[0].title for title in titles}
        try:
            for job in as_completed(jobs):
                job.result()
                finish(jobs[job])
        except BrokenProcessPool:
            pass  # processes cannot start here (a script without a __main__ guard, a killed worker)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    for name, title in list(waiting.items()):
        for arrangement in title:
            shutil.rmtree(folder / arrangement.folder_name, ignore_errors=True)
        render_title(title, folder)
        finish(name)


def _takes(arrangements: Sequence[Arrangement]) -> int:
    return len({player.take for arrangement in arrangements for player in arrangement.players})


@cache
def _soundfont() -> bytes:
    """The General MIDI soundfont that the package pretty_midi ships; the package itself is not imported."""
    spec = find_spec("pretty_midi")
    if spec is None or spec.origin is None:
        raise UserError("the demo ensemble needs the package pretty_midi: pip install pretty_midi")
    return (Path(spec.origin).parent / "TimGM6mb.sf2").read_bytes()


def _render_take(score: Score, player: Player, seconds: float | None) -> tuple[Performance, "np.ndarray"]:
    """One player's take: the performance, and its sound at the instrument's level, shape (time,), float64."""
    import midirenderer
    import numpy as np

    performance = perform(score, player)
    rendered = midirenderer.render_wave_from(_soundfont(), to_midi(performance, player))
    with wave.open(io.BytesIO(rendered)) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, file.getnchannels())
    mono = (pcm[:, 0].astype(np.float64) + pcm[:, 1]) / 2**16
    length = round(performance.end * RATE)
    mono = np.pad(mono, (0, max(0, length - len(mono))))[:length]
    sounding = sum(note.duration for note in performance.notes) * RATE
    loudness_db = 10 * np.log10(float(np.square(mono).sum()) / sounding)
    gain_db = round(SOUNDS[player.instrument].level_db - loudness_db, 2)
    wet = _room(mono, player) * 10 ** (gain_db / 20)
    return performance, wet if seconds is None else wet[: round(seconds * RATE)]


def _room(sound: "np.ndarray", player: Player) -> "np.ndarray":
    """Three early reflections that place the player in the room; shape (time,) in and out."""
    seat = hashlib.sha256(repr(player.take).encode()).digest()
    wet = sound.copy()
    for reflection, strength in enumerate((0.2, 0.14, 0.09)):
        delay = round((0.006 + 0.009 * reflection + seat[reflection] / 255 * 0.008) * RATE)
        wet[delay:] += strength * sound[:-delay]
    return wet


def _quantise(take: "np.ndarray", gain: float) -> "np.ndarray":
    import numpy as np

    return np.rint(take * (gain * FULL_SCALE)).astype(np.int32)


def _copy(stem: "np.ndarray", player: Player) -> "np.ndarray":
    """The stem as this piece has it: as it is, scaled, or off by at most one least significant bit."""
    import numpy as np

    if player.reuse == "scaled":
        return np.rint(stem * SCALED).astype(np.int32)
    if player.reuse == "rounded":
        return stem + (np.arange(len(stem)) % 3 - 1).astype(np.int32)
    return stem


def _note_lines(performance: Performance, seconds: float) -> str:
    """URMP's note list: onset in s, frequency in Hz, duration in s, one note a line."""
    return "".join(
        f"{note.onset:.3f}\t{performance.hertz(note.pitch):.3f}\t{note.duration:.3f}\n"
        for note in performance.notes
        if note.onset < seconds
    )
