"""Instruments out of recordings, as audio files of the recording's length, rate and channels.

    python -m sepsearch.separate concert.mp3
    python -m sepsearch.separate concerts '*.flac' --instrument violin,cello -o voices --residual --format flac
    python -m sepsearch.separate mix.wav --instrument violin -o violin.wav
    ffmpeg -i film.mp4 -f wav - | python -m sepsearch.separate - --instrument violin -o - | play -

The first writes separated/concert/violin.wav, cello.wav, … for the instruments that play in it. A recording is written
as a whole or not at all. Where it is known who plays, `--players` says so:

    python -m sepsearch.separate quartet.wav --instrument violin --players violin,viola,cello -o violin.wav
"""

from pathlib import Path

from sepsearch.audio.formats import FORMATS
from sepsearch.data.instruments import known_instruments
from sepsearch.pipeline.separate.files import PLAYS, separate_all
from sepsearch.pipeline.separate.inputs import OUTPUT
from sepsearch.utils.command_line import ArgumentParser
from sepsearch.utils.errors import exit_on_user_error

DESCRIPTION = "Pull instruments out of recordings."
EXAMPLES = (
    ("concert.mp3", "those that play, to separated/concert"),
    ("concerts '*.flac' --instrument violin,cello -o voices --residual", "two of many recordings, and the rest"),
    ("quartet.wav --instrument violin --players violin,viola,cello -o violin.wav", "it is known who plays"),
    ("mix.wav --instrument violin --model runs/urmp -o violin.wav", "the model of a run"),
)


def main(argv: list[str] | None = None) -> None:
    """Pull instruments out of recordings."""
    separate_all(make_parser().parse_args(argv))


def make_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser("separate", DESCRIPTION, EXAMPLES)
    add = parser.add_argument
    mixture = (
        "audio files (whatever libsndfile reads: WAV, FLAC, MP3, OGG, AIFF, …) of any length and rate, mono or stereo;"
        " folders of them; patterns such as 'live/**/*.wav'; or - for a WAV file on standard input"
    )
    add("mixture", nargs="+", help=mixture)
    least = f"{PLAYS:.0%}".replace("%", "%%")
    instrument = (
        f"all, or some of {known_instruments()}, by code or name, such as vn,cello (default: those that play, by their"
        f" voices: at least {least} of the recording's energy)"
    )
    add("--instrument", help=instrument)
    target = (
        "folder that gets a new one for every recording; or a new file .wav, .flac or .mp3 for one instrument; or - for"
        f" one on standard output (default: {OUTPUT})"
    )
    add("-o", "--output", type=Path, default=Path(OUTPUT), help=target)
    add("--overwrite", action="store_true", help="replace files of the same name; others stay")
    add = parser.add_argument_group("what is written").add_argument
    add("--residual", action="store_true", help="write the recording less its separated instruments, too")
    share = (
        "others may play, too: where the written voices would add up to more than the recording, divide the sound"
        " among them; writes the residual, too"
    )
    add("--share", action="store_true", help=share)
    add = parser.add_argument_group("models").add_argument
    named = (
        "only these play, such as vn,va,cello: run all of their models and divide all of the sound among them, so that"
        " they add up to the recording; closer where it is true, wrong where others play; not with --share"
        " (default: others may play, too)"
    )
    add("--players", help=named)
    model = (
        "a model's folder, a run's (runs/demo), an exported one, or a registered model such as models:/sepsearch-vn/3"
    )
    add("--model", help=f"{model} (default: the instruments' champions)")
    add = parser.add_argument_group("files").add_argument
    kinds = (
        "wav: 32-bit floats, which hold any level; flac: 24 bits; mp3: about 250 kbit/s for two channels"
        " (default: as -o is named, or else wav)"
    )
    add("--format", choices=list(FORMATS), help=kinds)
    parser.add_general()
    return parser


if __name__ == "__main__":
    exit_on_user_error(main)
