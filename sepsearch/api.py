"""All names of `import sepsearch`, for Python programs and notebooks.

    import sepsearch as ss

    run = ss.search("laptop", instruments=["violin", "cello"], name="duets")
    run.trials.sort_values("ratio")
    violin = run.best("violin").separate(waveform, rate)

`sepsearch` itself has the same names, and imports nothing before one of them is used.
"""

from sepsearch.pipeline.model_handle import Model
from sepsearch.pipeline.python_search import extend, load_model, open_run, resume, search
from sepsearch.pipeline.run_handle import Run
from sepsearch.runs.verdict import Verdict
from sepsearch.search.events import Event
from sepsearch.utils.errors import UserError

__all__ = ["Event", "Model", "Run", "UserError", "Verdict", "extend", "load_model", "open_run", "resume", "search"]
