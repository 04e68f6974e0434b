"""What two runs have in common: whether their ratios can be compared, and what differs in spaces and settings."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sepsearch.runs.state import RunState

SAME_LOSS = 1e-4  # relative difference of identity losses of the same examples on different machines
DEFAULT_FRONT_END = {"preset": "mel"}
NOT_COMPARED = ("name", "sampler", "reduction_factor")  # settings: the run's name, and what the space has as well
LONGEST = 300  # characters of a value


def data_problems(first: RunState, second: RunState) -> list[str]:
    """Why ratios of two runs are not of the same data, a phrase for each reason; empty where they are.

    Ratios compare only for the same recordings, front end and split: each changes the losses, and the identity's with
    them.
    """
    one, two = first.search, second.search
    problems = []
    front_ends = [_front_end(run) for run in (first, second)]
    if front_ends[0] != front_ends[1]:
        problems.append(f"front end: {_text(front_ends[0])} against {_text(front_ends[1])}")
    data = [run["dataset"] for run in (one, two)]
    prints = [str(of.get("fingerprint", ""))[:12] for of in data]
    amounts = [tuple(of.get(key) for key in ("pieces", "clips")) for of in data]
    # The fingerprint is of recordings and front end together.
    if prints[0] != prints[1] and (not problems or amounts[0] != amounts[1]):
        said = [f"{pieces} pieces, fingerprint {code}" for (pieces, _), code in zip(amounts, prints, strict=True)]
        problems.append(f"recordings: {said[0]} against {said[1]}")
    for part, name in (("train", "training"), ("validation", "validation"), ("test", "test")):
        titles = [set(of.get("split", {}).get(part) or ()) for of in data]
        if titles[0] != titles[1]:
            only = {"only the first has": titles[0] - titles[1], "only this one has": titles[1] - titles[0]}
            said = [f"{which} {_some(sorted(some))}" for which, some in only.items() if some]
            problems.append(f"{name} titles: {', '.join(said)}")
    return problems


def instrument_problem(first: RunState, second: RunState, code: str) -> str:
    """Why the ratios of one instrument are not of the same validation examples; "" where they are."""
    found = [run.search["baselines"].get("validation", {}).get("identity", {}).get(code) for run in (first, second)]
    if found[0] is None or found[1] is None:
        return "" if found[0] == found[1] else "identity loss: known of one run only"
    if not math.isclose(*found, rel_tol=SAME_LOSS):
        return f"validation examples: identity loss {found[0]:.5g} against {found[1]:.5g}"
    return ""


def differing_values(runs: Sequence[RunState]) -> list[tuple[str, list[str]]]:
    """Keys of space files, settings, data and versions that are not the same in all runs, with every run's value.

    Returns:
        (key, a text for each run), such as ("parameters.filters", ["8, 16", "16"]); "" where a run lacks the key.
    """
    tables = [_values(run) for run in runs]
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = [(key, [table.get(key, "") for table in tables]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _values(run: RunState) -> dict[str, str]:
    """All that a run depends on, by dotted keys."""
    search: Mapping[str, Any] = run.search
    space, settings = dict(search["space"]), dict(search["settings"])
    parameters = {**(space.pop("fixed", None) or {}), **(space.pop("parameters", None) or {})}
    options = settings.pop("options", None) or {}
    data = {key: value for key, value in search["dataset"].items() if key != "licence"}
    found = {f"parameters.{name}": parameter_text(value) for name, value in parameters.items()}
    found |= _flat(space, "")
    found |= _flat({key: value for key, value in settings.items() if key not in NOT_COMPARED}, "settings.")
    found |= _flat(options, "options.")
    return found | _flat(data, "data.") | _flat(search["versions"], "versions.")


def parameter_text(value: Any) -> str:
    """A parameter of a space for people: "8, 16", "0.0002 to 0.01, logarithmic", "3 to 9 in steps of 2", "silu"."""
    if not isinstance(value, Mapping):
        return _text(value)
    if value.get("choices") is not None:
        text = _text(value["choices"])
    else:
        text = f"{_text(value.get('low'))} to {_text(value.get('high'))}"
        text += ", logarithmic" if value.get("log") else ""
        text += f" in steps of {value['step']}" if value.get("step") else ""
    conditions = [f"{name} is {_text(wanted)}" for name, wanted in (value.get("when") or {}).items()]
    return f"{text}, when {' and '.join(conditions)}" if conditions else text


def _flat(table: Mapping[str, Any], prefix: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            found[f"{prefix}{key}"] = _text(value)
    return found


def _front_end(run: RunState) -> dict[str, Any]:
    given = run.search["space"].get("front_end") or {}
    return {key: value for key, value in {**DEFAULT_FRONT_END, **given}.items() if value is not None}


def _some(titles: Sequence[str]) -> str:
    """The first of some titles."""
    more = f" and {len(titles) - 3} more" if len(titles) > 3 else ""
    return ", ".join(titles[:3]) + more


def _text(value: Any) -> str:
    if isinstance(value, float):
        text = f"{value:g}"
    elif isinstance(value, str):
        text = value
    elif isinstance(value, Mapping):
        text = ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    elif isinstance(value, list | tuple):
        text = ", ".join(map(_text, value))
    else:
        text = json.dumps(value, default=str)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
