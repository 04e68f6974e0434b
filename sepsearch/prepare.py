"""Check a folder of recordings and build its shards, without searching: python -m sepsearch.prepare DIR."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from sepsearch.search.shipped_spaces import space_path
from sepsearch.utils.command_line import ArgumentParser
from sepsearch.utils.errors import UserError, exit_on_user_error

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_SPACE = "detector"
DEFAULT_PRESET = "mel"


def main(argv: list[str] | None = None) -> None:
    """The command line; raises `UserError` for a mistake of the user."""
    options = _parse(argv)
    # Below is torch, which a mistake on the command line need not wait for.
    from sepsearch.audio.spectrogram import PRESETS
    from sepsearch.data.preparation import prepare
    from sepsearch.reporting.recordings_report import print_roster, print_shards, roster_console
    from sepsearch.search.space import load_space
    from sepsearch.utils.progress import Progress
    from sepsearch.utils.storage import open_storage

    if (options.preset or DEFAULT_PRESET) not in PRESETS:
        raise UserError(f"--preset {options.preset!r}: unknown, expected one of {', '.join(sorted(PRESETS))}")
    front_end = PRESETS[options.preset or DEFAULT_PRESET]
    if options.space:
        front_end = load_space(options.space).front_end.resolve()
    with Progress() as progress:
        storage = open_storage(options.storage) if options.storage else None
        recordings, shards = prepare(options.folder, front_end, progress, storage)
    console = roster_console()
    # The shards may have been built from another folder with the same recordings.
    print_roster(console, {**shards.manifest, "source": str(recordings.folder), "notes": list(recordings.notes)})
    print_shards(console, shards)
    _print_next(console, options)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="python -m sepsearch.prepare",
        description="Check a folder of multi-track recordings and build its shards, without searching.",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of pieces: URMP's layout, or stems by name")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--space", metavar="FILE", type=space_path, help="take the front end from this space file")
    group.add_argument("--preset", metavar="NAME", help=f"front end (default: {DEFAULT_PRESET})")
    parser.add_argument("--storage", metavar="WHERE", help="upload the shards, too: a shared folder or a URI")
    return parser.parse_args(argv)


def _print_next(console: "Console", options: argparse.Namespace) -> None:
    from sepsearch.reporting.recordings_report import heading, line

    space = options.space or DEFAULT_SPACE
    heading(console, "Next")
    line(
        console, f"python -m sepsearch.run --space {shlex.quote(str(space))} --data {shlex.quote(str(options.folder))}"
    )
    if options.preset not in (None, DEFAULT_PRESET):
        line(console, f"with 'front_end: {{preset: {options.preset}}}' in the space file, so that it uses these shards")


if __name__ == "__main__":
    exit_on_user_error(main)
