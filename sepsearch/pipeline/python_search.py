"""The functions of `import sepsearch`: start a search, go on with one, open a run, load a model."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.pipeline.callbacks import Callback, Callbacks
from sepsearch.pipeline.model_handle import Model
from sepsearch.pipeline.python_caller import python_caller, python_errors, python_options
from sepsearch.pipeline.run_handle import Run, one_code
from sepsearch.pipeline.whole_run import carry_out
from sepsearch.utils.errors import UserError

if TYPE_CHECKING:
    from sepsearch.models.families import Family
    from sepsearch.runs.options import RunOptions
    from sepsearch.spaces.space import Space

_BESIDE = ("families", "callbacks", "quiet")  # arguments that are no options of a run
_ONE_SEARCH = threading.Lock()  # Ray, signal handlers and what is printed are the process's


def search(
    space: "str | Path | Mapping[str, Any] | Space",
    *,
    data: str | Path | None = None,
    instruments: str | Sequence[str] | None = None,
    seed: int | None = None,
    trials: int | None = None,
    max_epochs: int | None = None,
    time_budget: float | str | None = None,
    address: str | None = None,
    workers: int | None = None,
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | str | None = None,
    retries: int | None = None,
    name: str | None = None,
    runs: str | Path = "runs",
    storage: str | Path | None = None,
    warm_start: str | Sequence[str] | None = None,
    on_event: str | Sequence[str] | None = None,
    families: "Sequence[Family]" = (),
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> Run:
    """Search, retrain and register the best network for every instrument; returns once the run has ended.

    The same as `sepsearch run`, and each option is one of its; `Run.state` says how it ended.

    Args:
        space: what to search: the name of a space that comes with sepsearch ("laptop", "detector"), a space file, or
            its content as a dictionary, such as {"parameters": {"filters": [8, 16]}, "search": {"trials": 10}}.
        data: folder of recordings, in URMP's layout or piece/vn.wav; the demo ensemble without one.
        instruments: codes or names, such as "vn,vc" or ["violin", "cello"]; all that play without them.
        seed: of the split, the sampler and the networks; 0 by default.
        trials: configurations to try; the space's number by default.
        max_epochs: no network is trained for more epochs.
        time_budget: for the trials, seconds or a text such as "10m"; the finalists are trained after it.
        address: of a Ray cluster, such as "auto"; by default this machine, or the Ray that this process has started.
        workers: trials at once; as many as fit by default. With 1 the numbers are the same every time.
        cpus_per_trial: number of CPUs, which may be a fraction; 1 by default.
        gpus_per_trial: number of GPUs, which may be a fraction, or "auto": measured; 0.25 where there are GPUs.
        retries: how often a trial is tried again after its worker died; 2 by default.
        name: of the run and its folder; the space's name and the time by default.
        runs: folder of run folders.
        storage: where all machines see the run: a shared folder, or a URI such as s3://bucket/runs; `runs` by default.
        warm_start: names, paths or URIs of earlier runs, whose completed trials the sampler begins with.
        on_event: commands and webhooks that are told of events, such as "end,failed:notify-send".
        families: networks of your own, which the space names; as `sepsearch.models.families.register_family`.
        callbacks: functions that are called in this process with every event of the run's journal, a dictionary with
            its kind in "event" (see `Event`). Each gets a copy, most of them in a thread of the search, which
            waits. An exception in one ends the run, which can be resumed.
        quiet: print nothing.

    Returns:
        The run.

    Raises:
        UserError: a mistake in the arguments, or something that stops the run; if it has begun, `resume` goes on.
        KeyboardInterrupt: Ctrl-C, SIGTERM, or the notebook's stop button: the run has ended cleanly, and `resume` goes
            on. Without effect where this is not called in the main thread.
    """
    values = {key: value for key, value in locals().items() if key not in _BESIDE}
    return _carry_out(values, families, callbacks, quiet)


def resume(
    name: str,
    *,
    space: "str | Path | Mapping[str, Any] | Space | None" = None,
    data: str | Path | None = None,
    trials: int | None = None,
    time_budget: float | str | None = None,
    address: str | None = None,
    workers: int | None = None,
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | str | None = None,
    retries: int | None = None,
    runs: str | Path = "runs",
    storage: str | Path | None = None,
    accept_changes: bool = False,
    on_event: str | Sequence[str] | None = None,
    families: "Sequence[Family]" = (),
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> Run:
    """Go on with a run that was interrupted, failed or was killed; of a finished one, write all outputs again.

    The same as `sepsearch run --resume NAME`. What is not given is as the run began with.

    Args:
        name: of the run.
        space: an edited space, with `accept_changes`.
        data: where the recordings are now.
        trials: another number of trials, while the search goes on.
        time_budget: as for `search`; the time that the search has taken already counts.
        address: as for `search`.
        workers: as for `search`.
        cpus_per_trial: as for `search`.
        gpus_per_trial: as for `search`.
        retries: as for `search`.
        runs: folder of run folders.
        storage: where the run is, if not there.
        accept_changes: go on though space, recordings or versions of libraries have changed.
        on_event: as for `search`.
        families: as for `search`; the journal does not keep them.
        callbacks: as for `search`; they are called with the events from now on.
        quiet: print nothing.

    Returns:
        The run.

    Raises:
        UserError: there is no such run, another process is at work on it, or as for `search`.
        KeyboardInterrupt: as for `search`.
    """
    values = {key: value for key, value in locals().items() if key not in ("name", *_BESIDE)}
    return _carry_out({**values, "resume": name}, families, callbacks, quiet)


def extend(
    name: str,
    *,
    trials: int,
    data: str | Path | None = None,
    time_budget: float | str | None = None,
    address: str | None = None,
    workers: int | None = None,
    runs: str | Path = "runs",
    storage: str | Path | None = None,
    accept_changes: bool = False,
    on_event: str | Sequence[str] | None = None,
    families: "Sequence[Family]" = (),
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> Run:
    """Extend a finished run by more trials; its finalists are chosen anew, and nothing is trained twice.

    The same as `sepsearch run --continue NAME --trials N`.

    Args:
        name: of the run.
        trials: how many it has in all then.
        data: where the recordings are now.
        time_budget: for the new trials, seconds or a text such as "10m".
        address: as for `search`.
        workers: as for `search`.
        runs: folder of run folders.
        storage: where the run is, if not there.
        accept_changes: go on though recordings or versions of libraries have changed.
        on_event: as for `search`.
        families: as for `search`; the journal does not keep them.
        callbacks: as for `search`.
        quiet: print nothing.

    Returns:
        The run.

    Raises:
        UserError: there is no such run, it has not finished or has as many trials already, or as for `search`.
        KeyboardInterrupt: as for `search`.
    """
    values = {key: value for key, value in locals().items() if key not in ("name", *_BESIDE)}
    return _carry_out({**values, "continued": name}, families, callbacks, quiet)


def _register(families: "Sequence[Family]") -> None:
    from sepsearch.models.families import register_family

    if not isinstance(families, list | tuple):
        raise UserError(f"families: expected a list of Family, found {type(families).__name__}: write families=[…]")
    for family in families:
        register_family(family)


def _carry_out(
    values: Mapping[str, Any], families: "Sequence[Family]", callbacks: Sequence[Callback], quiet: bool
) -> Run:
    _register(families)
    options: RunOptions = python_options(values)
    functions = Callbacks(callbacks)
    if not _ONE_SEARCH.acquire(blocking=False):
        raise UserError(
            "this process carries out another search already, expected one at a time: wait for its end, or start this"
            " one in another process"
        )
    try:
        with python_caller(quiet) as console:
            _, begin = carry_out(options, console, [functions.handle])
            functions.raise_late()
    finally:
        _ONE_SEARCH.release()
    if begin.stop.signalled:
        raise KeyboardInterrupt
    return Run(begin.folder.name, begin.folder.parent)


def open_run(name: str, *, runs: str | Path = "runs", storage: str | Path | None = None) -> Run:
    """Open a run to read: a finished one, one that was interrupted, or one that is at work, in whichever process.

    Args:
        name: of the run.
        runs: folder of run folders.
        storage: where the run is, if not there: a shared folder, or a URI such as s3://bucket/runs.

    Raises:
        UserError: there is no such run (those that are there are named), or it still gets ready.
    """
    with python_errors():
        return Run(name, Path(runs), str(storage) if storage is not None else None)


def load_model(
    instrument: str,
    run: "str | Run | None" = None,
    *,
    model: str | Path | None = None,
    runs: str | Path = "runs",
    storage: str | Path | None = None,
) -> Model:
    """Load the model of an instrument: its champion in the registry, unless another one is named.

    Args:
        instrument: code or name, such as "vn" or "violin".
        run: the name of a run, or a `Run`: its final model, or before there is one its provisional model.
        model: instead of a run, as `sepsearch separate --model` takes it: a model's folder, a run's, or a registered
            model such as "models:/sepsearch-vn/3".
        runs: folder of run folders, for `run`.
        storage: where the run is, if not there, for `run`.

    Raises:
        UserError: no such instrument, run or model (the message lists those that exist), or a damaged model.
    """
    from sepsearch.tracking.resolve import choose_models

    if run is not None and model is not None:
        raise UserError(f"run {run} and model {model}: expected one of them: leave the other out")
    if run is not None:
        return (run if isinstance(run, Run) else open_run(run, runs=runs, storage=storage)).best(instrument)
    with python_errors():
        code = one_code(instrument)
        return Model(*choose_models([code], None if model is None else str(model))[code])
