"""Checks before a search: folders, cluster, memory and time of corner configurations, trials per GPU.

Front door: `checks.preflight`.
"""
