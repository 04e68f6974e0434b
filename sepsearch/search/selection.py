"""Selection of finalists and of the final model: candidates, their seeds, statistical elimination, the choice."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from sepsearch.models.size import canonical_params
from sepsearch.search.events import EpochEvent, FinalistRecord, JobEndEvent, Params
from sepsearch.search.trials import SMALLER, Trial
from sepsearch.spaces.constraints import fastest
from sepsearch.training.metrics import mean_and_sd, mean_interval, t_quantile

Rule = Literal["best", "smallest_within_sd"]  # `final.choose` of a space file
ERROR = 0.05  # how probable it may be that a finalist is dropped by mistake, over all looks


@dataclass(frozen=True)
class Finalist:
    """A configuration to retrain: the trial it comes from, and whether it is the reference network.

    `parameters` of its network, None in journals of earlier versions; `infeasible`: which constraint it violates, as
    the reference network may. Such a one is trained for comparison and not chosen.
    """

    id: str
    trial: str
    params: Params
    reference: bool
    parameters: int | None = None
    infeasible: str = ""

    @classmethod
    def of(cls, record: FinalistRecord) -> "Finalist":
        """From the record of the event "finalists"; what later versions add there is left out."""
        known = ("parameters", "infeasible")
        more: dict[str, Any] = {name: value for name, value in record.items() if name in known}
        return cls(record["id"], record["trial"], record["params"], record["reference"], **more)


def choose_finalists(best: Sequence[Trial], reference: Trial) -> list[Finalist]:
    """The best trials' configurations and the reference's, each configuration once."""
    chosen: list[Trial] = []
    alike = {trial.id: canonical_params(trial.params) for trial in [*best, reference]}
    for trial in [*best, reference]:
        if all(alike[trial.id] != alike[other.id] for other in chosen):
            chosen.append(trial)
    return [
        Finalist(
            f"c{number}",
            trial.id,
            trial.params,
            alike[trial.id] == alike[reference.id],
            trial.parameters,
            trial.infeasible,
        )
        for number, trial in enumerate(chosen)
    ]


@dataclass
class MemberRun:
    """One instrument of one finalist and seed: its best epoch so far, and how often its loss jumped."""

    val_loss: float = math.inf
    ratio: float = math.inf
    epoch: int = 0
    discontinuities: int = 0


@dataclass
class SeedRun:
    """A finalist trained with one seed; `weights` is the folder of its networks once it has finished.

    `state` is empty while it runs, `failure` why it ended without weights; `open`: it goes on in a resumed run.
    `sha256` are the checksums of the weights' files; None where the journal is older than they are. `ratios` are means
    over instruments by epoch, `speed` is in examples a second (`constraints.fastest`). `instrument` and `title`: all
    titles of the instrument but that one are trained on, and `members` has one entry, under the run's own id; "" for
    all alike. `by_hand`: somebody has asked for its end.
    """

    id: str
    finalist: Finalist
    seed: int
    epochs: int = 0
    members: dict[str, MemberRun] = field(default_factory=dict)
    weights: Path | None = None
    state: str = ""
    failure: str = ""
    instrument: str = ""
    title: str = ""
    open: bool = False
    by_hand: bool = False
    sha256: Mapping[str, str] | None = None
    ratios: dict[int, float | None] = field(default_factory=dict)
    speed: float | None = None

    def add_epoch(self, event: EpochEvent) -> None:
        """Take in an epoch's numbers."""
        self.epochs = event["epoch"]
        self.ratios[self.epochs] = event["ratio"]
        self.speed = fastest(self.speed, event.get("examples_per_second"), self.epochs)
        for numbers in event["members"]:
            member = self.members.setdefault(numbers["instrument"], MemberRun())
            member.discontinuities += numbers.get("discontinuity", False)
            loss, ratio = numbers.get("val_loss"), numbers.get("ratio")  # no ratio where the identity loss is 0
            if loss is not None and loss < member.val_loss:
                member.val_loss, member.epoch = loss, self.epochs
                member.ratio = math.nan if ratio is None else ratio

    def end(self, event: JobEndEvent, weights: Path) -> None:
        """Take in its end; `weights` is the folder of its networks if the event says that there are some."""
        self.state, self.failure = event["state"], event["reason"]
        self.weights = weights if event.get("weights") else None
        self.sha256 = event.get("sha256")


def cannot_win(
    runs: Iterable[SeedRun], finalists: Sequence[Finalist], comparisons: int, rule: Rule = "best"
) -> dict[str, str]:
    """Finalists that are behind the best one on every instrument by more than seeds scatter: id → why.

    Per instrument a one-sided t test of two means over seeds, with the spread within configurations pooled over all of
    them. Who is behind on every instrument has failed an intersection-union test (Berger 1982), which needs no
    correction for the number of instruments; by the comparisons the level ERROR is divided (Bonferroni). Dropping
    the losers of a race as they show is successive elimination (Even-Dar, Mannor, Mansour 2006).

    Args:
        runs: of all finalists; those that have finished count.
        finalists: that are not eliminated. The reference network is never dropped: it is there for comparison.
        comparisons: how many there can be in all, of finalists with the leader, however often the question is asked.
            An infeasible finalist leads no other: it is not chosen itself.
        rule: with "smallest_within_sd" a finalist is dropped only if it is behind by more than the leader's sd, too.
    """
    ratios: dict[str, dict[str, list[float]]] = {}
    for finalist in finalists:
        finished = [run for run in runs if run.finalist == finalist and run.weights]
        if len(finished) > 1:
            ratios[finalist.id] = {code: [run.members[code].ratio for run in finished] for code in finished[0].members}
    if len(ratios) < 2:
        return {}
    leaders = [finalist.id for finalist in finalists if finalist.id in ratios and not finalist.infeasible] or [*ratios]
    level = ERROR / max(1, comparisons)
    behind: dict[str, list[tuple[float, str]]] = {finalist.id: [] for finalist in finalists}
    for code in next(iter(ratios.values())):
        values = {id: by_code[code] for id, by_code in ratios.items()}
        if not all(math.isfinite(ratio) for of in values.values() for ratio in of):
            continue  # nothing to separate it from in its validation examples
        means = {id: fmean(of) for id, of in values.items()}
        freedom = sum(len(of) - 1 for of in values.values())
        spread = math.sqrt(sum((x - means[id]) ** 2 for id, of in values.items() for x in of) / freedom)
        leader = min(leaders, key=means.__getitem__)
        margin = mean_and_sd(values[leader])[1] if rule == "smallest_within_sd" else 0.0
        for id, of in values.items():
            chance = t_quantile(1 - level, freedom) * spread * math.sqrt(1 / len(of) + 1 / len(values[leader]))
            over = means[id] - means[leader] - max(chance, margin)
            behind[id].append((over, f"{code} {means[id]:.3f} against {means[leader]:.3f} of {leader}"))
    return {
        finalist.id: f"behind on every instrument; nearest: {min(behind[finalist.id])[1]}"
        for finalist in finalists
        if not finalist.reference and behind[finalist.id] and min(behind[finalist.id])[0] > 0
    }


@dataclass(frozen=True)
class Choice:
    """The model of one instrument: a seed of the chosen configuration, with its mean and sd over seeds.

    `interval` holds the mean with 95 % confidence (None for a single seed); `seeds` are those that finished;
    `discontinuities` counts jumps of the loss over them. `reason`: why it is another than the best mean's, or that none
    was smaller; "" for the best mean.
    """

    run: SeedRun
    seeds: tuple[int, ...]
    ratio_mean: float
    ratio_sd: float
    interval: tuple[float, float] | None
    discontinuities: int
    reason: str = field(default="", compare=False)

    @property
    def finalist(self) -> Finalist:
        """The configuration."""
        return self.run.finalist


def choose_model(
    runs: Mapping[str, SeedRun], instrument: str, finalists: Sequence[Finalist], rule: Rule = "best"
) -> Choice | None:
    """Choose on validation data: the configuration by its mean over seeds (not by its luckiest), then its best seed.

    A seed whose loss jumped is not chosen unless all of them did. An infeasible configuration is not chosen unless no
    other has finished. None if no run of these finalists finished.

    Args:
        runs: of all finalists, by id.
        instrument: its code.
        finalists: to choose among.
        rule: "best" takes the best mean; "smallest_within_sd" the network with the fewest parameters, then the best
            mean, of those whose mean is at most one standard deviation (sample, over the best one's seeds) worse than
            the best mean, and that are smaller than the best one by a tenth or more (`trials.SMALLER`). A best one
            with a single seed has no standard deviation: it is chosen itself.
    """
    every = [choice for finalist in finalists if (choice := _choice(runs, instrument, finalist))]
    allowed = [choice for choice in every if not choice.finalist.infeasible] or every
    if not allowed:
        return None
    best = min(allowed, key=_rank)
    chosen = min(_within_sd(best, allowed), key=_size) if rule == "smallest_within_sd" else best
    return replace(chosen, reason=_reason(chosen, best, min(every, key=_rank), rule))


def _choice(runs: Mapping[str, SeedRun], instrument: str, finalist: Finalist) -> Choice | None:
    """A finalist's mean over seeds and best seed; None if none of its runs finished."""
    finished = [run for run in runs.values() if run.finalist == finalist and run.weights]
    if not finished:
        return None
    ratios = [run.members[instrument].ratio for run in finished]
    mean, sd = mean_and_sd(ratios)
    smooth = [run for run in finished if not run.members[instrument].discontinuities] or finished
    best = min(smooth, key=lambda run: run.members[instrument].val_loss)
    jumps = sum(run.members[instrument].discontinuities for run in finished)
    return Choice(best, tuple(sorted(run.seed for run in finished)), mean, sd, mean_interval(ratios), jumps)


def _rank(choice: Choice) -> float:
    """Smaller is better; the mean ratio, and last those that have none."""
    return choice.ratio_mean if math.isfinite(choice.ratio_mean) else math.inf


def _size(choice: Choice) -> tuple[float, float]:
    parameters = choice.finalist.parameters
    return math.inf if parameters is None else parameters, _rank(choice)


def _within_sd(best: Choice, choices: Sequence[Choice]) -> list[Choice]:
    """The best one, and smaller ones (`SMALLER`) that are at most a standard deviation of its seeds worse."""
    spread = best.ratio_sd if len(best.seeds) > 1 and math.isfinite(best.ratio_sd) else None
    if spread is None or best.finalist.parameters is None:
        return [best]
    most, worst = SMALLER * best.finalist.parameters, best.ratio_mean + spread
    near = [choice for choice in choices if _size(choice)[0] <= most and choice.ratio_mean <= worst]
    return [best, *near]


def _reason(chosen: Choice, best: Choice, first: Choice, rule: Rule) -> str:
    """Why a model was chosen; `first` has the best mean of all, infeasible ones included."""
    if chosen is not best:
        return (
            f"{chosen.finalist.id} instead of {best.finalist.id}: {chosen.finalist.parameters:,} parameters instead of"
            f" {best.finalist.parameters:,} at {chosen.ratio_mean - best.ratio_mean:.4f} worse, within the seeds'"
            f" spread ({best.ratio_sd:.4f})"
        )
    if best.finalist.infeasible:
        return f"{best.finalist.id} all the same, no other finalist has finished: {best.finalist.infeasible}"
    if first is not best:
        return f"{best.finalist.id} instead of {first.finalist.id}: {first.finalist.infeasible}"
    if rule == "smallest_within_sd":
        none = (
            "no network smaller by a tenth within the seeds' spread"
            if len(best.seeds) > 1
            else "a single seed has no spread"
        )
        return f"{best.finalist.id}: {none}" + (f" ({best.ratio_sd:.4f})" if len(best.seeds) > 1 else "")
    return ""
