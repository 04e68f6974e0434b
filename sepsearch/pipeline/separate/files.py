"""Separate recordings and write the voices as audio files, each recording as a whole or not at all."""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sepsearch.audio.formats import require_writable
from sepsearch.audio.reading import RATE, SILENCE
from sepsearch.audio.streams import Sound, SoundWriter, check_samples, open_sound, read_blocks, written_bytes
from sepsearch.data.instruments import INSTRUMENTS, file_name
from sepsearch.pipeline.separate.inputs import (
    PIPE,
    RESIDUAL,
    codes_of,
    find_recordings,
    is_file,
    kind_of,
    players_of,
    require_one_file,
    targets_of,
)
from sepsearch.pipeline.separate.outputs import Job, new_target
from sepsearch.pipeline.separate.pipes import Pipes, open_pipes
from sepsearch.utils.errors import UserError, each_of
from sepsearch.utils.files import require_space
from sepsearch.utils.progress import Progress, one_torch_thread

if TYPE_CHECKING:
    from sepsearch.audio.separation import Separator
    from sepsearch.tracking.resolve import Models

SHORTEST = 4096  # samples at 48 kHz: one window of the transform
# Share of a recording's energy from which on a voice is taken to play. In the demo ensemble every player's has 0.11 or
# more, but so have most voices of absent instruments (docs/decisions.md): the rule leaves out little.
PLAYS = 0.05


@dataclass(frozen=True)
class Voices:
    """What is written of every recording, and how.

    Attributes:
        models: of the instruments, by code.
        written: those of them that are written; the others' masks are divided by alone. None: those that play.
        kind: of `sepsearch.audio.formats.FORMATS`.
        residual: write the recording less its written voices, too.
        least: see `separate_stream`.
    """

    models: "Models"
    written: Sequence[str] | None
    kind: str
    residual: bool
    least: float | None

    def separators(self) -> "list[Separator]":
        """Networks as `separate_stream` takes them; if nothing else is said, all of them are written."""
        from sepsearch.audio.separation import Separator

        return [
            Separator(network, card.front_end, card.constant, code, self.written is None or code in self.written)
            for code, (network, card) in self.models.items()
        ]


def separate_all(arguments: argparse.Namespace) -> None:
    """Separate what the command line of `sepsearch.separate` says; prints a line for every file.

    Raises:
        UserError: a mistake in the arguments, a recording or model that cannot be read, or a target that cannot be
            written.
    """
    codes = codes_of(arguments.instrument) if arguments.instrument else None
    players = players_of(arguments, codes)
    to_pipe = str(arguments.output) == PIPE
    with open_pipes(PIPE in arguments.mixture, kind_of(arguments) if to_pipe else "") as pipes:
        mixtures = _recordings(arguments.mixture, pipes)
        if pipes.target:
            require_one_file(arguments, mixtures, codes or players)
            arguments.output = pipes.target
        targets = targets_of(arguments, mixtures, codes or players)
        one = is_file(arguments.output)
        sounds = each_of([path for path, _ in targets], open_sound)
        places = zip(sounds, targets, strict=True)
        jobs = [Job(sound, target, one, arguments.overwrite) for sound, (_, target) in places]
        plan = _plan(arguments, codes, players, pipes)
        _check_jobs(jobs, plan, arguments.output)
        # One thread separates at a hundred times real time; two are slower where other processes use the machine.
        with one_torch_thread():
            peaks = check_all(jobs)
            for job, peak in zip(jobs, peaks, strict=True):
                for line in separate_job(job, plan, peak):
                    pipes.say(line)
        pipes.send()


def _recordings(given: Sequence[str], pipes: Pipes) -> list[Path]:
    """The recordings that were given, by file; that of standard input stands where the - was."""
    if given.count(PIPE) > 1:
        raise UserError("-: given twice, expected standard input once")
    found: list[Path] = []
    for text in given:
        found += [pipes.source] if text == PIPE and pipes.source else find_recordings([text])
    return found


def _plan(
    arguments: argparse.Namespace, codes: Sequence[str] | None, players: Sequence[str] | None, pipes: Pipes
) -> Voices:
    """Load the models, and settle which voices are written."""
    from sepsearch.audio.stft import NAMED, SHARED
    from sepsearch.models.saved_model import is_provisional
    from sepsearch.tracking.resolve import choose_models

    models = choose_models(players or codes, arguments.model)
    if provisional := [code for code, (_, card) in models.items() if is_provisional(card)]:
        pipes.note(f"note: provisional models of {', '.join(provisional)}: the search has chosen no final ones yet")
    asked = codes or players or (list(models) if arguments.instrument or len(models) == 1 else None)
    if len(asked or models) > 1 and is_file(arguments.output):
        raise UserError(
            f"-o {arguments.output}: expected a folder for {len(asked or models)} instruments, found a file's name: "
            "name one with --instrument"
        )
    if asked is None:
        pipes.note("note: voices of instruments that do not play may be among those written: --players names who plays")
    least = NAMED if players else SHARED if arguments.share else None
    return Voices(models, asked, kind_of(arguments), arguments.residual or arguments.share, least)


def _check_jobs(jobs: Sequence[Job], plan: Voices, output: Path) -> None:
    """Raise `UserError` for a recording that is too short, or does not fit in the format or on the disk.

    Where it is not known yet who plays, there must be room for one voice of each at least.
    """
    each_of(jobs, lambda job: require_length(job.sound))
    each_of(jobs, lambda job: require_writable(plan.kind, job.sound.path, job.sound.rate, job.sound.channels))
    count = (1 if plan.written is None else len(plan.written)) + plan.residual
    _require_space(output, sum(written_bytes(job.sound, plan.kind) for job in jobs) * count)


def _require_space(output: Path, needed: int) -> None:
    folder = output.parent if output.is_file() else output  # a file is there where it is to be replaced
    require_space(folder, needed, "what is written", "free some space, or choose -o on another disk")


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


def require_length(sound: Sound) -> None:
    """Raise `UserError` for a recording that is shorter than a window of the transform."""
    if sound.frames * RATE < SHORTEST * sound.rate:
        raise UserError(
            f"{sound.path}: expected at least {SHORTEST / RATE:.3f} s of audio, found {sound.seconds:.3f} s"
        )


def check_all(jobs: Sequence[Job]) -> list[float]:
    """Read all recordings from end to end; their peaks. Raises `UserErrors` with every recording that is no good."""
    with Progress() as progress:
        count = _Seconds(progress, "checked, seconds", sum(job.sound.seconds for job in jobs))
        peaks = each_of(jobs, lambda job: check_samples(job.sound, count))
        count.finish()
    return peaks


def separate_job(job: Job, plan: Voices, peak: float) -> list[str]:
    """Write the estimates of one recording; gives lines to print about them."""
    sound = job.sound
    lines = [f"{sound.path}: {note}" for note in sound.notes]
    lines += [f"{sound.path}: silent (its peak is below -90 dBFS), and so are its voices"] if peak < SILENCE else []
    if plan.written is None:
        plan, said = _only_playing(job, plan)
        lines += said
        if not plan.written:
            return lines
    assert plan.written is not None
    codes = [code for code in plan.models if code in plan.written]
    names = [*map(file_name, codes), *([RESIDUAL] if plan.residual else [])]
    paths = [job.target if job.is_file else job.target / f"{name}.{plan.kind}" for name in names]
    writers = _write(job, plan, paths)
    for code, path, writer in zip([*codes, RESIDUAL], paths, writers, strict=False):
        what = INSTRUMENTS.get(code, "what is left")
        lines.append(f"{path}: {what}, {sound.seconds:.1f} s, {sound.rate} Hz, {sound.channels} channel(s)")
        if writer.limited:
            lines.append(f"{path}: {writer.limited} samples above full scale were cut to it: --format wav holds them")
        elif writer.peak > max(1, peak):
            lines.append(f"{path}: its peak is {writer.peak:.2f} times full scale, kept as floats: turn it down in use")
    return lines


def _write(job: Job, plan: Voices, paths: Sequence[Path]) -> list[SoundWriter]:
    """Write the voices of one recording, and the residual if it is wanted, to these paths below or at its target."""
    from sepsearch.audio.separation import separate_stream

    sound = job.sound
    with new_target(job) as folder, ExitStack() as stack, Progress() as progress:
        count = _Seconds(progress, f"{sound.path.name}, seconds", sound.seconds)
        writers = [stack.enter_context(SoundWriter(folder / path.name, sound, plan.kind, path)) for path in paths]
        for mixture, voices in separate_stream(plan.separators(), sound.rate, read_blocks(sound), plan.least):
            rest = mixture.copy()
            for voice, writer in zip(voices, writers, strict=False):
                rest -= writer.write(voice)
            if plan.residual:
                writers[-1].write(rest)
            count(mixture.shape[1] / sound.rate)
        stack.close()
        count.finish()
    return writers


def _only_playing(job: Job, plan: Voices) -> tuple[Voices, list[str]]:
    """The plan for the instruments that play in a recording alone, and lines on those that do not."""
    shares = _energy_shares(job.sound, plan)
    playing = [code for code, share in shares.items() if share >= PLAYS]
    lines = []
    if out := [code for code in shares if code not in playing]:
        values = ", ".join(f"{INSTRUMENTS[code]} {shares[code]:.1%}" for code in out)
        what = "left out" if playing else "nothing written, as no instrument plays"
        lines = [f"{job.sound.path}: {what} (below {PLAYS:.0%} of its energy): {values}; --instrument writes them"]
    models = {code: plan.models[code] for code in playing}
    files = len(playing) + plan.residual
    _require_space(job.target, files * written_bytes(job.sound, plan.kind))
    return replace(plan, models=models, written=playing), lines


def _energy_shares(sound: Sound, plan: Voices) -> Mapping[str, float]:
    """The energy of every model's voice / that of the recording, by code; 0 for a silent one."""
    from sepsearch.audio.separation import separate_stream

    whole, parts = 0.0, np.zeros(len(plan.models))
    with Progress() as progress:
        count = _Seconds(progress, f"{sound.path.name}, who plays, seconds", sound.seconds)
        for mixture, voices in separate_stream(plan.separators(), sound.rate, read_blocks(sound), plan.least):
            whole += float(np.square(mixture, dtype=np.float64).sum())
            parts += np.square(voices, dtype=np.float64).sum(axis=(1, 2))
            count(mixture.shape[1] / sound.rate)
        count.finish()
    return dict(zip(plan.models, parts / whole if whole else parts, strict=True))
