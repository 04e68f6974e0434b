"""Tables of configurations and trials in the run report: parameters, rungs, failures."""

import math

from sepsearch.reporting.plots import short
from sepsearch.reporting.run_data import RunFacts
from sepsearch.reporting.tables import DASH, Cell, Table, columns, figure
from sepsearch.runs.job import Job
from sepsearch.utils.formatting import number


def configuration_table(facts: RunFacts) -> Table | None:
    """The finalists' parameters side by side; None before there are any."""
    if not facts.finalists:
        return None
    headings = columns(
        "parameter", *(f"#{one['id']}{' · reference' if one.get('reference') else ''}" for one in facts.finalists)
    )
    units = [Job(one["id"], "finalists", one["params"]) for one in facts.finalists]
    rows = [[Cell(name), *(_param(facts, unit, name) for unit in units)] for name in sampled(facts)]
    return Table("The finalists’ parameters, of those that the space varies.", headings, rows) if rows else None


def sampled(facts: RunFacts) -> list[str]:
    """The names of the parameters that the space varies; all that differ between trials where it is not known."""
    if facts.hindsight:
        return list(facts.hindsight.space.parameters)
    names = dict.fromkeys(name for unit in facts.trials.values() for name in unit.params)
    return [name for name in names if len({repr(unit.params.get(name)) for unit in facts.trials.values()}) > 1]


def trial_table(facts: RunFacts) -> Table:
    """Trials, a selection where there are many: state, reason of the end, ratio and parameters."""
    names = sampled(facts)
    headings = columns("trial", "state", "why", "#epochs", "#ratio: after its last epoch", *names)
    rows = []
    for unit in facts.shown.values():
        ratio, bold = unit.ratio, unit.state == "completed"
        name = unit.id + (" · reference" if unit.id == facts.reference else "")
        cells = [Cell(name), Cell(unit.state, strong=bold), Cell(why(facts, unit) or DASH)]
        cells += [figure(unit.epochs, 0), figure(ratio, strong=bold)]
        rows.append([*cells, *(_param(facts, unit, name) for name in names)])
    which = "All trials" if len(rows) == len(facts.trials) else f"{len(rows)} of {len(facts.trials)} trials"
    return Table(f"{which} in the order in which they began.", headings, rows)


def _param(facts: RunFacts, unit: Job, name: str) -> Cell:
    value = unit.params.get(name)
    if value is None or not _applies(facts, unit, name):
        return Cell(DASH, math.inf)
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(short(value), float(value) if numeric else None)


def _applies(facts: RunFacts, unit: Job, name: str) -> bool:
    """Whether the conditions of a parameter hold."""
    parameter = facts.hindsight.space.parameters.get(name) if facts.hindsight else None
    return parameter is None or all(unit.params.get(other) == value for other, value in parameter.when.items())


def why(facts: RunFacts, unit: Job) -> str:
    """Reason of a trial's end; for one stopped at a rung with its rank and the cut-off."""
    last = facts.hindsight.stops.get(unit.id) if facts.hindsight else None
    if last is None or "rung" not in unit.reason:
        return unit.reason
    rank = f"{number(last.value)} was number {last.place} of {last.known} at epoch {last.rung}"
    return f"{unit.reason}: {rank}; the best {last.passing} went on, up to {number(last.cutoff)}"


def rung_table(facts: RunFacts) -> Table | None:
    """Rungs: how many trials arrived and were stopped; None where no trial has reached one."""
    if not facts.hindsight or not facts.hindsight.decisions:
        return None
    rows = []
    for rung in facts.hindsight.rungs.values:
        met = [decision for decision in facts.hindsight.decisions if decision.rung == rung]
        stopped = [v for v in met if facts.trials[v.trial].state == "stopped" and v.stops]
        last = met[-1].cutoff if met else None
        epoch = Cell(f"epoch {rung}", float(rung))
        rows.append([epoch, figure(len(met), 0), figure(len(stopped), 0), figure(last)])
    cutoff = "#last cut-off: the ratio that was still good enough when the last trial arrived"
    headings = columns("rung", "#arrived", "#stopped there", cutoff)
    return Table("Rungs: where trials are compared, and the weaker ones stopped.", headings, rows)


def failure_table(facts: RunFacts) -> Table | None:
    """Failed trials and finalists' seeds, and workers that died; None without failures."""
    rows = []
    kinds = {"trial": facts.trials, "finalist": facts.finals, "model without a title": facts.folds}
    for kind, unit in [(kind, unit) for kind, units in kinds.items() for unit in units.values()]:
        if unit.state == "failed":
            rows.append([Cell(unit.id), Cell(f"{kind} failed"), figure(unit.epochs, 0), Cell(unit.reason)])
        for reason in unit.retries:
            rows.append([Cell(unit.id), Cell("worker died, tried again"), figure(unit.epochs, 0), Cell(reason)])
    headings = columns("which", "what", "#epochs done", "why")
    return (
        Table("Trials, finalists and workers that failed, with the recorded reason.", headings, rows) if rows else None
    )
