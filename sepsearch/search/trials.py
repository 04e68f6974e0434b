"""Trials of a search: their state, their ids, the best of them."""

import math
from dataclasses import dataclass

from sepsearch.search.protocol import Params
from sepsearch.spaces.configurations import configuration_key


@dataclass(slots=True)
class Trial:
    """State of a trial. `ratio` is the last epoch's; `state` is empty while it runs.

    `rung` is where it must stop or pause, `spared` where it would have had to; `failure` is why it cannot go on.
    `paused`: it waits at its rung, without a worker. `open`: it goes on in a resumed run, although it has a state.
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
    paused: bool = False

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Smaller is better: trials at the full budget by ratio, before them none but those that came furthest."""
        if self.state == "completed":
            return False, 0, self.ratio
        return True, -self.epochs, self.ratio


def trial_id(number: int) -> str:
    """Id of a search's trial by its number from 0."""
    return f"t{number:04d}"


FIRST_TRIAL = trial_id(0)  # the reference network's in journals of earlier versions


def reference_trial(trials: int, concurrent: int) -> str:
    """Id of the reference network's trial in a new search: the first that gets no worker at once, or the last."""
    return trial_id(min(concurrent, trials - 1))


def best_trials(trials: list[Trial], count: int) -> list[Trial]:
    """The best `count` trials of different configurations.

    Of those that reached the full budget or, if none did, of those that came furthest: a stopped trial's early ratio
    is never compared with a finished one's (`Trial.rank`). Of several trials of one configuration, as journals of
    earlier versions have them, it is the best.
    """
    finished = [trial for trial in trials if trial.state == "completed"]
    if not finished:
        furthest = max((trial.epochs for trial in trials if trial.state == "stopped"), default=0)
        finished = [trial for trial in trials if trial.state == "stopped" and trial.epochs == furthest > 0]
    best: dict[bytes, Trial] = {}
    for trial in sorted(finished, key=lambda trial: trial.ratio):
        best.setdefault(configuration_key(trial.params), trial)
    return list(best.values())[:count]
