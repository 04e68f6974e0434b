"""Replay of recorded searches in virtual time, with other samplers and rungs.

Front door: `simulator.simulate` (one search), `replay.replay` (all strategies and seeds).
"""
