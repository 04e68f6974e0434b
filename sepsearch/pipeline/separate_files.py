"""Separate recordings and write the voices as audio files, each recording as a whole or not at all."""

import argparse
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sepsearch.audio.reading import SILENCE
from sepsearch.audio.streams import FORMATS, Sound, SoundWriter, check_samples, read_blocks
from sepsearch.data.instruments import INSTRUMENTS, parse_codes
from sepsearch.data.text_identity import caseless
from sepsearch.utils.errors import UserError, no_space
from sepsearch.utils.files import is_there
from sepsearch.utils.progress import Progress

if TYPE_CHECKING:
    from sepsearch.tracking.resolve import Models


RESIDUAL = "residual"
SHORTEST = 4096  # samples at 48 kHz: one window of the transform
# Suffixes of files that are not written: a folder of such a name was hardly meant.
OTHER_AUDIO = {".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".m4a", ".aac", ".wma"}


@dataclass(frozen=True)
class Job:
    """One recording and what becomes of it: `target` is a new folder, or a new file if there is but one voice."""

    sound: Sound
    target: Path
    is_file: bool


def codes_of(text: str) -> list[str] | None:
    """The instruments that were asked for; None for all."""
    if caseless(text.strip()) == "all":
        return None
    return list(parse_codes(text, "--instrument", "all or some"))


def is_file(output: Path) -> bool:
    return output.suffix.lower().lstrip(".") in FORMATS


def targets_of(arguments: argparse.Namespace, codes: Sequence[str] | None, kind: str) -> list[tuple[Path, Path]]:
    """(recording, new folder or file) for all; raises `UserError` where names clash or something is there already."""
    output, mixtures = arguments.output, arguments.mixture
    if output.suffix.lower() in OTHER_AUDIO:
        raise UserError(f"-o {output}: expected a folder, or a name that ends in .wav or .flac")
    if is_file(output):
        several = len(mixtures) > 1 or len(codes or ()) > 1 or arguments.residual or arguments.share
        if several:
            raise UserError(f"-o {output}: expected a folder for several files, found the name of one")
        if kind != output.suffix.lower().lstrip("."):
            raise UserError(f"-o {output}: expected a name that ends in .{kind}, since --format is {kind}")
        targets = [(mixtures[0], output)]
    else:
        if is_there(output) and not output.is_dir():
            raise UserError(f"-o {output}: expected a folder, or a name that ends in .wav or .flac, found a file")
        targets = [(mixture, output / mixture.stem) for mixture in mixtures]
    if twice := [path for path, count in Counter(map(_resolve, mixtures)).items() if count > 1]:
        raise UserError(f"{twice[0]}: given twice, expected every recording once")
    names = Counter(caseless(target.name) for _, target in targets)
    for mixture, target in targets:
        if target.name in ("", ".", "..") or mixture.stem in ("", ".", ".."):
            raise UserError(f"{mixture}: its name gives no name for a folder: rename it")
        if names[caseless(target.name)] > 1:
            raise UserError(f"{mixture}: another recording would be written to {target}, too: rename one of them")
        if is_there(target):
            raise UserError(f"{target}: exists already, expected a new name: move it away, or choose another -o")
    return targets


def _resolve(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # loops of links, names that no file can have
        raise UserError(f"{path}: cannot be looked for: {error}: choose another name") from error


class _Seconds:
    """Reports the seconds of audio done to `progress`."""

    def __init__(self, progress: Progress, stage: str, seconds: float):
        self._progress, self._stage, self._total, self._done = progress, stage, max(1, round(seconds)), 0.0
        self(0)

    def __call__(self, seconds: float) -> None:
        self._done += seconds
        self._progress(self._stage, min(int(self._done), self._total - 1), self._total)

    def finish(self) -> None:
        self._progress(self._stage, self._total, self._total)


def check_all(jobs: Sequence[Job]) -> list[float]:
    """Read all recordings from end to end; their peaks."""
    with Progress() as progress:
        count = _Seconds(progress, "checked, seconds", sum(job.sound.seconds for job in jobs))
        peaks = [check_samples(job.sound, count) for job in jobs]
        count.finish()
    return peaks


def separate_job(job: Job, models: "Models", kind: str, residual: bool, share: bool, peak: float) -> list[str]:
    """Write the estimates of one recording; gives lines to print about them."""
    from sepsearch.audio.separation import Separator, separate_stream

    sound = job.sound
    separators = [Separator(network, card.front_end, card.constant, code) for code, (network, card) in models.items()]
    names = [*models, *([RESIDUAL] if residual else [])]
    paths = [job.target if job.is_file else job.target / f"{name}.{kind}" for name in names]
    with _new_target(job) as folder, ExitStack() as stack, Progress() as progress:
        count = _Seconds(progress, f"{sound.path.name}, seconds", sound.seconds)
        writers = [stack.enter_context(SoundWriter(folder / path.name, sound, kind, path)) for path in paths]
        for mixture, voices in separate_stream(separators, sound.rate, read_blocks(sound), share):
            rest = mixture.copy()
            for voice, writer in zip(voices, writers, strict=False):
                rest -= writer.write(voice)
            if residual:
                writers[-1].write(rest)
            count(mixture.shape[1] / sound.rate)
        stack.close()
        count.finish()
    lines = [f"{sound.path}: {note}" for note in sound.notes]
    lines += [f"{sound.path}: silent (its peak is below -90 dBFS), and so are its voices"] if peak < SILENCE else []
    for name, path, writer in zip(names, paths, writers, strict=True):
        what = INSTRUMENTS.get(name, "what is left")
        lines.append(f"{path}: {what}, {sound.seconds:.1f} s, {sound.rate} Hz, {sound.channels} channel(s)")
        if writer.limited:
            lines.append(f"{path}: {writer.limited} samples above full scale were cut to it: --format wav holds them")
        elif writer.peak > max(1, peak):
            lines.append(f"{path}: its peak is {writer.peak:.2f} times full scale, kept as floats: turn it down in use")
    return lines


@contextmanager
def _new_target(job: Job) -> Iterator[Path]:
    """A temporary folder beside the target, which becomes the target, or whose one file does; else it is removed."""
    target = job.target
    made: list[Path] = []
    temporary = None
    try:
        made = [path for path in (target.parent, *target.parent.parents) if not path.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        temporary.chmod(0o755)
        yield temporary
        if is_there(target):
            raise UserError(f"{target}: exists already, made meanwhile by another program: choose another -o")
        os.rename(temporary / target.name if job.is_file else temporary, target)
        made = []
    except OSError as error:
        raise no_space(error, target) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        for path in made:
            with suppress(OSError):
                path.rmdir()
