"""Check a folder of recordings and build its shards, without searching: python -m sepsearch.prepare DIR."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from sepsearch.spaces.shipped import space_path
from sepsearch.utils.command_line import ArgumentParser
from sepsearch.utils.errors import UserError, exit_on_user_error
from sepsearch.utils.output import OUTPUT, write_json

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_SPACE = "detector"
DEFAULT_PRESET = "mel"
DESCRIPTION = "Check a folder of multi-track recordings and build its shards, without searching."
EXAMPLES = (
    ("URMP", "roster, notes and shards of a folder"),
    ("URMP --space search_spaces/laptop.yaml", "with the front end of a space file"),
    ("URMP --quiet --json", "the same facts for a program"),
)


def make_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser("prepare", DESCRIPTION, EXAMPLES)
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of pieces: URMP's layout, or stems by name")
    group = parser.add_argument_group("front end").add_mutually_exclusive_group()
    space = "space file that has it, or a space that comes with sepsearch (default: none)"
    group.add_argument("--space", metavar="FILE", type=space_path, help=space)
    group.add_argument("--preset", metavar="NAME", help=f"front end by name (default: {DEFAULT_PRESET})")
    add = parser.add_argument_group("storage").add_argument
    add("--storage", metavar="WHERE", help="upload the shards, too: a shared folder or a URI (default: none)")
    parser.add_general(json="print recordings, notes and shards")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Check recordings, build shards, and print what there is. Raises `UserError` for a mistake of the user."""
    options = make_parser().parse_args(argv)
    # Below is torch, which a mistake on the command line need not wait for.
    from sepsearch.audio.spectrogram import PRESETS
    from sepsearch.data.preparation import prepare
    from sepsearch.reporting import recordings_report as report
    from sepsearch.spaces.space import load_space
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
    # The shards may have been built from another folder with the same recordings.
    manifest = {**shards.manifest, "source": str(recordings.folder), "notes": list(recordings.notes)}
    if OUTPUT.json:
        write_json(report.recordings_facts(manifest, shards))
        return
    console = report.roster_console()
    report.print_roster(console, manifest)
    report.print_shards(console, shards)
    if not OUTPUT.quiet:
        _print_next(console, options)


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
