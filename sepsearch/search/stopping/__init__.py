"""Early stopping: the rule that decides after each epoch whether a trial goes on, is paused, or stops.

Front door: `methods.make_rule` (by the space file's `search: stopping`); `rule.StoppingRule` is what a rule must do.
"""
