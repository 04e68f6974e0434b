"""From a folder of recordings to training examples: layouts, shards, splits, pairs, baselines.

Front door: `shards.prepare_shards` and `preparation.prepare`; `prepared` gathers split, examples and baselines.
"""
