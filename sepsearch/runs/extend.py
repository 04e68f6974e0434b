"""Extension of a finished run by more trials (`--continue`)."""

import dataclasses

from sepsearch.runs.options import RunOptions
from sepsearch.runs.start import Begin, resumed_run
from sepsearch.search.events import EXTENDED, ContinueEvent
from sepsearch.utils.errors import UserError

OPTION = "--continue"


def continued_run(options: RunOptions) -> Begin:
    """A finished run that can go on with more trials; nothing is written yet.

    `past` of what is returned is the run without finalists, scores and end; `options` are the run's own, but for the
    time budget, which counts from here on.

    Raises:
        UserError: as `start.resumed_run`; also if the run has not finished, or has as many trials already.
    """
    begin = resumed_run(dataclasses.replace(options, resume=options.continued, continued=None, trials=None), OPTION)
    try:
        _require_extensible(begin, options.trials or 0)
        return _extended(begin, options)
    except BaseException:
        begin.close()
        raise


def _require_extensible(begin: Begin, trials: int) -> None:
    """Raise `UserError` unless a run has finished and more trials are asked for than it has."""
    past, name = begin.past, begin.name
    if not past.finished:
        reason = f" ({past.lost})" if past.lost else ""
        raise UserError(
            f"{OPTION} {name}: it has not finished{reason}, expected a finished run: go on with --resume {name}"
            + ("" if past.configurations is not None else f" --trials {trials}")
        )
    begun = past.begun["search"]
    if trials <= begun:
        raise UserError(f"--trials {trials}: {name} has {begun} trials already, expected more: ask for more in all")


def _extended(begin: Begin, options: RunOptions) -> Begin:
    """The run as it is once the extension has begun."""
    past = begin.past
    # Trials that failed because of their environment are tried again; finalists are chosen anew first.
    units = {job.id: job.epochs for job in past.jobs_of("search").values() if job.reopens}
    event: ContinueEvent = {"event": "continue", "format": EXTENDED, "units": units, "changed": {}}
    budget = options.time_budget and past.seconds("search") + options.time_budget
    past.handle({**event, "time": past.written})
    return dataclasses.replace(begin, options={**begin.options, "time_budget": budget}, extension=event)


def require_new_trials(begin: Begin, trials: int, note: str) -> None:
    """Raise `UserError` if an extended run would get no new trial; `note` says why there are no more."""
    if begin.extension and trials <= (begun := begin.past.begun["search"]):
        raise UserError(
            f"{OPTION} {begin.name}: {note or 'no more trials'}, and {begun} are there already: a wider space needs a"
            f" new run, which can begin with --warm-start {begin.name}"
        )
