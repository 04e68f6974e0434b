"""Constraints of a search: how many parameters a network may have, and how many examples a second it must train on."""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from sepsearch.utils.validation import STRICT

JUDGED_EPOCHS = 3  # the speed of a trial is that of the fastest of its first epochs: one slow epoch decides nothing


class Constraints(BaseModel):
    """Limits of a configuration; None for no limit.

    `parameters`: at most so many trainable parameters has the network of one instrument, as its final model has them
    (of `heads: all`, the network with one output). `examples_per_second`: at least so many examples a second a trial
    trains on, in the fastest of its first `JUDGED_EPOCHS` epochs, on the worker that it was given.
    """

    model_config = {**STRICT, "frozen": True}

    parameters: float | None = Field(default=None, ge=1)
    examples_per_second: float | None = Field(default=None, gt=0)

    def violation(self, parameters: int | None, speed: float | None) -> str:
        """As `violation`."""
        return violation(self.model_dump(), parameters, speed)

    def values(self, parameters: int | None, speed: float | None, infeasible: bool) -> dict[str, float]:
        """Values of Optuna's constraints, above 0 for a violated one: logarithms of what was found over the limit.

        Every limit has a value, as Optuna's Gaussian process requires; 0 for what is not known. Of a trial that is not
        `infeasible`, such as one that ended before its speed was judged, none is above 0.
        """
        found: dict[str, float] = {}
        if self.parameters is not None:
            found["parameters"] = math.log(parameters / self.parameters) if parameters and parameters > 0 else 0.0
        if self.examples_per_second is not None:
            found["examples_per_second"] = math.log(self.examples_per_second / speed) if speed and speed > 0 else 0.0
        return found if infeasible else {name: min(value, 0.0) for name, value in found.items()}


def violation(limits: Mapping[str, Any], parameters: int | None, speed: float | None) -> str:
    """Which limit is violated, in words such as "54,658 parameters, at most 20,000 asked"; "" for none.

    Args:
        limits: `constraints` of a space file.
        parameters: of the network; None if not known, which violates nothing.
        speed: examples a second; None likewise.
    """
    most, least = limits.get("parameters"), limits.get("examples_per_second")
    if most is not None and parameters is not None and parameters > most:
        return f"{parameters:,} parameters, at most {most:,.0f} asked"
    if least is not None and speed is not None and speed < least:
        return f"{rate(speed)} examples/s, at least {rate(least)} asked"
    return ""


def rate(speed: float) -> str:
    """Examples a second for people: "31", "0.42"."""
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"


def fastest(known: float | None, speed: float | None, epoch: int) -> float | None:
    """Speed of a trial after one more epoch: the fastest of its first `JUDGED_EPOCHS`.

    Args:
        known: after the epoch before; None before the first.
        speed: of this epoch, in examples a second; None where it was not recorded.
        epoch: its number, from 1.
    """
    if speed is None or epoch > JUDGED_EPOCHS or not math.isfinite(speed):
        return known
    return speed if known is None else max(known, speed)
