"""Progress of a run for people and dashboards: terminal, log lines, Prometheus gauges.

Front door: `terminal` (the view of `sepsearch.watch`); `console` prints a line per trial, `prometheus` sets gauges.
"""
