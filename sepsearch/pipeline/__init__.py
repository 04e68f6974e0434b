"""A search from its options to its results, and the other work that a command starts.

Front door: `driver.run_search` (whole run); then `execution` (once the data is ready) and `stages` (trials, finalists,
left-out titles); `registration` (the registry, the report); `separate` and `export_model` for trained models.
"""
