"""Contract tests for families, samplers and layouts from outside the package: what sepsearch relies on, checked.

Front door: `sepsearch.testing`, which has them all.
"""
