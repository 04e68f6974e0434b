"""Instruments out of recordings, as audio files of the recording's length, rate and channels.

    python -m sepsearch.separate mix.wav --instrument vn -o vn.wav
    python -m sepsearch.separate concert.flac encore.flac --instrument vn,vc -o voices --residual

The second writes voices/concert/vn.wav, vc.wav and residual.wav, and the same for encore. A recording
is written as a whole or not at all.
"""

import argparse
from pathlib import Path

from sepsearch.audio.reading import RATE
from sepsearch.audio.streams import FORMATS, open_sound, written_bytes
from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.pipeline.separate_files import SHORTEST, Job, check_all, codes_of, is_file, separate_job, targets_of
from sepsearch.utils.command_line import ArgumentParser
from sepsearch.utils.errors import UserError, exit_on_user_error
from sepsearch.utils.files import require_space
from sepsearch.utils.progress import one_torch_thread
from sepsearch.utils.terminal_text import write_line


def main(argv: list[str] | None = None) -> None:
    """Pull instruments out of recordings."""
    arguments = _parse_arguments(argv)
    codes = codes_of(arguments.instrument)
    kind = arguments.format or (arguments.output.suffix.lower().lstrip(".") if is_file(arguments.output) else "wav")
    jobs = [
        Job(open_sound(path), target, is_file(arguments.output)) for path, target in targets_of(arguments, codes, kind)
    ]
    for job in jobs:
        if job.sound.frames * RATE < SHORTEST * job.sound.rate:
            raise UserError(
                f"{job.sound.path}: expected at least {SHORTEST / RATE:.3f} s of audio, found {job.sound.seconds:.3f} s"
            )

    from sepsearch.tracking.resolve import choose_models

    models = choose_models(codes, arguments.model)
    if len(models) > 1 and is_file(arguments.output):
        raise UserError(f"-o {arguments.output}: expected a folder for {len(models)} instruments, found a file's name")
    residual = arguments.residual or arguments.share
    needed = sum(written_bytes(job.sound, kind) for job in jobs) * (len(models) + residual)
    require_space(arguments.output, needed, "what is written", "free some space, or choose -o on another disk")
    # One thread separates at a hundred times real time; two are slower where other processes use the machine.
    with one_torch_thread():
        peaks = check_all(jobs)
        for job, peak in zip(jobs, peaks, strict=True):
            for line in separate_job(job, models, kind, residual, arguments.share, peak):
                write_line(line)


def _parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(prog="python -m sepsearch.separate", description=main.__doc__)
    add = parser.add_argument
    add("mixture", type=Path, nargs="+", help="WAV, FLAC, OGG or AIFF; any length and rate, mono or stereo")
    add("--instrument", required=True, help=f"all, or some of {', '.join(INSTRUMENTS)}, such as vn,vc")
    target = "folder that gets a new one for every recording; or a new file .wav or .flac for one instrument"
    add("-o", "--output", type=Path, required=True, help=target)
    add("--residual", action="store_true", help="write the recording less its separated instruments, too")
    share = "divide the sound, so that no part of it is in two outputs at full level; writes the residual, too"
    add("--share", action="store_true", help=share)
    model = (
        "a model's folder, a run's (runs/demo), an exported one, or a registered model such as models:/sepsearch-vn/3"
    )
    add("--model", help=f"{model}; the instruments' champions by default")
    add("--format", choices=sorted(FORMATS), help="wav: 32-bit floats, which hold any level (default); flac: 24 bits")
    return parser.parse_args(argv)


if __name__ == "__main__":
    exit_on_user_error(main)
