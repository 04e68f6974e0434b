"""The page of a run (report.html) and tables and figures of it.

Front door: `page.write_report`; `run_data` gathers what it shows from the journal.
"""
