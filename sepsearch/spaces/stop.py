"""The section `stop` of a space file: when a search ends before its last trial."""

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, model_validator

from sepsearch.utils.errors import UserError
from sepsearch.utils.validation import STRICT

if TYPE_CHECKING:
    from sepsearch.spaces.space import Space

MIN_IMPROVEMENT = 0.005


class StopSettings(BaseModel):
    """Rules by which a search ends early; the first one that holds ends it.

    `patience`: the last so many trials have improved the best ratio by less than `min_improvement`, a fraction of it.
    `regret`: no configuration of the space is better than the best one by more than this ratio (absolute), by a
    Gaussian process (see `search.search_end.RegretRule`).
    """

    model_config = {**STRICT, "frozen": True}

    patience: int | None = Field(default=None, ge=1, le=1_000_000)
    min_improvement: float = Field(default=MIN_IMPROVEMENT, ge=0, lt=1)
    regret: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> "StopSettings":
        if self.patience is None and self.regret is None:
            raise ValueError("expected patience, regret or both, such as {patience: 20, min_improvement: 0.005}")
        if self.patience is None and "min_improvement" in self.model_fields_set:
            raise ValueError("min_improvement belongs to patience, which is missing")
        return self


def check_stop(space: "Space") -> None:
    """Raise `UserError` for a rule that cannot be applied to this space."""
    if space.stop is None or space.stop.regret is None:
        return
    if not space.parameters:
        raise UserError("stop: regret: the space has no parameters, so that nothing can be estimated: leave it out")
    conditional = [name for name, parameter in space.parameters.items() if parameter.when]
    if conditional:
        raise UserError(
            f"stop: regret: {', '.join(conditional)} has a condition (when), and the Gaussian process behind it takes"
            " parameters that every trial has: use stop: {patience: 20}"
        )
