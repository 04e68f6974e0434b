"""The report page's tables of configurations and trials: parameters, rungs, and what failed."""

import math

from sepsearch.reporting.plots import short
from sepsearch.reporting.run_data import RunFacts, Unit
from sepsearch.reporting.tables import DASH, Cell, Heading, Table, figure
from sepsearch.utils.formatting import number


def configuration_table(facts: RunFacts) -> Table | None:
    """The finalists' parameters side by side; None before there are any."""
    if not facts.finalists:
        return None
    headings = [Heading("parameter", numeric=False)]
    headings += [Heading(f"{one['id']}{' · report’s' if one.get('reference') else ''}") for one in facts.finalists]
    units = [Unit(one["id"], one["params"]) for one in facts.finalists]
    rows = [[Cell(name), *(_param(facts, unit, name) for unit in units)] for name in sampled(facts)]
    return Table("The finalists’ parameters, of those that the space varies.", headings, rows) if rows else None


def sampled(facts: RunFacts) -> list[str]:
    """The names of the parameters that the space varies; all that differ between trials where it is not known."""
    if facts.hindsight:
        return list(facts.hindsight.space.parameters)
    names = dict.fromkeys(name for unit in facts.trials.values() for name in unit.params)
    return [name for name in names if len({repr(unit.params.get(name)) for unit in facts.trials.values()}) > 1]


def trial_table(facts: RunFacts) -> Table:
    """All trials, or those that are shown of many, and why each ended as it did."""
    names = sampled(facts)
    headings = [
        Heading("trial", numeric=False),
        Heading("state", numeric=False),
        Heading("why", numeric=False),
        Heading("epochs"),
        Heading("ratio", "after its last epoch"),
    ]
    headings += [Heading(name, numeric=False) for name in names]
    rows = []
    for unit in facts.shown.values():
        ratio = unit.ratios[-1][1] if unit.ratios else None
        name = unit.id + (" · report’s" if unit.id == facts.reference else "")
        rows.append(
            [
                Cell(name),
                Cell(unit.state, strong=unit.state == "completed"),
                Cell(why(facts, unit) or DASH),
                figure(unit.epochs, 0),
                figure(ratio, strong=unit.state == "completed"),
                *(_param(facts, unit, name) for name in names),
            ]
        )
    which = "All trials" if len(rows) == len(facts.trials) else f"{len(rows)} of {len(facts.trials)} trials"
    return Table(f"{which} in the order in which they began.", headings, rows)


def _param(facts: RunFacts, unit: Unit, name: str) -> Cell:
    value = unit.params.get(name)
    if value is None or not _applies(facts, unit, name):
        return Cell(DASH, math.inf)
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(short(value), float(value) if numeric else None)


def _applies(facts: RunFacts, unit: Unit, name: str) -> bool:
    """Whether the conditions of a parameter hold."""
    parameter = facts.hindsight.space.parameters.get(name) if facts.hindsight else None
    return parameter is None or all(unit.params.get(other) == value for other, value in parameter.when.items())


def why(facts: RunFacts, unit: Unit) -> str:
    """Why a trial ended as it did, in words; for one that was stopped at a rung, what it would have needed."""
    last = facts.hindsight.stops.get(unit.id) if facts.hindsight else None
    if last is None or "rung" not in unit.reason:
        return unit.reason
    place = f"{number(last.value)} was number {last.place} of {last.known} at epoch {last.rung}"
    needed = f"the best {last.passing} went on, up to {number(last.cutoff)}"
    return f"{unit.reason}: {place}; {needed}"


def rung_table(facts: RunFacts) -> Table | None:
    """The rungs: how many arrived, how many were stopped; None where none is known or met."""
    if not facts.hindsight or not facts.hindsight.verdicts:
        return None
    rows = []
    for rung in facts.hindsight.rungs.values:
        met = [verdict for verdict in facts.hindsight.verdicts if verdict.rung == rung]
        stopped = [v for v in met if facts.trials[v.trial].state == "stopped" and v.stops]
        last = met[-1].cutoff if met else None
        epoch = Cell(f"epoch {rung}", float(rung))
        rows.append([epoch, figure(len(met), 0), figure(len(stopped), 0), figure(last)])
    headings = [
        Heading("rung", numeric=False),
        Heading("arrived"),
        Heading("stopped there"),
        Heading("last cut-off", "the ratio that was still good enough when the last one arrived"),
    ]
    return Table("Rungs: where trials are compared, and the weaker ones stopped.", headings, rows)


def failure_table(facts: RunFacts) -> Table | None:
    """Whatever failed: trials, finalists' seeds, workers that died; None where nothing did."""
    rows = []
    kinds = {"trial": facts.trials, "finalist": facts.finals, "model without a title": facts.folds}
    for kind, unit in [(kind, unit) for kind, units in kinds.items() for unit in units.values()]:
        if unit.state == "failed":
            rows.append([Cell(unit.id), Cell(f"{kind} failed"), figure(unit.epochs, 0), Cell(unit.reason)])
        for reason in unit.retries:
            rows.append([Cell(unit.id), Cell("worker died, tried again"), figure(unit.epochs, 0), Cell(reason)])
    headings = [
        Heading("which", numeric=False),
        Heading("what", numeric=False),
        Heading("epochs done"),
        Heading("why", numeric=False),
    ]
    return (
        Table("Trials, finalists and workers, each with the reason that was written down.", headings, rows)
        if rows
        else None
    )
