"""Instruments out of recordings, as audio files of the recording's length, rate and channels.

    python -m sepsearch.separate mix.wav --instrument vn -o vn.wav
    python -m sepsearch.separate concert.flac encore.flac --instrument vn,vc -o voices --residual

The second writes voices/concert/vn.wav, vc.wav and residual.wav, and the same for encore. A recording
is written as a whole or not at all.
"""

import argparse
import difflib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sepsearch.audio import RATE, SILENCE
from sepsearch.command_line import ArgumentParser
from sepsearch.errors import UserError, exit_on_user_error, no_space
from sepsearch.files import is_there, require_space
from sepsearch.instruments import INSTRUMENTS, instrument_code
from sepsearch.names import caseless
from sepsearch.progress import Progress, one_torch_thread
from sepsearch.sound_files import FORMATS, Sound, SoundWriter, check_samples, open_sound, read_blocks, written_bytes
from sepsearch.terminal_text import write_line

if TYPE_CHECKING:
    from sepsearch.model_choice import Models

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


def main(argv: list[str] | None = None) -> None:
    """Pull instruments out of recordings."""
    arguments = _parse_arguments(argv)
    codes = _codes(arguments.instrument)
    kind = arguments.format or (arguments.output.suffix.lower().lstrip(".") if _is_file(arguments.output) else "wav")
    jobs = [
        Job(open_sound(path), target, _is_file(arguments.output)) for path, target in _targets(arguments, codes, kind)
    ]
    for job in jobs:
        if job.sound.frames * RATE < SHORTEST * job.sound.rate:
            raise UserError(
                f"{job.sound.path}: expected at least {SHORTEST / RATE:.3f} s of audio, found {job.sound.seconds:.3f} s"
            )

    from sepsearch.model_choice import choose_models

    models = choose_models(codes, arguments.model)
    if len(models) > 1 and _is_file(arguments.output):
        raise UserError(f"-o {arguments.output}: expected a folder for {len(models)} instruments, found a file's name")
    residual = arguments.residual or arguments.share
    needed = sum(written_bytes(job.sound, kind) for job in jobs) * (len(models) + residual)
    require_space(arguments.output, needed, "what is written", "free some space, or choose -o on another disk")
    # One thread is enough for a hundred times real time. Two wait for each other ten times as long as they compute
    # if anything else runs on the machine.
    with one_torch_thread():
        peaks = _check_all(jobs)
        for job, peak in zip(jobs, peaks, strict=True):
            for line in _separate(job, models, kind, residual, arguments.share, peak):
                write_line(line)


def _parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(prog="python -m sepsearch.separate", description=main.__doc__)
    add = parser.add_argument
    add("mixture", type=Path, nargs="+", help="WAV, FLAC, OGG or AIFF; any length and rate, mono or stereo")
    add("--instrument", required=True, help=f"all, or some of {', '.join(INSTRUMENTS)}, such as vn,vc")
    add("-o", "--output", type=Path, required=True,
        help="folder that gets a new one for every recording; or a new file .wav or .flac for one voice")  # fmt: skip
    add("--residual", action="store_true", help="write what is left, too: the recording less its voices")
    add("--share", action="store_true", help="share the sound out, so that no part of it is in two voices at full "
        "level; writes the residual, too")  # fmt: skip
    add("--model", help="a model's folder, a run's (runs/demo), an exported one, or a registered model such as "
        "models:/sepsearch-vn/3; the instruments' champions by default")  # fmt: skip
    add("--format", choices=sorted(FORMATS), help="wav: 32-bit floats, which hold any level (default); flac: 24 bits")
    return parser.parse_args(argv)


def _codes(text: str) -> list[str] | None:
    """The instruments that were asked for; None for all."""
    if caseless(text.strip()) == "all":
        return None
    codes = list(dict.fromkeys(instrument_code(code.strip()) for code in text.split(",") if code.strip()))
    for code in codes:
        if code not in INSTRUMENTS:
            close = difflib.get_close_matches(code, INSTRUMENTS, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise UserError(f"--instrument {code!r}: unknown{hint}, expected all or some of {', '.join(INSTRUMENTS)}")
    if not codes:
        raise UserError(f"--instrument: empty, expected all or some of {', '.join(INSTRUMENTS)}")
    return codes


def _is_file(output: Path) -> bool:
    return output.suffix.lower().lstrip(".") in FORMATS


def _targets(arguments: argparse.Namespace, codes: Sequence[str] | None, kind: str) -> list[tuple[Path, Path]]:
    """(recording, new folder or file) for all; raises `UserError` where names clash or something is there already."""
    output, mixtures = arguments.output, arguments.mixture
    if output.suffix.lower() in OTHER_AUDIO:
        raise UserError(f"-o {output}: expected a folder, or a name that ends in .wav or .flac")
    if _is_file(output):
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
    """Tells `progress` how many seconds of audio are done."""

    def __init__(self, progress: Progress, stage: str, seconds: float):
        self._progress, self._stage, self._total, self._done = progress, stage, max(1, round(seconds)), 0.0
        self(0)

    def __call__(self, seconds: float) -> None:
        self._done += seconds
        self._progress(self._stage, min(int(self._done), self._total - 1), self._total)

    def finish(self) -> None:
        self._progress(self._stage, self._total, self._total)


def _check_all(jobs: Sequence[Job]) -> list[float]:
    """Read all recordings from end to end; their peaks."""
    with Progress() as progress:
        tell = _Seconds(progress, "checked, seconds", sum(job.sound.seconds for job in jobs))
        peaks = [check_samples(job.sound, tell) for job in jobs]
        tell.finish()
    return peaks


def _separate(job: Job, models: "Models", kind: str, residual: bool, share: bool, peak: float) -> list[str]:
    """Write the voices of one recording; lines to be said about them."""
    from sepsearch.masking import Separator, separate_stream

    sound = job.sound
    separators = [Separator(network, card.front_end, card.constant, code) for code, (network, card) in models.items()]
    names = [*models, *([RESIDUAL] if residual else [])]
    paths = [job.target if job.is_file else job.target / f"{name}.{kind}" for name in names]
    with _new_target(job) as folder, ExitStack() as stack, Progress() as progress:
        tell = _Seconds(progress, f"{sound.path.name}, seconds", sound.seconds)
        writers = [stack.enter_context(SoundWriter(folder / path.name, sound, kind, path)) for path in paths]
        for mixture, voices in separate_stream(separators, sound.rate, read_blocks(sound), share):
            rest = mixture.copy()
            for voice, writer in zip(voices, writers, strict=False):
                rest -= writer.write(voice)
            if residual:
                writers[-1].write(rest)
            tell(mixture.shape[1] / sound.rate)
        stack.close()
        tell.finish()
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


if __name__ == "__main__":
    exit_on_user_error(main)
