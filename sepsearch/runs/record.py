"""Settings of a run, and the first event of its journal: all that the search depends on."""

import dataclasses
import hashlib
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sepsearch.search.events import EXTENDED, FORMAT, SearchEvent
from sepsearch.search.journal import Journal
from sepsearch.spaces.plugins_in_use import plugin_versions
from sepsearch.spaces.space import Space
from sepsearch.utils.versions import versions

if TYPE_CHECKING:
    from sepsearch.data.prepared import PreparedData


@dataclass(frozen=True)
class Settings:
    """Settings of a run beside its space file. `options` change how it is carried out, not its results."""

    name: str
    seed: int
    trials: int
    epochs: int
    final_epochs: int
    instruments: tuple[str, ...]
    options: Mapping[str, Any]


def search_facts(settings: Settings, space: Space, prepared: "PreparedData") -> dict[str, Any]:
    """All that a search depends on, as the journal's first event keeps it."""
    return {
        "space": space.model_dump(mode="json", exclude_none=True),
        "settings": {
            **dataclasses.asdict(settings),
            **space.search.model_dump(include={"sampler", "reduction_factor"}),
        },
        "versions": {**versions(), **plugin_versions(space, prepared.recordings.layout)},
        "dataset": prepared.dataset(),
        "baselines": prepared.baselines,
        "caveats": prepared.caveats,
    }


def journal_begin(
    journal: Journal, settings: Settings, space: Space, prepared: "PreparedData", own: Mapping[str, Any]
) -> None:
    """The first event: all that the search depends on, and a name that no other run has.

    Args:
        journal: new.
        settings, space, prepared: of the run.
        own: the other fields of a `SearchEvent`: the reference's trial, seconds of preparation, known trials.
    """
    identity = f"{settings.name}/{prepared.shards.fingerprint}/{time.time_ns()}/{platform.node()}"
    run = hashlib.sha256(identity.encode()).hexdigest()[:16]
    facts = search_facts(settings, space, prepared)
    version = EXTENDED if own.get("known") else FORMAT
    begin = {"event": "search", "format": version, "name": settings.name, "run": run}
    journal.append(cast(SearchEvent, {**begin, **facts, **own}))
