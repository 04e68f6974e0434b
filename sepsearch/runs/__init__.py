"""A run as a folder and as a state: options, start and resume, journal-derived state, results.json.

Front door: `state` (incremental state from events); `start` opens or resumes a run, `results` builds results.json.
"""
