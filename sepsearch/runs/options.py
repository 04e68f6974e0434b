"""Command line of `sepsearch.run`: options and their validation."""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sepsearch.data.instruments import parse_codes
from sepsearch.search.shipped_spaces import space_path
from sepsearch.utils.command_line import ArgumentParser, positive
from sepsearch.utils.errors import UserError

AUTO = "auto"  # as many trials on a GPU as its memory holds and as pay
DESCRIPTION = "Recordings and a search space in, the best network for every instrument out."


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; `argv` without the program's name."""
    parser = ArgumentParser(prog="python -m sepsearch.run", description=DESCRIPTION)
    add = parser.add_argument
    add("--space", type=space_path, help="space file, or one that comes with sepsearch: detector, laptop")
    add("--data", type=Path, help="folder of recordings (URMP's layout or piece/vn.wav); the demo ensemble by default")
    add("--name", help="name of the run and its folder; the space's name and the time by default")
    add("--runs", type=Path, default=Path("runs"), help="where run folders go on this machine (default: runs)")
    add("--storage", help="where all machines see the run: a shared folder, or a URI such as s3://bucket/runs")
    add("--instruments", type=_codes, help="codes such as vn,vc; all that play by default")
    add("--trials", type=positive, help="configurations to try; the space file's number by default")
    add("--max-epochs", type=positive, help="no network is trained longer; the space file's numbers by default")
    add("--time-budget", type=_seconds, help="for the trials, such as 90s, 10m or 2h; then the finalists are trained")
    add("--seed", type=_seed, help="of the split, the sampler and the networks (default: 0)")
    add("--workers", type=positive, help="trials at once; as many as fit by default (1: the same numbers every time)")
    add("--cpus-per-trial", type=_share, help="default: 1")
    add("--gpus-per-trial", type=_gpus, help="such as 0.25, or auto: measured; default: a quarter where there are GPUs")
    add("--address", help="a Ray cluster to use, such as auto or head:6379; this machine alone by default")
    add("--retries", type=_count, help="how often a trial is tried again after its worker died (default: 2)")
    add("--resume", metavar="NAME", help="go on with a run that was interrupted or killed, with the same options")
    add("--accept-changes", action="store_true", help="resume though space file, recordings or versions have changed")
    arguments = parser.parse_args(argv)
    if arguments.accept_changes and not arguments.resume:
        raise UserError("--accept-changes: expected with --resume: leave it out")
    return arguments


# How a run is carried out, not what comes out of it: a resumed run goes on with these unless others are given.
OPTIONS: dict[str, Any] = {
    "data": None,
    "time_budget": None,
    "workers": None,
    "cpus_per_trial": 1.0,
    "gpus_per_trial": None,
    "address": None,
    "retries": 2,
    "storage": None,
}


def run_options(arguments: argparse.Namespace, before: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run as plain values: those given, else those of `before`, else the defaults."""
    options = {}
    for name, default in OPTIONS.items():
        given = getattr(arguments, name)
        if name == "data" and given is not None:
            given = str(given.absolute())
        options[name] = given if given is not None else before.get(name, default)
    return options


def _codes(text: str) -> tuple[str, ...]:
    return parse_codes(text, "--instruments")


def _seed(text: str) -> int:
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text[:40]!r}, expected a whole number of at most nine digits")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number of at least 0")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number above 0")
    return value


def _gpus(text: str) -> float | str:
    if text == AUTO:
        return text
    try:
        return _share(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or auto") from error


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r}, expected a time such as 90s, 10m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
