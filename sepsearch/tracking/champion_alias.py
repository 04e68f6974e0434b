"""The alias `champion` of a registered model: moved to a better version, or to one that a person picks.

MLflow has no compare-and-set for aliases, so two searches that end together could overwrite each other's choice. Each
tags its version before it moves the alias, and afterwards compares it with versions that others have tagged meanwhile:
the better one ends as champion. A search that was killed in between completes this when it is resumed.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from sepsearch.tracking.champion_rule import Verdict

CHAMPION = "champion"
# A registered model's tag: the version that a search made champion, or NO_VERSION. A person has picked any
# other champion, here or on MLflow's pages.
BY_SEARCH, NO_VERSION = "champion_by_search", "none"
CONTENDER = "champion_contender"  # a version's tag: made champion by a search in place of this version, or NO_VERSION
SETTLED = "settled"  # its value afterwards: MLflow's permission EDIT may set tags, but not delete them
SETTLING = 0.5  # seconds in which another search moves alias and tag
ROUNDS = 5  # of comparing, while others move the alias


@dataclass(frozen=True)
class Outcome:
    """Champion before and after `version` of the registered model `name` was registered.

    `before` and `now` are the champion's version before and after, None for none; `why` is the reason, with figures.
    """

    name: str
    version: str
    before: str | None
    now: str | None
    why: str

    @property
    def address(self) -> str:
        """Address of the version in MLflow."""
        return f"models:/{self.name}/{self.version}"

    def facts(self) -> dict[str, Any]:
        """Plain values for the journal."""
        return asdict(self)


def settle_champion(
    client: Any, name: str, version: str, baselines: Verdict, compare: Callable[[str], Verdict]
) -> Outcome:
    """Make a search's version champion if it beats the baselines and the present champion, unless a person picked that.

    Args:
        client: of MLflow.
        name: of the registered model.
        version: the search's.
        baselines: whether it beats identity and constant gain.
        compare: whether it is better than another version, given by its number.
    """
    before: str | None = None
    for _ in range(ROUNDS):
        before, by_search = _read(client, name)
        if before is not None and by_search is not None and before not in by_search.split():
            return Outcome(name, version, before, before, f"a person picked version {before}")
        if before == version:
            replaced = client.get_model_version(name, version).tags.get(CONTENDER, NO_VERSION)
            before = None if replaced in (NO_VERSION, SETTLED) else replaced
            return _settle_rivals(client, Outcome(name, version, before, version, baselines.why), set(), compare)
        verdict = compare(before) if baselines.better and before is not None else baselines
        if not verdict.better:
            _unmark(client, name, [version])
            return Outcome(name, version, before, before, verdict.why)
        client.set_model_version_tag(name, version, CONTENDER, before or NO_VERSION)
        if _read(client, name)[0] == before:
            _move(client, name, before, version)
            # Without an alias, a person has taken it from the version in the tag, which is no rival then.
            known = set() if before else set((by_search or "").split())
            return _settle_rivals(client, Outcome(name, version, before, version, verdict.why), known, compare)
    _unmark(client, name, [version])
    return Outcome(name, version, before, before, "other searches moved the alias meanwhile")


def _settle_rivals(client: Any, outcome: Outcome, known: set[str], compare: Callable[[str], Verdict]) -> Outcome:
    """Compare a new champion with the versions that other searches made champion since it was compared before."""
    name, version, before = outcome.name, outcome.version, outcome.before
    passed = {version, before, *known}
    found = client.search_model_versions(f"name = '{name}'")
    marked = sorted((str(v.version) for v in found if _contends(v)), key=int)
    rivals = [rival for rival in marked if rival not in passed and int(rival) > int(before or 0)]
    winner, why, lost = version, outcome.why, set()
    for rival in rivals:
        verdict = compare(rival)
        if verdict.better:
            lost.add(rival)
        elif verdict.better is False:
            winner, why = rival, f"{verdict.why}; that of a search that ended meanwhile"
            lost.add(version)
            break
    current, by_search = _champion(client, name)
    if by_search != NO_VERSION and current is not None:
        if current in lost:
            _move(client, name, current, winner)
            current = winner
        elif current in (winner, *rivals) and by_search != current:
            client.set_registered_model_tag(name, BY_SEARCH, current)
    # Only the champion, and a version about to become it, stay marked as rivals of later searches.
    _unmark(client, name, [v for v in marked if v in lost or v == before])
    return Outcome(name, version, before, current, why)


def _champion(client: Any, name: str) -> tuple[str | None, str | None]:
    """The champion's version, and the version that a search made champion."""
    registered = client.get_registered_model(name)
    champion = registered.aliases.get(CHAMPION)
    return None if champion is None else str(champion), registered.tags.get(BY_SEARCH)


def _read(client: Any, name: str) -> tuple[str | None, str | None]:
    """As `_champion`, read again after a pause where another search may be moving the alias."""
    champion, by_search = _champion(client, name)
    if by_search is not None and by_search != NO_VERSION and champion not in by_search.split():
        time.sleep(SETTLING)
        champion, by_search = _champion(client, name)
    return champion, by_search


def _move(client: Any, name: str, champion: str | None, version: str) -> None:
    """Move the alias; the tag names both versions meanwhile, so a crash between the calls is recoverable."""
    client.set_registered_model_tag(name, BY_SEARCH, f"{champion or ''} {version}".strip())
    client.set_registered_model_alias(name, CHAMPION, version)
    client.set_registered_model_tag(name, BY_SEARCH, version)


def _unmark(client: Any, name: str, versions: list[str]) -> None:
    for version in versions:
        if _contends(client.get_model_version(name, version)):
            client.set_model_version_tag(name, version, CONTENDER, SETTLED)


def _contends(version: Any) -> bool:
    """Whether a search is about to make a version champion, or did."""
    return version.tags.get(CONTENDER, SETTLED) != SETTLED


def pick_champion(client: Any, name: str, version: str) -> None:
    """Make a version champion that a person has picked: no search moves the alias away from it."""
    client.set_registered_model_tag(name, BY_SEARCH, NO_VERSION)
    client.set_registered_model_alias(name, CHAMPION, version)
