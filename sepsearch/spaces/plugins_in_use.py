"""Plug-ins that a search uses: the families and the sampler of its space file, and the layout of its recordings."""

from sepsearch.models.families import registered_families
from sepsearch.spaces.space import Space
from sepsearch.utils.plugins import FAMILIES, LAYOUTS, SAMPLERS, used_versions


def plugin_versions(space: Space, layout: str = "", workers_only: bool = False) -> dict[str, str]:
    """Versions of all plug-ins in use, by distribution; empty where all that is used is sepsearch's own.

    Args:
        space: the search space.
        layout: of the recordings; "" for one of sepsearch's own.
        workers_only: only of what workers load from an installed distribution, which nodes must have alike.
    """
    families = [(FAMILIES, name) for name in space.families]
    if workers_only:
        return used_versions(families, registered=False)
    others = [(SAMPLERS, space.search.sampler), *([(LAYOUTS, layout)] if layout else [])]
    return used_versions([*families, *others])


def plugin_notes(space: Space) -> tuple[str, ...]:
    """What the user should know of the plug-ins in use: where their models can be loaded."""
    return tuple(
        f"family {family.name} is registered in this process alone: its models can be loaded only where it is"
        " registered, ONNX exports anywhere; install it as a plug-in (docs/plug-ins.md) to load them everywhere"
        for family in registered_families(space.families)
    )
