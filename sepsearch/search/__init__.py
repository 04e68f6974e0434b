"""What is tried next and what is stopped: sampler, early stopping, journal, finalists.

Front door: `scheduler.SearchPlan`; `sampling` asks Optuna, `stopping` has ASHA and others, `journal` keeps every event.
"""
