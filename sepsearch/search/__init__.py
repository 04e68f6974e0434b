"""What is tried next and what is stopped: space file, sampler, rungs (ASHA), journal, finalists.

Front door: `scheduler.SearchPlan`; `space` parses the space file, `sampler` asks Optuna, `asha` holds the rungs.
"""
