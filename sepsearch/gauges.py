"""Gauges of a running search for the Ray dashboard and Prometheus: ratio by trial and instrument, best so far."""

import math
from typing import Any

EXPORT_SECONDS = 5.0


class Gauges:
    """A journal listener that sets Ray metrics from the driver; they appear as `ray_sepsearch_…`.

    Ray forgets a gauge that is not set again for a while, so `refresh` repeats those of running trials.
    """

    def __init__(self, epochs: int) -> None:
        from ray.util.metrics import Gauge

        self._epochs = epochs
        self._ratio = Gauge("sepsearch_ratio", "Validation loss / identity loss.", tag_keys=("trial", "instrument"))
        self._epoch = Gauge("sepsearch_epoch", "Epochs done.", tag_keys=("trial",))
        self._best = Gauge("sepsearch_best_ratio", "Best mean ratio among trials that reached the full budget.")
        self._values: dict[str, tuple[int, float, dict[str, float]]] = {}
        self._best_ratio = math.inf
        self._refreshed = 0.0

    def handle(self, event: dict[str, Any]) -> None:
        """Take in a journal event."""
        if event["event"] in ("epoch", "final_epoch", "fold_epoch"):
            ratios = {member["instrument"]: member["ratio"] for member in event["members"]}
            self._values[event["id"]] = (event["epoch"], event["ratio"], ratios)
            if event["event"] == "epoch" and event["epoch"] >= self._epochs:
                self._best_ratio = min(self._best_ratio, event["ratio"])
            self._set(event["id"])
        elif event["event"] in ("trial_end", "final_end", "fold_end"):
            self._values.pop(event["id"], None)

    def _set(self, unit: str) -> None:
        epoch, ratio, ratios = self._values[unit]
        self._epoch.set(epoch, {"trial": unit})
        for code, value in {"all": ratio, **ratios}.items():
            if value is not None and math.isfinite(value):
                self._ratio.set(value, {"trial": unit, "instrument": code})
        if math.isfinite(self._best_ratio):
            self._best.set(self._best_ratio)

    def refresh(self, now: float) -> None:
        """Set the gauges of running trials again, at most every EXPORT_SECONDS; `now` in seconds."""
        if now - self._refreshed >= EXPORT_SECONDS:
            self._refreshed = now
            for unit in self._values:
                self._set(unit)
