"""Size of networks: their number of trainable parameters, without allocating any; and equality of configurations."""

from collections.abc import Mapping
from typing import Any

from sepsearch.models.families import Config, config_params, count_parameters, make_config, make_network
from sepsearch.utils.errors import UserError

MOST_KEPT = 10_000  # architectures whose number of parameters is kept
_counts: dict[tuple[type, str], int] = {}


def network_parameters(config: Config) -> int:
    """Number of trainable parameters of a configuration's network with one output, as its final model has them.

    The network is built on torch's meta device, which allocates no weights. Architectures are counted once.

    Raises:
        Exception: whatever building the network raises.
    """
    import torch

    key = (type(config.network), repr(config.network))
    if key not in _counts:
        if len(_counts) >= MOST_KEPT:
            _counts.clear()
        with torch.device("meta"):
            _counts[key] = count_parameters(make_network(config))
    return _counts[key]


def known_parameters(params: Mapping[str, Any]) -> int | None:
    """Number of trainable parameters of a configuration given as plain values; None where no network is made of it."""
    try:
        return network_parameters(make_config(params))
    except Exception:  # an older version's configuration, or a family that is not installed
        return None


def canonical_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with every parameter in its present spelling: equal for networks that are trained alike.

    `detector_layers: 1` is `detector_width: 0`, whatever width stands beside it; parameters that are not given have
    their defaults. Values that make no configuration are returned as they are.
    """
    try:
        return config_params(make_config(params))
    except UserError:
        return dict(params)
