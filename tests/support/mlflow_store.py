"""Send events to an MLflow store, and read what it holds."""

import sqlite3

from sepsearch.tracking.tracker import Tracker


def replay(uri, events, **options):
    """Send events through a new tracker; returns whether all arrived, and the warnings."""
    warnings = []
    tracker = Tracker(uri, interval=0.05, on_warning=warnings.append, **options)
    for event in events:
        tracker.handle(event)
    return tracker.close(60), warnings


def rows(uri):
    """Everything that is stored of runs and metrics, to compare."""
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        tables = {name: f"select * from {name}" for name in ("metrics", "params", "runs", "tags", "latest_metrics")}
        return {name: sorted(map(str, database.execute(query))) for name, query in tables.items()}
