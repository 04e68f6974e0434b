"""Options of a run (`RunOptions`), and the command line of `sepsearch.run` that they are read from."""

import argparse
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.data.instruments import parse_codes
from sepsearch.spaces.shipped import space_path
from sepsearch.utils.command_line import ArgumentParser, add_runs, positive
from sepsearch.utils.errors import UserError

if TYPE_CHECKING:
    from sepsearch.spaces.space import Space

Add = Callable[..., argparse.Action]  # a group's `add_argument`
AUTO = "auto"  # as many trials on a GPU as its memory holds and as pay
DESCRIPTION = "Recordings and a search space in, the best network for every instrument out."
USAGE = ("--space FILE [options]", "--resume NAME [options]", "--continue NAME --trials N [options]")
EXAMPLES = (
    ("--space laptop", "all of it on the demo ensemble, in minutes"),
    ("--space detector --data URMP --name urmp --trials 200 --time-budget 8h", "own recordings, with a budget"),
    (
        "--space detector --data URMP --address auto --storage s3://bucket/runs --gpus-per-trial 0.25",
        "on a Ray cluster, four trials on a GPU",
    ),
    ("--resume urmp", "go on after an interruption"),
    ("--continue urmp --trials 300", "100 trials more, and the finalists chosen anew"),
    ("--space wider.yaml --data URMP --warm-start urmp", "a new search that begins with what is known"),
    ("--space detector --data URMP --on-event 'end,failed:mail-me'", "run a command of yours when it ends or fails"),
    ("--space laptop --quiet --json > results.json", "in a script: the content of results.json alone"),
)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of `sepsearch run`, one field for each.

    None means not given: a resumed run goes on with its own value, a new one takes the space file's or the default.

    Attributes:
        space: the space file, or a checked space (then the run's `space.yaml` is written from it). A new run needs it.
        data: folder of recordings; the demo ensemble without one.
        instruments: their codes, such as ("vn", "vc"); all that play without them.
        seed: of the split, the sampler and the networks; 0 without one.
        trials: configurations to try.
        max_epochs: no network is trained for more epochs.
        time_budget: seconds for the trials; the finalists are trained after it.
        address: of a Ray cluster, such as "auto" or "head:6379"; this machine alone without one.
        workers: trials at once; as many as fit without it.
        cpus_per_trial: number of CPUs of a trial, which may be a fraction; 1 without it.
        gpus_per_trial: number of GPUs of a trial, which may be a fraction, or "auto": measured.
        retries: how often a trial is tried again after its worker died; 2 without it.
        name: of a new run and its folder; the space's name and the time without one.
        runs: folder of run folders.
        storage: where all machines see the run: a shared folder or a URI; `runs` without it.
        resume: name of the run to go on with, None for a new one.
        warm_start: earlier runs whose completed trials a new run's sampler begins with: names in `runs`, paths or URIs.
        continued: name of a finished run to extend to `trials`.
        accept_changes: resume although space, recordings or versions have changed.
        on_event: commands and webhooks that are told of events, as `monitoring.notifications` reads them. The journal
            does not keep them: what a resumed run starts on this machine is never chosen by a file.
    """

    space: "Path | Space | None" = None
    data: Path | None = None
    instruments: tuple[str, ...] | None = None
    seed: int | None = None
    trials: int | None = None
    max_epochs: int | None = None
    time_budget: float | None = None
    address: str | None = None
    workers: int | None = None
    cpus_per_trial: float | None = None
    gpus_per_trial: float | str | None = None
    retries: int | None = None
    name: str | None = None
    runs: Path = Path("runs")
    storage: str | None = None
    resume: str | None = None
    warm_start: tuple[str, ...] | None = None
    continued: str | None = None
    accept_changes: bool = False
    on_event: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.accept_changes and not (self.resume or self.continued):
            raise UserError("--accept-changes: expected with --resume or --continue: leave it out")
        if self.resume and self.continued:
            raise UserError("--resume and --continue: --continue extends a finished run: leave one of them out")
        if self.warm_start and (self.resume or self.continued):
            raise UserError("--warm-start: expected with a new run: leave it out")
        if self.continued and self.trials is None:
            raise UserError("--continue: --trials is missing, expected how many in all, such as --trials 200")


def parse_arguments(argv: list[str] | None = None) -> RunOptions:
    """The options of a command line; `argv` without the program's name."""
    arguments = make_parser().parse_args(argv)
    return RunOptions(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(RunOptions)})


def make_parser() -> ArgumentParser:
    """The options in groups; those that are None unless given take a resumed run's own value, or the space file's."""
    parser = ArgumentParser("run", DESCRIPTION, EXAMPLES, USAGE)
    _add_search(parser.add_argument_group("what to search").add_argument)
    _add_budget(parser.add_argument_group("budget").add_argument)
    _add_machines(parser.add_argument_group("machines").add_argument)
    _add_storage(parser.add_argument_group("names and storage").add_argument)
    _add_notifications(parser.add_argument_group("notifications").add_argument)
    parser.add_argument_group("tracking", "MLflow is where MLFLOW_TRACKING_URI says (default: mlflow.db here).")
    parser.add_general(json="print the content of results.json, once the run has ended,")
    return parser


def _add_search(add: Add) -> None:
    space = "space file, or one that comes with sepsearch: detector, laptop (default: none; a resumed run has its own)"
    add("--space", metavar="FILE", type=space_path, help=space)
    data = "folder of recordings, URMP's layout or piece/vn.wav (default: the demo ensemble)"
    add("--data", metavar="DIR", type=Path, help=data)
    add("--instruments", metavar="CODES", type=_codes, help="instruments, such as vn,vc (default: all that play)")
    known = "runs whose completed trials the sampler begins with: names in --runs, paths or URIs (default: none)"
    add("--warm-start", metavar="RUN[,RUN…]", type=_places, help=known)
    add("--seed", metavar="N", type=_seed, help="seed of the split, the sampler and the networks (default: 0)")


def _add_budget(add: Add) -> None:
    add("--trials", metavar="N", type=positive, help="configurations to try (default: the space file's)")
    add("--max-epochs", metavar="N", type=positive, help="no network is trained longer (default: the space file's)")
    budget = "for the trials, such as 90s, 10m or 2h; then the finalists are trained (default: no limit)"
    add("--time-budget", metavar="TIME", type=_seconds, help=budget)


def _add_machines(add: Add) -> None:
    address = "a Ray cluster to use, such as auto or head:6379 (default: this machine alone)"
    add("--address", metavar="WHERE", help=address)
    workers = "trials at once; with 1 the same numbers every time (default: as many as fit)"
    add("--workers", metavar="N", type=positive, help=workers)
    add("--cpus-per-trial", metavar="N", type=_share, help="CPUs, such as 0.5 (default: 1)")
    gpus = "GPUs, such as 0.25, or auto: measured (default: 0.25 where there are GPUs)"
    add("--gpus-per-trial", metavar="N", type=_gpus, help=gpus)
    retries = "how often a trial is tried again after its worker died (default: 2)"
    add("--retries", metavar="N", type=_count, help=retries)


def _add_storage(add: Add) -> None:
    add("--name", help="name of the run and its folder (default: the space's name and the time)")
    add_runs(add)
    storage = "where all machines see the run: a shared folder, or a URI such as s3://bucket/runs (default: --runs)"
    add("--storage", metavar="WHERE", help=storage)
    add("--resume", metavar="NAME", help="go on with a run that was interrupted or killed (default: a new run)")
    extend = "extend a finished run to --trials in all, and choose the finalists anew (default: a new run)"
    add("--continue", metavar="NAME", dest="continued", help=extend)
    add("--accept-changes", action="store_true", help="go on though space file, recordings or versions have changed")


def _add_notifications(add: Add) -> None:
    what = (
        "run a command, without a shell, or post to a webhook (https://…) when something happens; it gets JSON. EVENTS"
        " are some of search, resume, continue, trial_end, search_stopped, finalists, final_end, scores, registered,"
        " end, failed; may be given several times (default: none; of EVENTS all)"
    )
    add("--on-event", metavar="[EVENTS:]CMD", action="append", help=what)


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


def kept_options(options: RunOptions, before: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a run's journal keeps, as plain values: those given, else those of `before`, else defaults."""
    kept = {}
    for name, default in OPTIONS.items():
        given = getattr(options, name)
        if name == "data" and given is not None:
            given = str(given.absolute())
        kept[name] = given if given is not None else before.get(name, default)
    return kept


def _codes(text: str) -> tuple[str, ...]:
    return parse_codes(text, "--instruments")


def _places(text: str) -> tuple[str, ...]:
    places = tuple(place.strip() for place in text.split(","))
    if not all(places):
        raise argparse.ArgumentTypeError(f"{text[:40]!r}, expected runs with commas between them, such as first,second")
    return places


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
