"""What is tried next and what is stopped: sampler, rungs (ASHA), journal, finalists.

Front door: `scheduler.SearchPlan`; `sampler` asks Optuna, `asha` holds the rungs, `stopping` the other early-stopping
methods, `journal` keeps every event.
"""
