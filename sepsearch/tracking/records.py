"""What is to be written of one MLflow run, as plain values: without MLflow, and within its limits."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PARENT = ""  # the id of the search's own run, beside those of its children
# MLflow's limits, in characters.
LONGEST_PARAM, LONGEST_TAG = 6000, 8000


@dataclass
class Work:
    """What is still to be written of one MLflow run. Times are in ms; a metric is (key, value, time, step).

    `name` is shown for a run that is made; its id, where it is "".
    """

    id: str
    start: int
    name: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[tuple[str, float, int, int]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    status: tuple[str, int] | None = None

    def metric(self, key: str, value: object, time: int, step: int = 0) -> None:
        """Add a metric, unless it is no finite number (MLflow would turn infinity into 1.8e308)."""
        if isinstance(value, int | float) and math.isfinite(value):
            self.metrics.append((key, float(value), time, step))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values as MLflow parameters: {"a": {"b": 1}} → {"a/b": "1"}."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}/")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
            found[f"{prefix}{key}"] = text[:LONGEST_PARAM]
    return found


def yaml_bytes(value: object) -> bytes:
    """Plain values as a YAML file."""
    from sepsearch.utils.yaml import dump_yaml

    return dump_yaml(json.loads(json.dumps(value, default=str))).encode()
