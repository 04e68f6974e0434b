"""Terminal view of a run for `sepsearch.watch`: lines and tables that fit the terminal's size."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.styled import Styled
from rich.table import Table
from rich.text import Text

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.monitoring.console import DOING
from sepsearch.monitoring.run_facts import limits_line
from sepsearch.reporting.parameter_plots import short
from sepsearch.runs.state import RunState
from sepsearch.runs.verdict import baseline_ratio, decibels
from sepsearch.utils.errors import one_line
from sepsearch.utils.formatting import counted, duration, number

WIDE, NARROW = 110, 60  # columns: tables stand side by side; there is no room for bars and names
GAP = 4
BAR = 20
MOST_RUNNING = 8
SOON_SECONDS = 15.0
WHAT = {"search": "trials", "finalists": "finalists", "leave-one-title-out": "left out"}
AFTER = {"search": "the trials", "finalists": "the finalists", "leave-one-title-out": "those that have begun"}
COLOURS = {"running": "cyan", "completed": "green", "failed": "red"}


@dataclass(frozen=True)
class Hints:
    """What to type or open: to go on with the run, and lines for its end."""

    resume: str
    end: Sequence[str] = field(default_factory=tuple)


def make_view(run: RunState, now: float, hints: Hints, console: Console, fit: bool = False) -> RenderableType:
    """The view of a run's state.

    Args:
        run: of the run.
        now: seconds since 1970, by the clock of the run's own machine.
        hints: what to type.
        console: where it will be shown; its width decides on the tables' columns.
        fit: leave tables out, the least important first, until the rest is not higher than the console.
    """
    if not run.search:
        return _state(run, now, hints)
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    over = Text(one_line(run.stopped["reason"]) if run.stopped else "")
    lines = [("over", over), ("best", _best(run)), ("limits", Text(limits_line(run))), ("speed", _pace(run, now))]
    for label, text in [*_counts(run, console.width), *lines]:
        if text:
            facts.add_row(label, text)
    head: list[RenderableType] = [_state(run, now, hints), facts]
    # The most important first.
    tables = [_instruments(run, console.width), _running(run), _rungs(run), _failures(run)]
    foot = [Text(line, style="dim") for line in hints.end] if run.end else []
    shown = [table for table in tables if table is not None]
    view = _arrange(head, shown, foot, console)
    while fit and shown and _height(view, console) >= console.height:
        shown.pop()
        note = Text("the terminal is too low for the rest: --once prints all", style="dim")
        view = _arrange(head, shown, [*foot, note], console)
    return view


def _height(view: RenderableType, console: Console) -> int:
    return len(console.render_lines(view, pad=False))


def _arrange(
    head: Sequence[RenderableType], tables: Sequence[Table], foot: Sequence[RenderableType], console: Console
) -> Group:
    if console.width < WIDE or not console.is_terminal:
        spaced = [part for table in tables for part in ("", _narrowed(table, console.width, console))]
        return Group(*head, *spaced, "", *foot)
    left, right = tables[:1], tables[1:]
    # What stands on the left keeps all of its columns.
    width = max([_width(table, console) for table in left], default=0)
    rest = console.width - width - GAP
    # Gaps as part of a column: rich cuts words off in the last of several columns with gaps of their own.
    grid = Table.grid()
    grid.add_column(width=width + GAP)
    grid.add_column(width=rest)
    grid.add_row(Group(*left), Group(*(part for table in right for part in (_narrowed(table, rest, console), ""))))
    return Group(*head, "", grid, "", *foot)


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(width=1000), table).maximum


def _narrowed(table: Table, width: int, console: Console) -> Table:
    """The table with as many of its columns, from the left, as can be shown in full."""
    while len(table.columns) > 2 and _width(table, console) > width:
        table.columns.pop()
    return table


def _table(headings: Sequence[str], numeric: int = 1) -> Table:
    """A table with its columns from number `numeric` on aligned to the right; the first heading is its title."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    for column, heading in enumerate(headings):
        text = Text(heading, style="" if column else "bold not dim")
        table.add_column(text, justify="right" if column >= numeric else "left", no_wrap=True, vertical="bottom")
    return table


def _state(run: RunState, now: float, hints: Hints) -> Text:
    """Name, state and stage, and since when; what to type where the run does not go on by itself."""
    text = Text.assemble((one_line(run.name) or "this run", "bold"), "  ")
    if not run.search:
        return text.append("has not begun: its journal is empty", "yellow")
    if run.end:
        kind = {"finished": "green", "interrupted": "yellow"}.get(run.end, "red")
        text.append(one_line(run.end), kind).append(f" after {duration(run.throughput.worked(run.last))}")
        text.append(f", {duration(max(0.0, now - run.last))} ago")
        return text if run.end == "finished" else text.append(f"; to go on: {hints.resume}")
    if quiet := run.silence(now):
        text.append(f"nothing was written for {duration(quiet)}", "yellow")
        text.append(f": its process may be gone. It was {_doing(run)}.")
        return text.append(f" If it is gone, this goes on with it: {hints.resume}")
    text.append(_doing(run), "cyan").append(f" for {duration(now - run.since)}")
    if run.begin < run.since:
        text.append(f", begun {duration(now - run.begin)} ago")
    quiet = now - run.last
    return text.append(f"; last event {duration(quiet)} ago" if quiet > SOON_SECONDS else "", "dim")


def _doing(run: RunState) -> str:
    if run.scores:
        return "registering the models"
    states = run.states(run.stage)
    if run.stage != "search" and not states["waiting"] and not states["running"]:
        return "scoring the chosen models on the test titles"
    return DOING[run.stage]


def _counts(run: RunState, width: int) -> Iterator[tuple[str, Text]]:
    """Of every stage that has begun a bar, and how many of its jobs are in which state."""
    for stage, what in WHAT.items():
        if not run.begun[stage] and stage != "search":
            continue
        states, wanted = run.states(stage), run.wanted(stage)
        ended = wanted - states["waiting"] - states["running"]
        done = BAR * ended // max(1, wanted)
        text = Text.assemble(("━" * done, "green"), ("─" * (BAR - done), "dim"), " ") if width >= NARROW else Text()
        text.append(f"{ended} of {wanted}")
        for state, count in states.items():
            if count:
                text.append(" · ", "dim").append(f"{count} {state}", COLOURS.get(state, ""))
        yield what, text


def _best(run: RunState) -> Text:
    """The best trial and its configuration, of which only what the space varies is named."""
    text = Text()
    if run.best is None:
        return text.append(f"no trial has come to the end of its {counted(run.epochs, 'epoch')} yet")
    text.append(number(run.best.ratio), "bold green").append(f" ratio of {run.best.id}")
    text.append(f" after {counted(run.best.epochs, 'epoch')}")
    if run.best.parameters is not None:
        text.append(f", {run.best.parameters:,} parameters")
    known = [value for value in run.reference.values() if value is not None]
    if known and run.best.id != run.search.get("reference"):
        text.append(f"; the reference network {number(sum(known) / len(known))}")
    if params := configuration(run.best.params, run.search.get("space", {})):
        text.append(f"\n{params}", "dim")
    return text


def configuration(params: Mapping[str, Any], space: Mapping[str, Any]) -> str:
    """A configuration in short: the parameters that the space varies, where their conditions hold."""
    varied = space.get("parameters") or {}
    shown = [
        name
        for name, parameter in varied.items()
        if name in params and all(params.get(key) == value for key, value in (parameter.get("when") or {}).items())
    ]
    return one_line(", ".join(f"{name} {short(params[name])}" for name in shown))


def _pace(run: RunState, now: float) -> Text | None:
    """Speed and what is left; None where the run is over or nothing was done yet."""
    if run.end or (speed := run.throughput.rate(now)) is None:
        return None
    text = Text(f"{speed:.2g} epochs/s" if speed >= 1 else f"an epoch every {duration(1 / speed)}")
    if examples := run.examples_per_second(now):
        text.append(f", {examples:.0f} training examples/s")
    if (left := run.remaining(now)) and not run.silence(now):
        text.append(f"; about {duration(left[0])} left for {AFTER[run.stage]}")
        text.append(f", then {duration(left[1])} for the finalists" if left[1] else "")
    return text


def _running(run: RunState) -> Table | None:
    if not run.running or run.end:
        return None
    table = _table(["At work", "epoch", "of", "ratio", "configuration"])
    table.columns[4].justify = "left"
    jobs = sorted(run.running.values(), key=lambda job: (-job.epochs, job.id))
    for job in jobs[:MOST_RUNNING]:
        full = run.epochs if job.stage == "search" else run.search["settings"].get("final_epochs", 0)
        params = configuration(job.params, run.search.get("space", {}))
        table.add_row(job.id, str(job.epochs), str(full), number(job.ratio), Text(params, style="dim"))
    if len(jobs) > MOST_RUNNING:
        table.add_row(f"and {len(jobs) - MOST_RUNNING} more", "", "", "", "")
    return table


def _rungs(run: RunState) -> Table | None:
    if run.stage != "search" or not any(run.rungs.values.values()):
        return None
    table = _table(["Rungs", "arrived", "stopped", "passes\nup to"])
    for rung, values in run.rungs.values.items():
        table.add_row(f"epoch {rung}", str(len(values)), str(run.stopped_at[rung]), number(run.cutoff(rung)))
    return table


def _instruments(run: RunState, width: int) -> Table | None:
    """The best ratio of every instrument beside those that it must beat; of finalists over the seeds that are done."""
    validation = run.search.get("baselines", {}).get("validation", {})
    gains = {code: baseline_ratio(validation, "gain", code) for code in run.codes}
    opponents = ["constant\ngain", "reference\nnetwork"]
    if run.scores:
        headings = ["Final models", "ratio ± sd", "test\nratio", "SI-SDR\ngain, dB", *opponents]
        rows = [_scored(run.scores, code, gains[code]) for code in run.codes]
    elif any(one.weights for one in run.finals.values()):
        headings = ["Finalists", "ratio ± sd", "seeds", "of", *opponents, "in the\nsearch"]
        rows = [_retrained(run, code, gains[code]) for code in run.codes]
    elif run.best is None:
        return None
    else:
        headings = ["Instruments", "best\nratio", "of", *opponents, "identity\nloss"]
        rows = [_searched(run, code, gains[code], validation) for code in run.codes]
    table, names = _table(headings), {code: INSTRUMENTS.get(code, code) for code in run.codes}
    caveats: Mapping[str, str] = run.search.get("caveats") or {}
    for code, row in zip(run.codes, rows, strict=True):
        name = names[code] if width >= NARROW else code
        table.add_row(f"{name}*" if code in caveats else name, *row)
    notes = [
        "ratio: loss / identity loss, 1 is doing nothing",
        *(f"* {names.get(code, code)}: {caveats[code]}" for code in caveats),
    ]
    table.caption = Text("\n".join(map(one_line, notes)))
    table.caption_justify, table.caption_style = "left", "dim"
    return table


def _searched(run: RunState, code: str, gain: float | None, validation: Mapping[str, Any]) -> list[RenderableType]:
    ratio, trial = run.best_of.get(code, (None, "–"))
    identity = validation.get("identity", {}).get(code)
    own = run.reference.get(code)
    return [_beside(number(ratio), ratio, gain), trial, number(gain), number(own), number(identity, 4)]


def _retrained(run: RunState, code: str, gain: float | None) -> list[RenderableType]:
    chosen, own = run.chosen(code)
    search, _ = run.best_of.get(code, (None, ""))
    reference = _spread(own.ratio_mean, own.ratio_sd, len(own.seeds)) if own else "–"
    if chosen is None:
        return ["–", "–", "–", number(gain), reference, number(search)]
    ratio = _beside(_spread(chosen.ratio_mean, chosen.ratio_sd, len(chosen.seeds)), chosen.ratio_mean, gain)
    return [ratio, str(len(chosen.seeds)), chosen.finalist.id, number(gain), reference, number(search)]


def _scored(scores: Mapping[str, Any], code: str, gain: float | None) -> list[RenderableType]:
    row, own = scores["final"].get(code, {}), scores["reference_final"].get(code, {})
    spreads = [_spread(one.get("ratio_mean"), one.get("ratio_sd"), len(one.get("seeds", ()))) for one in (row, own)]
    ratio, reference = _beside(spreads[0], row.get("ratio_mean"), gain), spreads[1]
    return [ratio, number(row.get("test_ratio")), decibels(row.get("si_sdr_gain_db")), number(gain), reference]


def _spread(mean: float | None, sd: float | None, seeds: int) -> str:
    """Mean ± sd; the mean alone of a single seed, which has no spread."""
    return f"{number(mean)} ± {number(sd)}" if seeds > 1 else number(mean)


def _beside(text: str, ratio: float | None, gain: float | None) -> Styled:
    """A ratio, which stands out if it is better than that of a constant gain."""
    return Styled(text, style="bold green" if ratio is not None and ratio < (gain or math.inf) else "")


def _failures(run: RunState) -> Table | None:
    if not run.failures:
        return None
    failed = sum(count for (_, state), count in run.ended.items() if state == "failed")
    counts = [(failed, "failed"), (run.deaths, "went on after a worker's death")]
    table = _table(["Failures", ", ".join(f"{count} {what}" for count, what in counts if count)], 2)
    table.columns[1].no_wrap = False
    for column in table.columns:
        column.vertical = "top"
    for job, reason in run.failures:
        table.add_row(job, Text(one_line(reason)))
    return table
