"""All of MLflow: runs and metrics from the journal, registered models, champions.

Front door: `tracker.Tracker` (journal listener); `registry` registers models, `resolve` finds the model that a user
names.
"""
