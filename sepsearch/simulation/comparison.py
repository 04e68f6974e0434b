"""Results of a replay: table, picture, and how often ASHA stopped a trial that would have won."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np

from sepsearch.reporting.curves import png
from sepsearch.simulation.curve_table import Pool
from sepsearch.simulation.recorded_runs import Audit, Recorded
from sepsearch.simulation.simulator import Outcome, Strategy, interval
from sepsearch.spaces.space import Space

if TYPE_CHECKING:
    from rich.table import Table

Results = Mapping[Strategy, Sequence[Outcome]]

NEAR = 1.02  # of the pool's best counts as reached
POINTS = 80  # of a drawn line


def describe(recorded: Recorded, pool: Pool, trials: int, workers: int) -> Iterator[str]:
    """Description of the replay and of its limits."""
    failed = sum(bool(curve.failed) and len(curve.ratios) < pool.epochs for curve in pool.curves)
    partial = len(pool) - pool.full - failed
    yield (
        f"{', '.join(recorded.names)}: {len(pool)} of {pool.distinct} trials can be used: {pool.full} with all"
        f" {pool.epochs} epochs, {failed} that failed by themselves, {partial} known in part;"
        f" the best ended with {pool.best:.4f}"
    )
    if (unknown := pool.distinct - pool.full - failed) > 0:
        yield (
            f"note: {unknown} of the trials were stopped early, so those known to the end are better than a random"
            " draw: what stopping costs is seen too small here"
        )
    for note in recorded.notes:
        yield f"note: {note}"
    yield f"searches of {trials} trials, {workers} at once, each trial a recorded one: the nearest to what was proposed"


def make_table(results: Results, pool: Pool) -> "Table":
    """A line for every strategy. Only trials that reached the full budget count as found."""
    from rich import box
    from rich.table import Table

    equal = _equal_epochs(results)
    table = Table(box=box.SIMPLE, pad_edge=False, caption_justify="left")
    for heading in ("sampler", "rungs", "stopped as"):
        table.add_column(heading, no_wrap=True)
    headings = ("seeds", "best found", f"best after\n{equal} epochs", "choice\nends at", "epochs\nspent")
    percent = f"{100 * (NEAR - 1):.0f} %"
    near = f"epochs to\nthe best\n+ {percent}"
    for heading in (*headings, "finished,\nstopped, other", near, "winner\nstopped"):
        table.add_column(heading, justify="right")
    for strategy, outcomes in results.items():
        stopped = strategy.tell if strategy.factor and strategy.sampler != "random" else "–"
        table.add_row(strategy.sampler, strategy.rungs, stopped, *_cells(outcomes, pool, equal))
    table.caption = (
        f"Means over the seeds, bootstrap intervals of 95 %. rungs: ASHA's factor and first rung.\n"
        f"best after {equal} epochs: what the cheapest strategy spends.\n"
        "choice ends at: the full budget's value of the trial that is chosen, where none got there, of those that came"
        " furthest.\n"
        f"epochs to the best + {percent}: of the best recorded trial, median (searches that got there).\n"
        "winner stopped: searches in which rungs stopped a trial that would have ended better than the best found."
    )
    return table


def _cells(outcomes: Sequence[Outcome], pool: Pool, equal: int) -> list[str]:
    counts = {kind: fmean(outcome.ended[kind] for outcome in outcomes) for kind in outcomes[0].ended}
    other = counts["failed"] + counts["unknown"] + counts["halted"]
    spent = [outcome.reaches(pool.best * NEAR) for outcome in outcomes]
    reached = sum(map(math.isfinite, spent))
    typical = f"{median(spent):.0f}" if math.isfinite(median(spent)) else "–"
    known = [outcome.missed for outcome in outcomes if outcome.missed is not None]
    return [
        str(len(outcomes)),
        _spread([outcome.best for outcome in outcomes]),
        _spread([outcome.at(equal) for outcome in outcomes]),
        _mean_choice(outcomes),
        f"{fmean(outcome.epochs for outcome in outcomes):.0f}",
        f"{counts['completed']:.1f}, {counts['stopped']:.1f}, {other:.1f}",
        f"{typical} ({reached}/{len(outcomes)})",
        f"{sum(known)}/{len(known)}" if known else "–",
    ]


def _mean_choice(outcomes: Sequence[Outcome]) -> str:
    """Mean value at the full budget of what is chosen; "–" where it is not known of some."""
    ends = [outcome.chosen[0] for outcome in outcomes if outcome.chosen]
    return f"{fmean(ends):.3f}" if len(ends) == len(outcomes) else "–"


def _spread(values: Sequence[float]) -> str:
    """Mean and interval, of all or none: the searches that have found something are not a fair sample."""
    missing = sum(map(math.isnan, values))
    if missing:
        return f"– ({missing} found none)"
    mean, low, high = interval(values)
    return f"{mean:.3f} ({low:.3f}–{high:.3f})"


def replay_facts(recorded: Recorded, pool: Pool, trials: int, results: Results) -> dict[str, Any]:
    """The numbers of a replay as plain values, with keys as docs/command-line.md lists them."""
    equal = _equal_epochs(results)
    return {
        "runs": recorded.names,
        "notes": recorded.notes,
        "epochs": pool.epochs,
        "trials": {"recorded": pool.distinct, "usable": len(pool), "complete": pool.full, "per_search": trials},
        "best_recorded": pool.best,
        "equal_epochs": equal,
        "strategies": [_strategy_facts(*one, pool, equal) for one in results.items()],
        "audit": vars(recorded.audit),
    }


def _strategy_facts(strategy: Strategy, outcomes: Sequence[Outcome], pool: Pool, equal: int) -> dict[str, Any]:
    spent = [outcome.reaches(pool.best * NEAR) for outcome in outcomes]
    known = [outcome.missed for outcome in outcomes if outcome.missed is not None]
    return {
        "sampler": strategy.sampler,
        "stopping": strategy.stopping if strategy.factor else "none",
        "first_rung": strategy.grace if strategy.factor else None,
        "reduction_factor": strategy.factor,
        "tell": strategy.tell if strategy.factor else None,
        "seeds": len(outcomes),
        "best": interval_facts([outcome.best for outcome in outcomes]),
        "best_at_equal_epochs": interval_facts([outcome.at(equal) for outcome in outcomes]),
        "choice": interval_facts([outcome.chosen[0] if outcome.chosen else math.nan for outcome in outcomes]),
        "epochs": fmean(outcome.epochs for outcome in outcomes),
        "ended": {kind: fmean(outcome.ended[kind] for outcome in outcomes) for kind in outcomes[0].ended},
        "epochs_to_best": median(spent),
        "got_there": sum(map(math.isfinite, spent)),
        "winner_stopped": {"searches": sum(known), "known": len(known)},
    }


def interval_facts(values: Sequence[float]) -> dict[str, float]:
    """As `_spread` prints them."""
    missing = sum(map(math.isnan, values))
    mean, low, high = (math.nan,) * 3 if missing else interval(values)
    return {"mean": mean, "low": low, "high": high, "found_none": missing}


def _equal_epochs(results: Results) -> int:
    """Epochs that the cheapest strategy spends."""
    return round(min(fmean(outcome.epochs for outcome in outcomes) for outcomes in results.values()))


def audit_line(audit: Audit, space: Space) -> str:
    """Line on how often ASHA stopped a trial that would have won, estimated from exempt (spared) trials."""
    if not audit.spared:
        return (
            f"ASHA stopped {audit.stopped} trials; whether one of them would have won is not known, for none was"
            " spared: `search: {spared_share: 0.1}` in the space file lets a tenth of them run to the end"
        )
    low, high = (100 * bound for bound in proportion(audit.winners, audit.ended))
    return (
        f"ASHA stopped {audit.stopped} trials and spared {audit.spared} that it would have stopped, {audit.ended} of"
        f" which ended. {audit.winners} of {audit.ended} (95 % interval {low:.0f} to {high:.0f} %) ended better than"
        f" the best that it let finish; {audit.finalists} would have been among the {space.final.configurations} best"
    )


def proportion(hits: int, of: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927); 0 to 1 of nothing."""
    if not of:
        return 0.0, 1.0
    z = 1.96
    share = hits / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def draw(results: Results, space: Space, pool: Pool) -> bytes:
    """A PNG of the best value so far against epochs spent: means with their 95 % intervals over the seeds."""
    from matplotlib.figure import Figure  # no pyplot: it is not made for threads

    search = space.search
    results = {strategy: outcomes for strategy, outcomes in results.items() if strategy.stopping == "asha"}
    own = [s for s in results if (s.grace, s.factor) == (search.grace_epochs, search.reduction_factor)]
    tpe = [s for s in results if s.sampler == "tpe"]
    groups: list[tuple[str, list[Strategy], Callable[[Strategy], str]]] = [
        (
            "samplers",
            [s for s in results if s.factor is None or (s in own and s.tell == search.tell)],
            lambda s: f"{s.sampler}, {s.rungs}",
        ),
        ("ASHA's factor and first rung, with tpe", [s for s in tpe if s.tell == search.tell], lambda s: s.rungs),
        ("value that tpe gets for stopped trials", [s for s in own if s.sampler == "tpe"], lambda s: s.tell),
    ]
    figure = Figure(figsize=(15, 5.5), layout="constrained")
    panels = figure.subplots(1, len(groups), sharey=True)
    for panel, (title, strategies, label) in zip(panels, groups, strict=True):
        samplers = list(dict.fromkeys(strategy.sampler for strategy in strategies))
        for number, strategy in enumerate(strategies):
            # Where samplers are compared one has the same colour with and without rungs.
            colour = f"C{samplers.index(strategy.sampler) if len(samplers) > 1 else number}"
            _draw_line(panel, results[strategy], label(strategy), colour, dashed=strategy.factor is None)
        panel.axhline(pool.best, color="black", linestyle=":", linewidth=1, label="best recorded")
        panel.set_title(title)
        panel.set_xlabel("epochs spent by all trials")
        panel.grid(alpha=0.25)
        panel.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("best ratio so far, of trials that reached the full budget")
    return png(figure)


def _draw_line(panel: Any, outcomes: Sequence[Outcome], label: str, colour: str, dashed: bool) -> None:
    """One strategy, from where every seed has finished a trial."""
    last = max(outcome.epochs for outcome in outcomes)
    first = max(outcome.steps[0][0] if outcome.steps else last + 1 for outcome in outcomes)
    if first > last:
        return
    grid = np.unique(np.linspace(first, last, POINTS).astype(int))
    mean, low, high = np.array([interval([outcome.at(int(x)) for outcome in outcomes]) for x in grid]).T
    panel.plot(grid, mean, "--" if dashed else "-", color=colour, linewidth=1.6, label=label)
    panel.fill_between(grid, low, high, color=colour, alpha=0.13, linewidth=0)
