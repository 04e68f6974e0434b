"""One dimension of a search space: choices, or a range, with the condition under which it is sampled."""

import math

from pydantic import BaseModel, Field, model_validator

from sepsearch.spaces.checks import same_value
from sepsearch.utils.validation import STRICT

Value = bool | int | float | str


class Parameter(BaseModel):
    """One dimension of the space: `choices`, or a range from `low` to `high`; both sampled only `when` others fit.

    A parameter without its condition keeps the network's default.
    """

    model_config = {**STRICT, "frozen": True}

    choices: tuple[Value, ...] | None = Field(default=None, strict=False)
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    step: int | None = Field(default=None, ge=1)
    when: dict[str, Value] = {}

    @model_validator(mode="after")
    def _check(self) -> "Parameter":
        if (self.choices is None) == (self.low is None and self.high is None):
            raise ValueError("expected either choices, or low and high")
        if self.choices is not None:
            if not self.choices:
                raise ValueError("choices is empty, expected at least one value")
            if len({(isinstance(value, bool), value) for value in self.choices}) < len(self.choices):
                raise ValueError(f"choices {list(self.choices)} holds a value twice")
            if self.log or self.step:
                raise ValueError("log and step belong to a range (low, high), not to choices")
            return self
        if self.low is None or self.high is None:
            raise ValueError("low and high belong together, one of them is missing")
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}: swap them?")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}, expected above 0 on a logarithmic scale")
        if self.step and (self.log or not self.whole):
            raise ValueError("step belongs to whole numbers on a linear scale")
        return self

    @property
    def whole(self) -> bool:
        """Whether the range is one of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def steps(self) -> range | None:
        """The numbers of a range of whole ones, such as 3, 5, 7 from 3 to 8 in steps of 2; None for any other."""
        if not self.whole:
            return None
        return range(int(self.low or 0), int(self.high or 0) + 1, self.step or 1)

    @property
    def ends(self) -> tuple[int | float, int | float]:
        """Smallest and largest value that is drawn from a range."""
        steps = self.steps
        return (steps[0], steps[-1]) if steps else (self.low or 0, self.high or 0)

    def holds(self, value: object) -> bool:
        """Whether this value can be drawn."""
        if self.choices is not None:
            return any(same_value(value, choice) for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        if self.steps is not None:
            return value == int(value) and int(value) in self.steps
        low, high = self.ends
        return low <= value <= high

    def corners(self) -> list[Value]:
        """Values that stand for all: every choice, or both ends and, of whole numbers, the second; all can be drawn."""
        if self.choices is not None:
            return list(self.choices)
        low, high = self.ends
        if self.steps is None:
            return [low, high]
        return list(dict.fromkeys([low, *self.steps[1:2], high]))
