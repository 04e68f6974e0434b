"""Forecast of the epochs that a search takes under its early-stopping rule."""

import itertools
import random
from collections.abc import Iterator

from sepsearch.search.stopping.asha import Rungs
from sepsearch.search.stopping.methods import make_rule
from sepsearch.search.stopping.rule import PausingRule, StoppingRule
from sepsearch.spaces.space import Space

SIMULATED = 20  # searches, to see how many epochs their rungs leave over
MANY = 200  # trials of one, at most


def expected_epochs(trials: int, epochs: int, space: Space) -> list[float]:
    """Epochs that the first 1, 2, … trials run altogether under the search's rungs, (trial,).

    The mean over SIMULATED searches of the real rungs, in which a trial's value is random and its rank the same at
    every rung. Beyond MANY trials it goes on as it came there. A learning-curve model is taken to stop as many trials
    as ASHA: it depends on curves, which are not known before the search.
    """
    search, simulated = space.search, min(trials, MANY)
    total = [0.0] * simulated
    for seed in range(SIMULATED):
        rng = random.Random(seed)
        modelled = search.stopping == "curve_model"
        asha = Rungs(search.grace_epochs, search.reduction_factor, epochs)
        rule: StoppingRule = asha if modelled else make_rule(search, epochs)
        values: list[float] = []
        for number in range(simulated):
            values.append(rng.random())
            for begin, end in _runs(rule, number, values, epochs):
                late = (epochs - end) * search.spared_share if not isinstance(rule, PausingRule) else 0.0
                total[number] += end - begin + late
    late = sum(total[simulated // 2 :]) / len(total[simulated // 2 :])
    total += [late] * (trials - simulated)
    return [epochs / SIMULATED for epochs in itertools.accumulate(total)]


def _runs(rule: StoppingRule, number: int, values: list[float], epochs: int) -> Iterator[tuple[int, int]]:
    """What is trained after the `number`-th trial has begun and before the next: (from epoch, to epoch)."""
    job: tuple[int, int] | None = (number, 0)
    while job is not None:
        trial, begin = job
        levels = [rung for rung in rule.values if rung > begin]
        end = next((rung for rung in levels if rule.report(str(trial), rung, values[trial])), epochs)
        yield begin, end
        job = None
        if isinstance(rule, PausingRule):
            if end < epochs:
                rule.paused(str(trial), end)
            if found := rule.promotable():
                rule.promoted(*found)
                job = int(found[0]), found[1]
