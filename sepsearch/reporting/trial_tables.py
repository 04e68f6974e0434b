"""Tables of configurations and trials in the run report: parameters, rungs, failures."""

import math

from sepsearch.reporting.parameter_plots import short
from sepsearch.reporting.run_data import RunFacts
from sepsearch.reporting.tables import DASH, SPEED_HINT, Cell, Table, columns, count, figure, speed
from sepsearch.runs.job import Job
from sepsearch.spaces.configurations import sampled_names
from sepsearch.utils.formatting import number


def configuration_table(facts: RunFacts) -> Table | None:
    """The finalists' parameters side by side; None before there are any."""
    if not facts.finalists:
        return None
    headings = columns(
        "parameter", *(f"#{one['id']}{' · reference' if one.get('reference') else ''}" for one in facts.finalists)
    )
    jobs = [Job(one["id"], "finalists", one["params"]) for one in facts.finalists]
    rows = [[Cell(name), *(_param(facts, job, name) for job in jobs)] for name in sampled(facts)]
    return Table("The finalists’ parameters, of those that the space varies.", headings, rows) if rows else None


def sampled(facts: RunFacts) -> list[str]:
    """The names of the parameters that the space varies; all that differ between trials where it is not known."""
    if facts.audit:
        return list(facts.audit.space.parameters)
    names = dict.fromkeys(name for job in facts.trials.values() for name in job.params)
    return [name for name in names if len({repr(job.params.get(name)) for job in facts.trials.values()}) > 1]


def trial_table(facts: RunFacts) -> Table:
    """Trials, a selection where there are many: state, reason of the end, ratio and parameters."""
    names = sampled(facts)
    size = ("#parameters: of the network of one instrument", f"#examples/s: {SPEED_HINT}")
    headings = columns("trial", "state", "why", "#epochs", "#ratio: after its last epoch", *size, *names)
    rows = []
    for job in facts.shown.values():
        ratio, bold = job.ratio, job.state == "completed"
        name = job.id + (" · reference" if job.id == facts.reference else "")
        cells = [Cell(name), Cell(job.state, strong=bold), Cell(why(facts, job) or DASH)]
        cells += [figure(job.epochs, 0), figure(ratio, strong=bold), count(job.size), speed(job.speed)]
        rows.append([*cells, *(_param(facts, job, name) for name in names)])
    which = "All trials" if len(rows) == len(facts.trials) else f"{len(rows)} of {len(facts.trials)} trials"
    return Table(f"{which} in the order in which they began.", headings, rows)


def _param(facts: RunFacts, job: Job, name: str) -> Cell:
    value = job.params.get(name)
    if value is None or not _applies(facts, job, name):
        return Cell(DASH, math.inf)
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(short(value), float(value) if numeric else None)


def _applies(facts: RunFacts, job: Job, name: str) -> bool:
    """Whether the conditions of a parameter hold."""
    space = facts.audit.space if facts.audit else None
    return space is None or name not in space.parameters or name in sampled_names(space, job.params)


def why(facts: RunFacts, job: Job) -> str:
    """Reason of a trial's end; for one stopped at a rung with its rank and the cut-off; and which networks are dead."""
    return "; ".join(part for part in (_end_reason(facts, job), job.remark) if part)


def _end_reason(facts: RunFacts, job: Job) -> str:
    last = facts.audit.stops.get(job.id) if facts.audit else None
    if last is None or "rung" not in job.reason:
        return job.reason
    rank = f"{number(last.value)} was number {last.place} of {last.known} at epoch {last.rung}"
    if last.note:
        return f"{job.reason}: {rank}; {last.note}"
    if last.cutoff is None:
        return f"{job.reason}: {rank}; too few had arrived for one to go on"
    return f"{job.reason}: {rank}; the best {last.passing} went on, up to {number(last.cutoff)}"


def rung_table(facts: RunFacts) -> Table | None:
    """Rungs: how many trials arrived and were stopped; None where no trial has reached one."""
    if not facts.audit or not facts.audit.decisions:
        return None
    rows = []
    for rung in facts.audit.rungs.values:
        met = [decision for decision in facts.audit.decisions if decision.rung == rung]
        ended = {v.trial for v in met if v.stops and facts.audit.stops[v.trial].rung == rung}
        stopped = [trial for trial in ended if facts.trials[trial].state == "stopped"]
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
    for kind, job in [(kind, job) for kind, jobs in kinds.items() for job in jobs.values()]:
        if job.state == "failed":
            rows.append([Cell(job.id), Cell(f"{kind} failed"), figure(job.epochs, 0), Cell(job.reason)])
        for reason in job.retries:
            rows.append([Cell(job.id), Cell("worker died, tried again"), figure(job.epochs, 0), Cell(reason)])
    headings = columns("which", "what", "#epochs done", "why")
    return (
        Table("Trials, finalists and workers that failed, with the recorded reason.", headings, rows) if rows else None
    )
