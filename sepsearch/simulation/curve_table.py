"""Recorded learning curves, which a simulated search trains in place of networks."""

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from sepsearch.runs.state import RunState
from sepsearch.search.events import Params
from sepsearch.spaces.configurations import holds, sampled_names
from sepsearch.spaces.parameter import Parameter
from sepsearch.spaces.space import Space
from sepsearch.utils.errors import UserError

# A failure that is the configuration's own, and so comes again; a dead worker is not.
OWN_FAILURES = ("dead:", "NaN:", "exception:")


@dataclass(frozen=True)
class Curve:
    """A recorded trial: its value after every epoch from the first on, mean seconds an epoch, why it failed, if so."""

    params: Params
    ratios: tuple[float, ...]
    seconds: float = 1.0
    failed: str = ""

    def known(self, epochs: int) -> bool:
        """Whether all is known that a search with this full budget can ask for."""
        return len(self.ratios) >= epochs or bool(self.failed)


def recorded_curves(run: RunState) -> list[Curve]:
    """The curves of all trials that have at least one epoch, or failed by themselves; `run` with its history."""
    curves = []
    for job in run.jobs_of("search").values():
        known = {one.epoch: one.ratio for one in job.history if one.ratio is not None}
        length = next(epoch for epoch in range(1, len(known) + 2) if epoch not in known) - 1
        ratios = tuple(known[epoch] for epoch in range(1, length + 1))
        failed = job.reason if job.state == "failed" and job.reason.startswith(OWN_FAILURES) else ""
        if ratios or failed:
            seconds = fmean(one.seconds for one in job.history if one.ratio is not None) if known else 0.0
            curves.append(Curve(dict(job.params), ratios, seconds, failed))
    return curves


def read_table(path: Path) -> tuple[dict[str, Any], list[Curve]]:
    """A table file of curves: its description ("space" and how it was recorded), and the curves.

    Raises:
        UserError: the file cannot be read or is no table of curves.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        curves = [
            Curve(row["params"], tuple(map(float, row["ratios"])), float(row["seconds"]), row.get("failed", ""))
            for row in table.pop("curves")
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no table of curves ({type(error).__name__}: {error}): record it anew") from error
    return table, curves


class Pool:
    """Curves of one space that a search with a given full budget can be simulated on.

    Args:
        space: what the simulated sampler proposes from.
        curves: all that were recorded; of two of the same configuration the better known stays.
        epochs: the full budget.
        partial: take curves that end early, too, up to where they are known.
    """

    def __init__(self, space: Space, curves: Sequence[Curve], epochs: int, partial: bool = False):
        self.space, self.epochs = space, epochs
        usable: dict[str, Curve] = {}
        for curve in (_in_space(space, curve) for curve in curves):
            key = _key(curve.params)
            if key not in usable or len(curve.ratios) > len(usable[key].ratios):
                usable[key] = curve
        self.distinct = len(usable)
        self.curves = [curve for curve in usable.values() if curve.known(epochs) or partial]
        self._by_key = {_key(curve.params): curve for curve in self.curves}
        self._places = _places(space, [curve.params for curve in self.curves])

    def __len__(self) -> int:
        return len(self.curves)

    @property
    def full(self) -> int:
        """How many curves reach the full budget."""
        return sum(len(curve.ratios) >= self.epochs for curve in self.curves)

    @property
    def best(self) -> float:
        """The best value at the full budget; NaN if no curve reaches it."""
        return min(
            (curve.ratios[self.epochs - 1] for curve in self.curves if len(curve.ratios) >= self.epochs),
            default=math.nan,
        )

    def end(self, params: Params) -> float | None:
        """The value of a configuration at the full budget, where that is known."""
        ratios = self._by_key[_key(params)].ratios
        return ratios[self.epochs - 1] if len(ratios) >= self.epochs else None

    def train(self, params: Params) -> Iterator[Params]:
        """What a worker would report of a configuration, epoch by epoch; it ends where the record does."""
        curve = self._by_key[_key(params)]
        numbers = {"seconds": curve.seconds, "examples_per_second": 0.0, "members": []}
        for epoch, ratio in enumerate(curve.ratios[: self.epochs], 1):
            yield {"epoch": epoch, "ratio": ratio, **numbers}
        if len(curve.ratios) < self.epochs and curve.failed:
            yield {"failed": curve.failed, "seconds": curve.seconds}

    def nearest(self, params: Params, used: set[int]) -> int:
        """Number of the curve nearest to a configuration among those not yet used; of equals, the first."""
        distances = _distances(_places(self.space, [params]), self._places)
        distances[list(used)] = np.inf
        return int(distances.argmin())


class Draw:
    """A pool as one simulated search sees it: every curve can be had once.

    Args:
        pool: of all curves.
        without: configurations of curves that cannot be had.
    """

    def __init__(self, pool: Pool, without: Sequence[Params] = ()):
        self.pool = pool
        keys = {_key(params) for params in without}
        self._used = {number for number, curve in enumerate(pool.curves) if _key(curve.params) in keys}

    def pick(self, params: Params) -> Params:
        """The recorded configuration that is trained in place of a proposed one; there must be one left."""
        assert len(self._used) < len(self.pool)
        number = self.pool.nearest(params, self._used)
        self._used.add(number)
        return self.pool.curves[number].params

    def train(self, params: Params) -> Iterator[Params]:
        """See `Pool.train`."""
        return self.pool.train(params)

    def end(self, params: Params) -> float | None:
        """See `Pool.end`."""
        return self.pool.end(params)


def _in_space(space: Space, curve: Curve) -> Curve:
    """A curve whose configuration is spelt as the space's own, where it was recorded by an earlier version.

    Without the parameters that were added since, the space would not hold it, and no sampler would learn from it.
    """
    names = [name for name in sampled_names(space, curve.params) if name in curve.params]
    params = space.complete({name: curve.params[name] for name in names})
    idle = space.parameters.keys() - set(names)  # their conditions do not hold: any value means the same
    same = all(name in idle or params.get(name) == value for name, value in curve.params.items())
    return dataclasses.replace(curve, params=params) if same and holds(space, params) else curve


def _key(params: Params) -> str:
    return json.dumps(params, sort_keys=True)


def _places(space: Space, configurations: Sequence[Params]) -> np.ndarray:
    """Configurations as (configuration, parameter): ranges on 0 to 1, choices as numbers, NaN where not sampled."""
    columns = []
    sampled = [sampled_names(space, params) for params in configurations]
    for name, parameter in space.parameters.items():
        columns.append(
            [
                _place(parameter, params[name]) if name in names else math.nan
                for params, names in zip(configurations, sampled, strict=True)
            ]
        )
    return np.array(columns, dtype=float).reshape(len(space.parameters), len(configurations)).T


def _place(parameter: Parameter, value: Any) -> float:
    if parameter.choices is not None:
        return parameter.choices.index(value) if value in parameter.choices else -1
    low, high = float(parameter.low or 0), float(parameter.high or 0)
    if parameter.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _distances(place: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Sum over the parameters of how far apart two values are, at most 1 each; shape (configuration,).

    The general coefficient of Gower 1971 without its mean. Where a conditional parameter is sampled in one of the two
    alone it does not count: the parameter of its condition differs already.
    """
    apart: np.ndarray = np.minimum(np.abs(places - place), 1.0)
    return np.nansum(apart, axis=1)
