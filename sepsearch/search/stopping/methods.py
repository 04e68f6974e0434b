"""Early-stopping methods by name, as `search: stopping` of a space file has them."""

from collections.abc import Callable, Mapping

from sepsearch.search.stopping.asha import Rungs
from sepsearch.search.stopping.curve_model import CurveModelRule
from sepsearch.search.stopping.pasha import PashaRungs
from sepsearch.search.stopping.promotion import PromotionRungs
from sepsearch.search.stopping.rule import StoppingRule
from sepsearch.spaces.space import SearchSettings


def _no_rungs(grace: int, factor: int, epochs: int) -> Rungs:
    """Rungs without a rung below the full budget: no trial is stopped."""
    return Rungs(epochs, factor, epochs)


METHODS: Mapping[str, Callable[[int, int, int], StoppingRule]] = {
    "asha": Rungs,
    "asha_promotion": PromotionRungs,
    "pasha": PashaRungs,
    "curve_model": CurveModelRule,
    "none": _no_rungs,
}


def make_rule(search: SearchSettings, epochs: int) -> StoppingRule:
    """The rule of a search, as it is before the first trial.

    Args:
        search: settings of the space file.
        epochs: the full budget of a trial.
    """
    return METHODS[search.stopping](search.grace_epochs, search.reduction_factor, epochs)
