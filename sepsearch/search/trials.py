"""Trials of a search: their state, their ids, the best of them."""

import math
from dataclasses import dataclass

from sepsearch.models.size import canonical_params
from sepsearch.search.protocol import BY_HAND, Params
from sepsearch.spaces.configurations import configuration_key


@dataclass(slots=True)
class Trial:
    """State of a trial. `ratio` is the last epoch's; `state` is empty while it runs.

    `rung` is where it must stop or pause, `spared` where it would have had to; `failure` is why it cannot go on.
    `paused`: it waits at its rung, without a worker. `open`: it goes on in a resumed run, although it has a state.
    `parameters` are its network's, `speed` its examples a second
    (`constraints.fastest`), None where they are not known. `infeasible` is which constraint it violates, "" for none:
    it is never a finalist, except that the reference network always is one, for comparison. `by_hand`: somebody has
    asked for its end.
    """

    id: str
    params: Params
    epochs: int = 0
    ratio: float = math.nan
    state: str = ""
    reason: str = ""
    rung: int | None = None
    spared: int | None = None
    failure: str = ""
    open: bool = False
    by_hand: bool = False
    paused: bool = False
    parameters: int | None = None
    speed: float | None = None
    infeasible: str = ""

    @property
    def rung_reason(self) -> str:
        """Why it is stopped by a rung; "" where it is not."""
        return "" if self.rung is None else f"stopped at rung {self.rung}"

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Smaller is better: trials at the full budget by ratio, before them none but those that came furthest.

        Infeasible ones are last.
        """
        if self.infeasible:
            return True, 1, math.inf
        if self.state == "completed":
            return False, 0, self.ratio
        return True, -self.epochs, self.ratio


def trial_id(number: int) -> str:
    """Id of a search's trial by its number from 0."""
    return f"t{number:04d}"


SMALLER = 0.9  # share of the parameters of a network that counts as a smaller one
FIRST_TRIAL = trial_id(0)  # the reference network's in journals of earlier versions


def reference_trial(trials: int, concurrent: int) -> str:
    """Id of the reference network's trial in a new search: the first that gets no worker at once, or the last."""
    return trial_id(min(concurrent, trials - 1))


def best_trials(trials: list[Trial], count: int) -> list[Trial]:
    """The best `count` trials of different configurations.

    Of those that reached the full budget or, if none did, of those that came furthest: a stopped trial's early ratio
    is never compared with a finished one's (`Trial.rank`). Infeasible ones, and those that were stopped by hand, are
    left out. Of several trials that are trained alike, as journals of earlier versions have them, it is the best.
    """
    return _comparable(trials)[:count]


def _comparable(trials: list[Trial]) -> list[Trial]:
    """Trials whose ratios can be compared, one of each configuration, the best first."""
    feasible = [trial for trial in trials if not trial.infeasible]
    finished = [trial for trial in feasible if trial.state == "completed"]
    if not finished:
        stopped = [trial for trial in feasible if trial.state == "stopped" and trial.reason != BY_HAND]
        furthest = max((trial.epochs for trial in stopped), default=0)
        finished = [trial for trial in stopped if trial.epochs == furthest > 0]
    best: dict[bytes, Trial] = {}
    for trial in sorted(finished, key=lambda trial: trial.ratio):
        best.setdefault(configuration_key(canonical_params(trial.params)), trial)
    return list(best.values())


def small_trials(trials: list[Trial], count: int) -> list[Trial]:
    """`count` trials to choose a small network from: the best ones of the front of ratio and number of parameters.

    The first is the best of all (`best_trials`). Each of the next is the best among those that are smaller than the
    one before by a tenth or more (`SMALLER`). Where that gives too few, the best of the others follow.
    """
    ordered = _comparable(trials)
    front: list[Trial] = []
    for trial in ordered:
        if not front or _is_smaller(trial, front[-1]):
            front.append(trial)
    others = [trial for trial in ordered if trial not in front]
    return [*front, *others][:count]


def _is_smaller(trial: Trial, other: Trial) -> bool:
    if trial.parameters is None or other.parameters is None:
        return False
    return trial.parameters <= SMALLER * other.parameters
