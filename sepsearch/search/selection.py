"""Selection of finalists and of the final model: candidates, their seeds, statistical elimination, the choice."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from sepsearch.search.events import EpochEvent, JobEndEvent, Params
from sepsearch.search.trials import Trial
from sepsearch.training.metrics import mean_and_sd, mean_interval, t_quantile

ERROR = 0.05  # how probable it may be that a finalist is dropped by mistake, over all looks


@dataclass(frozen=True)
class Finalist:
    """A configuration to retrain: the trial it comes from, and whether it is the reference network."""

    id: str
    trial: str
    params: Params
    reference: bool


def choose_finalists(best: Sequence[Trial], reference: Trial) -> list[Finalist]:
    """The best trials' configurations and the reference's, each configuration once."""
    chosen: list[Trial] = []
    for trial in [*best, reference]:
        if all(trial.params != other.params for other in chosen):
            chosen.append(trial)
    return [
        Finalist(f"c{number}", trial.id, trial.params, trial.params == reference.params)
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
    over instruments by epoch. `instrument` and `title`: all titles of the instrument but that one are trained on, and
    `members` has one entry, under the run's own id; "" for all alike. `by_hand`: somebody has asked for its end.
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

    def add_epoch(self, event: EpochEvent) -> None:
        """Take in an epoch's numbers."""
        self.epochs = event["epoch"]
        self.ratios[self.epochs] = event["ratio"]
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


def cannot_win(runs: Iterable[SeedRun], finalists: Sequence[Finalist], comparisons: int) -> dict[str, str]:
    """Finalists that are behind the best one on every instrument by more than seeds scatter: id → why.

    Per instrument a one-sided t test of two means over seeds, with the spread within configurations pooled over all of
    them. Who is behind on every instrument has failed an intersection-union test (Berger 1982), which needs no
    correction for the number of instruments; by the comparisons the level ERROR is divided (Bonferroni). Dropping
    the losers of a race as they show is successive elimination (Even-Dar, Mannor, Mansour 2006).

    Args:
        runs: of all finalists; those that have finished count.
        finalists: that are not eliminated. The reference network is never dropped: it is there for comparison.
        comparisons: how many there can be in all, of finalists with the leader, however often the question is asked.
    """
    ratios: dict[str, dict[str, list[float]]] = {}
    for finalist in finalists:
        finished = [run for run in runs if run.finalist == finalist and run.weights]
        if len(finished) > 1:
            ratios[finalist.id] = {code: [run.members[code].ratio for run in finished] for code in finished[0].members}
    if len(ratios) < 2:
        return {}
    level = ERROR / max(1, comparisons)
    behind: dict[str, list[tuple[float, str]]] = {finalist.id: [] for finalist in finalists}
    for code in next(iter(ratios.values())):
        values = {id: by_code[code] for id, by_code in ratios.items()}
        if not all(math.isfinite(ratio) for of in values.values() for ratio in of):
            continue  # nothing to separate it from in its validation examples
        means = {id: fmean(of) for id, of in values.items()}
        freedom = sum(len(of) - 1 for of in values.values())
        spread = math.sqrt(sum((x - means[id]) ** 2 for id, of in values.items() for x in of) / freedom)
        leader = min(means, key=means.__getitem__)
        for id, of in values.items():
            chance = t_quantile(1 - level, freedom) * spread * math.sqrt(1 / len(of) + 1 / len(values[leader]))
            over = means[id] - means[leader] - chance
            behind[id].append((over, f"{code} {means[id]:.3f} against {means[leader]:.3f} of {leader}"))
    return {
        finalist.id: f"behind on every instrument; nearest: {min(behind[finalist.id])[1]}"
        for finalist in finalists
        if not finalist.reference and behind[finalist.id] and min(behind[finalist.id])[0] > 0
    }


@dataclass(frozen=True)
class Choice:
    """The model of one instrument: a seed of the configuration with the best mean over seeds, with that mean and sd.

    `interval` holds the mean with 95 % confidence (None for a single seed); `seeds` are those that finished;
    `discontinuities` counts jumps of the loss over them.
    """

    run: SeedRun
    seeds: tuple[int, ...]
    ratio_mean: float
    ratio_sd: float
    interval: tuple[float, float] | None
    discontinuities: int

    @property
    def finalist(self) -> Finalist:
        """The configuration."""
        return self.run.finalist


def choose_model(runs: Mapping[str, SeedRun], instrument: str, finalists: Sequence[Finalist]) -> Choice | None:
    """Choose on validation data: the configuration by its mean over seeds (not by its luckiest), then its best seed.

    A seed whose loss jumped is not chosen unless all of them did. None if no run of these finalists finished.
    """
    choices = []
    for finalist in finalists:
        finished = [run for run in runs.values() if run.finalist == finalist and run.weights]
        if not finished:
            continue
        ratios = [run.members[instrument].ratio for run in finished]
        mean, sd = mean_and_sd(ratios)
        smooth = [run for run in finished if not run.members[instrument].discontinuities] or finished
        best = min(smooth, key=lambda run: run.members[instrument].val_loss)
        jumps = sum(run.members[instrument].discontinuities for run in finished)
        seeds = tuple(sorted(run.seed for run in finished))
        choices.append(Choice(best, seeds, mean, sd, mean_interval(ratios), jumps))
    return min(choices, key=_rank, default=None)


def _rank(choice: Choice) -> float:
    """Smaller is better; the mean ratio, and last those that have none."""
    return choice.ratio_mean if math.isfinite(choice.ratio_mean) else math.inf
